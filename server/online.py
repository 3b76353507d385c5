"""The share of the sites that was online, step by step. Pure.

The states are those of availability (rules 1 to 5 of `server.sla`), before anything
is excluded: what was to be seen, whoever had to answer for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.edges import parts
from server.sla import UNMEASURED, Book, Record, segments


class Step(NamedTuple):
    """Site milliseconds of each state between two times."""

    from_ms: int
    to_ms: int
    up: int
    down: int
    unmeasured: int

    def mean(self, lasted_ms: int) -> float:
        """How many sites that is on average."""
        return lasted_ms / (self.to_ms - self.from_ms)

    @property
    def online_ratio(self) -> float | None:
        """Of the sites that were measured."""
        measured = self.up + self.down
        return self.up / measured if measured else None

    @property
    def online_of_all_ratio(self) -> float | None:
        """Of all sites in service; one that nobody could measure is not online."""
        everything = self.up + self.down + self.unmeasured
        return self.up / everything if everything else None


def online(records: Iterable[Record], book: Book, edges: Sequence[int]) -> list[Step]:
    """The steps between `edges`, which are in order."""
    counted = [_Steps(edges) for _ in range(UNMEASURED + 1)]
    margin = book.margin_ms
    for record in records:
        states = segments(record, book.absences, edges[0] - margin, edges[-1] + margin)
        for begin, end, term in parts(record.terms, edges[0], edges[-1]):
            if term is None:
                continue
            for from_ms, to_ms, state in states:
                if from_ms < end and to_ms > begin:
                    counted[state].add(max(from_ms, begin), min(to_ms, end))
    sums = zip(*(one.sums() for one in counted), strict=True)
    return [
        Step(edges[place], edges[place + 1], up, down, unmeasured)
        for place, (up, down, unmeasured) in enumerate(sums)
    ]


class _Steps:
    """Adds up times step by step: the ends of each at once, what lies between by changes."""

    def __init__(self, edges: Sequence[int]) -> None:
        self._edges = edges
        self._partial = [0] * (len(edges) - 1)
        self._change = [0] * len(edges)

    def add(self, from_ms: int, to_ms: int) -> None:
        """One more time, within the edges."""
        edges = self._edges
        first = bisect_right(edges, from_ms) - 1
        last = bisect_right(edges, to_ms - 1) - 1
        if first == last:
            self._partial[first] += to_ms - from_ms
            return
        self._partial[first] += edges[first + 1] - from_ms
        self._partial[last] += to_ms - edges[last]
        self._change[first + 1] += 1
        self._change[last] -= 1

    def sums(self) -> list[int]:
        """The times in each step."""
        found, whole = [], 0
        for place, partial in enumerate(self._partial):
            whole += self._change[place]
            found.append(partial + whole * (self._edges[place + 1] - self._edges[place]))
        return found
