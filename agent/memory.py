"""Keeping the process small over years."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8
"""mallopt(3), glibc's malloc.h."""


def one_arena() -> None:
    """Have all threads take memory from one place; to be called before there are any.

    glibc otherwise gives threads up to eight places for each processor, and what a probe's
    thread freed in one is no use to the next thread in another. Python's lock lets one thread
    allocate at a time, so nothing waits for it. Other C libraries have one place anyway.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
