"""Edges of time and what is done with them: whole milliseconds, half-open. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

Edges = tuple[int, int]
"""From, and to where it no longer is."""


def ms(at: float) -> int:
    """Seconds to milliseconds."""
    return round(at * 1000)


def merged(edges: Iterable[Edges]) -> list[Edges]:
    """The same times, in order and without overlap."""
    found: list[Edges] = []
    for begin, end in sorted(edges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > begin:
            found.append((begin, end))
    return found


class _Dated(Protocol):
    @property
    def valid_from(self) -> float: ...
    @property
    def valid_to(self) -> float | None: ...


_T = TypeVar("_T", bound=_Dated)


def parts(dated: Sequence[_T], from_ms: int, to_ms: int) -> Iterator[tuple[int, int, _T | None]]:
    """A period cut into what was valid when; None where nothing was."""
    at = from_ms
    for one in dated:
        begin = max(at, ms(one.valid_from))
        end = to_ms if one.valid_to is None else min(to_ms, ms(one.valid_to))
        if begin >= end:
            continue
        if begin > at:
            yield at, begin, None
        yield begin, end, one
        at = end
    if at < to_ms:
        yield at, to_ms, None


def without(edges: Iterable[Edges], holes: Sequence[Edges]) -> list[Edges]:
    """The same times but for `holes`; both in order and without overlap."""
    found = []
    for begin, end in edges:
        place = max(0, bisect_right(holes, (begin,)) - 1)
        while begin < end and place < len(holes) and holes[place][0] < end:
            if holes[place][1] > begin:
                if holes[place][0] > begin:
                    found.append((begin, holes[place][0]))
                begin = holes[place][1]
            place += 1
        if begin < end:
            found.append((begin, end))
    return found


def length(edges: Iterable[Edges]) -> int:
    """How long they are together."""
    return sum(end - begin for begin, end in edges)
