"""Ending what a probe has started, whatever state that is in, without ever waiting for long."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from agent.probes.runner import ProbeError

_LEAVE_S = 1.0


def kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kills a process that leads a session of its own, with all that it started in there.

    Stopped ones (SIGSTOP) end as well. One that hangs inside the kernel ends when the kernel
    lets it: it is left after a second, and the interpreter reaps it later.

    Returns:
        What it had said on stdout and stderr, as far as its pipes were ours.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        out, complaint = process.communicate(timeout=_LEAVE_S)
    except subprocess.TimeoutExpired:
        out, complaint = b"", b""
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return out or b"", complaint or b""


class Command:
    """A command of the system that is asked now and then; one run at a time, if need be for ever.

    Args:
        line: the program, looked up on PATH, and its arguments.
    """

    def __init__(self, *line: str) -> None:
        self._line: Sequence[str] = line
        self._stuck: subprocess.Popen[bytes] | None = None

    def output(self, within_s: float) -> str | None:
        """What it prints; None where there is no such program.

        Raises:
            ProbeError: it failed, or hung and was killed.
        """
        name = self._line[0]
        if self._stuck is not None and self._stuck.poll() is None:
            raise ProbeError(f"{name} cannot even be killed; it hangs inside the kernel")
        self._stuck = None
        try:
            process = subprocess.Popen(
                self._line,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            return None
        except OSError as err:
            raise ProbeError(f"{name}: {err.strerror}") from None
        try:
            out, complaint = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            kill(process)
            self._stuck = process
            raise ProbeError(f"{name} hung and was killed after {within_s:.1f} s") from None
        if process.returncode != 0:
            said = (complaint or out).decode(errors="replace").strip().rpartition("\n")[2]
            raise ProbeError(f"{name} ended with {process.returncode}: {said or 'no word'}")
        return out.decode(errors="replace")
