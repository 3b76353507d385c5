"""The demo's child processes: started with a log, watched, and always ended.

Each child runs in a session of its own, so that a Ctrl-C at the terminal reaches
only the demo, which then ends its children in order. Should the demo itself be
killed, the kernel kills them (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

END_S = 5.0
"""How long a child may take to end cleanly."""
_TAIL_LINES = 3
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded before any fork


class DemoError(Exception):
    """The demo cannot go on; the text is the one line for the user."""


@dataclass(frozen=True)
class Child:
    """A running command and the file that its output goes to."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def ended(self) -> DemoError:
        """Wait until it ends, which it should not do by itself.

        Returns:
            The error that says so, with the tail of its log.
        """
        code = await self.process.wait()
        how = f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}"
        return DemoError(f"{self.name} {how}; its log ends: {tail(self.log)}")


def command(name: str) -> str:
    """The path of an installed command of this distribution.

    Raises:
        DemoError: it is not installed where this interpreter keeps its commands.
    """
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise DemoError(f"{path} is missing: install pantau[agent,server] (make install)")
    return str(path)


def shown_command(name: str) -> str:
    """How a user in this folder would call an installed command."""
    path = Path(command(name))
    found = shutil.which(name)
    if found and path.samefile(found):
        return name
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def module(name: str) -> list[str]:
    """The arguments that run one of our modules."""
    return [sys.executable, "-m", name]


def tail(log: Path) -> str:
    """The last lines of a log, as one line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return " / ".join([line for line in lines if line][-_TAIL_LINES:]) or "(empty)"


async def start(name: str, arguments: list[str], log: Path, *, stdout: int | None = None) -> Child:
    """Start a command whose stderr (and stdout, unless given) goes to `log`."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
    return Child(name, process, log)


async def end(child: Child) -> None:
    """End a child: SIGTERM, and SIGKILL when that does not do."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.process.wait(), END_S)


@asynccontextmanager
async def swept(folder: TemporaryDirectory[str]) -> AsyncIterator[Path]:
    """The folder, removed when this is left, and when this process is killed before that.

    A shell in a session of its own waits for the end of a pipe, which the kernel closes if
    nobody else does.
    """
    sweeper = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", 'cat; rm -rf -- "$0"', folder.name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert sweeper.stdin is not None
    try:
        yield Path(folder.name)
    finally:
        sweeper.stdin.close()
        await sweeper.wait()
        folder.cleanup()


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its command."""

    def bind() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return bind
