"""A command as a process of its own: started, ended by its id, and what it said."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.net import child_environment
from tests.wait import until

_END_S = 30.0
_TAIL_BYTES = 4000


class Service:
    """One command line that may be started and ended many times; all it says is kept in `log`.

    Args:
        name: what to call it where its log is shown.
        command: the command line; what it execs keeps its process id.
        log: standard output and standard error go here, appended.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._began_at = 0

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it; returns at once."""
        assert self._process is None, f"{self.name} is running already"
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
            )

    def kill9(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in order, by SIGTERM; gives its exit code."""
        return self._end(signal.SIGTERM)

    def ended(self) -> int:
        """Wait until it ends by itself; gives its exit code."""
        assert self._process is not None, f"{self.name} is not running"
        code = self._process.wait(_END_S)
        self._process = None
        return code

    def _end(self, sign: signal.Signals) -> int:
        assert self._process is not None, f"{self.name} is not running"
        self._process.send_signal(sign)
        return self.ended()

    def discard(self) -> None:
        """End it whatever it is doing; harmless when it does not run."""
        if self._process is not None:
            self.kill9()

    def said(self) -> str:
        """What it said since it was last started."""
        with self.log.open("rb") as log:
            log.seek(self._began_at)
            return log.read().decode(errors="replace")

    def lines(self, *words: str) -> list[str]:
        """The lines since its last start that hold all of `words`."""
        return [line for line in self.said().splitlines() if all(word in line for word in words)]

    def wait_for(self, *words: str, within_s: float = 30.0) -> str:
        """The first line since its last start that holds all of `words`."""
        try:
            return until(lambda: self.lines(*words), within_s, f"{self.name} to say {words}")[0]
        except AssertionError as err:
            raise AssertionError(f"{err}; it said:\n{self}") from None

    def peak_rss_mib(self) -> float:
        """The most memory that the running process has held so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no VmHWM for {self.name}")

    def __str__(self) -> str:
        text = self.log.read_text(errors="replace")[-_TAIL_BYTES:] if self.log.exists() else ""
        return f"--- {self.name} ({self.log})\n{text}"
