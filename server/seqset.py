"""Which sequence numbers of one stream are accounted for. Pure.

``through`` is the contract's: everything up to it is stored or known to be
lost. What lies beyond it with holes between is kept as closed ranges.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct


class SeqSet(Struct, frozen=True):
    """Sequence numbers from 1: all up to `through`, and `beyond` it some ranges."""

    through: int = 0
    beyond: tuple[tuple[int, int], ...] = ()

    def has(self, seq: int) -> bool:
        """Whether `seq` is accounted for."""
        if seq <= self.through:
            return True
        at = self._first_above(seq)
        return at > 0 and seq <= self.beyond[at - 1][1]

    def _first_above(self, seq: int) -> int:
        """Index of the first range that begins above `seq`."""
        return bisect_left(self.beyond, (seq + 1, 0))

    def add(self, seq: int) -> SeqSet:
        """The set with `seq` accounted for as well.

        Quick also for the set of a device that sends every second seq.
        """
        if seq == self.through + 1 and not self.beyond:
            return SeqSet(seq)
        if self.has(seq):
            return self
        ranges, end = self.beyond, self._first_above(seq)
        low, high, start = seq, seq, end
        if start > 0 and ranges[start - 1][1] == seq - 1:
            start -= 1
            low = ranges[start][0]
        if end < len(ranges) and ranges[end][0] == seq + 1:
            high = ranges[end][1]
            end += 1
        if low == self.through + 1:
            return SeqSet(high, ranges[end:])
        return SeqSet(self.through, (*ranges[:start], (low, high), *ranges[end:]))

    def forget_below(self, oldest: int) -> tuple[SeqSet, int]:
        """The set once all below `oldest` is known lost, and how many that are new.

        `oldest` is the lowest sequence number that the agent still holds.
        """
        floor = oldest - 1
        if floor <= self.through:
            return self, 0
        had = sum(min(high, floor) - low + 1 for low, high in self.beyond if low <= floor)
        kept = [(max(low, oldest), high) for low, high in self.beyond if high >= oldest]
        return _settled(floor, kept), floor - self.through - had

    def gap(self) -> tuple[int, int] | None:
        """The first hole: from and to, both missing; None when there is none."""
        if not self.beyond:
            return None
        return self.through + 1, self.beyond[0][0] - 1


def _settled(through: int, ranges: list[tuple[int, int]]) -> SeqSet:
    while ranges and ranges[0][0] <= through + 1:
        through = max(through, ranges.pop(0)[1])
    return SeqSet(through, tuple(ranges))
