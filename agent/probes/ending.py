"""Starting what a probe needs done by another process, and ending it, whatever state it is in.

Nothing here waits for long, and nothing piles up: what cannot even be killed is counted, and
while there are too many of those, nothing more is started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from agent.probes.runner import ProbeError

_LEAVE_S = 1.0
_MOST_LEFT = 3
_left: list[subprocess.Popen[bytes]] = []
"""Killed, and not ended since: stuck in a call of the kernel's."""


def start(line: Sequence[str], *, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, for `kill`; its output is ours to read.

    Raises:
        ProbeError: too many earlier ones cannot even be killed.
        OSError: there is no such program, or it may not be run.
    """
    _left[:] = [process for process in _left if process.poll() is None]
    if len(_left) >= _MOST_LEFT:
        raise ProbeError(f"{len(_left)} processes hang inside the kernel; no more are started")
    return subprocess.Popen(
        line, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kills a process of `start`, with all that it started in its session.

    Stopped ones (SIGSTOP) end as well. One that hangs inside the kernel ends when the kernel
    lets it: it is left after a second.

    Returns:
        What it had said on stdout and stderr.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=_LEAVE_S)
    except subprocess.TimeoutExpired:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        if process.poll() is None:
            _left.append(process)
        return b"", b""


def output(line: Sequence[str], within_s: float) -> str | None:
    """What a command of the system prints; None where there is no such program.

    Args:
        line: the program, looked up on PATH, and its arguments.
        within_s: after this it is killed.

    Raises:
        ProbeError: it failed, or hung and was killed.
    """
    name = line[0]
    try:
        process = start(line)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise ProbeError(f"{name}: {err.strerror}") from None
    try:
        out, complaint = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        kill(process)
        raise ProbeError(f"{name} hung and was killed after {within_s:.1f} s") from None
    if process.returncode != 0:
        said = (complaint or out).decode(errors="replace").strip().rpartition("\n")[2]
        raise ProbeError(f"{name} ended with {process.returncode}: {said or 'no word'}")
    return out.decode(errors="replace")
