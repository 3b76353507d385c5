"""What the kernel says of its boot, its uptime and its clock."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from agent import wire

BUILT_S = wire.epoch("2025-01-01T00:00:00Z")
"""No clock of a running agent can be earlier, unless it was never set: it was not yet written."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMEX_BYTES = 512
"""More than `struct timex` takes on any machine."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


def boot_id() -> str:
    """The kernel's name for this boot; another after each power cut."""
    return _BOOT_ID.read_text().strip()


def uptime_s() -> float:
    """Seconds since the kernel started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_synchronised() -> bool:
    """Whether the kernel calls its clock synchronised (RFC 1589, section 3.3).

    Everything is asked and nothing changed, so no privilege is needed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= state < _TIME_ERROR


class ClockWatch:
    """Follows whether the clock is synchronised, and for how long we have seen it so."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def observe(self, synchronised: bool, now_s: float) -> wire.Clock:
        """The clock's state for a reading taken `now_s` (CLOCK_MONOTONIC)."""
        if not synchronised:
            self._since_s = None
            return wire.Clock(synced=False)
        if self._since_s is None:
            self._since_s = now_s
        return wire.Clock(synced=True, age_s=round(now_s - self._since_s, 3))
