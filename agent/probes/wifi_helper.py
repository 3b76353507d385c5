"""Short-lived helper processes for what takes longer, or more memory, than a probe may.

A helper reads its request (JSON) on stdin, prints one JSON object with ``value``, ``error`` (one
line) or both, and ends by itself when its time is over.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

import msgspec

from agent.measured import Section
from agent.probes import ending
from agent.probes.runner import ProbeError

T = TypeVar("T")
_MARGIN_S = 5.0
"""Beyond its own time a helper has this long to end."""


class Helper(Generic[T]):
    """One helper at a time, started when it is due, asked for its result window by window.

    Args:
        module: of `agent.helpers`.
        kind: the wire's type of its value.
        limit_s: how long one run may take.
    """

    def __init__(self, module: str, kind: type[T], limit_s: float) -> None:
        self._module = module
        self._kind = kind
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._begun_s = 0.0

    @property
    def runs(self) -> bool:
        """Whether a run was begun whose result nobody took yet."""
        return self._process is not None

    def begin(self, request: Mapping[str, object]) -> None:
        """Start a run; returns at once.

        Raises:
            ProbeError: no helper can be started.
        """
        self._begun_s = time.monotonic()
        line = [sys.executable, "-m", f"agent.helpers.{self._module}"]
        self._process = ending.start(line, stdin=subprocess.PIPE)
        stdin, self._process.stdin = self._process.stdin, None
        assert stdin is not None
        # one that died already is told by `result`
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(json.dumps({**request, "limit_s": self._limit_s}).encode())

    def result(self, within_s: float) -> T | None:
        """The value of the run; None while it works. A value is given once.

        Raises:
            ProbeError: it failed (with what value it had), or took too long and was killed.
        """
        if self._process is None:
            return None
        process = self._process
        try:
            out, complaint = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            if time.monotonic() - self._begun_s < self._limit_s + _MARGIN_S:
                return None
            self._process = None
            ending.kill(process)
            raise ProbeError(f"timeout after {self._limit_s:.0f} s") from None
        self._process = None
        return _value(out, complaint, process.returncode, self._kind)


def _value(out: bytes, complaint: bytes, code: int, kind: type[T]) -> T:
    """What a helper that ended has said.

    Raises:
        ProbeError: an error, or nothing that makes sense.
    """
    try:
        said = json.loads(out)
        value = msgspec.convert(said["value"], kind) if "value" in said else None
        if "error" in said:
            raise ProbeError(str(said["error"]), cast("Section | None", value))
        assert value is not None
        return value
    except (ValueError, TypeError, AssertionError, msgspec.ValidationError):
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise ProbeError(f"the helper ended with {code}: {last or 'no word'}") from None
