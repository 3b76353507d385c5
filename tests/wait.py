"""Waiting for something to become true: the one place where tests let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.1


def until(
    check: Callable[[], T | None],
    within_s: float,
    what: str,
    every_s: float = _LONGEST_PAUSE_S,
) -> T:
    """The first true value of `check`, which is asked again and again.

    Args:
        check: asked at once, then after 2 ms, then ever less often.
        within_s: how long to go on. Be generous: it costs nothing when all is well.
        what: what was waited for, to end the sentence "waited 10 s for …".
        every_s: how often at last; longer where asking takes a second of a processor.

    Raises:
        AssertionError: the time ran out; names the last value.
    """
    end = time.monotonic() + within_s
    pause_s = _FIRST_PAUSE_S
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"waited {within_s:g} s for {what}; last seen: {value!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, every_s)
