"""Which sequence numbers of one stream are accounted for. Pure.

``through`` is the contract's: everything up to it is stored or known to be
lost. What lies beyond it with holes between is kept as closed ranges, the
lowest `MOST_RANGES` of them, since each commit writes them down. Of what lies
above these, past `known_to`, the set says nothing: the stored readings do, and
`extended` takes them in once holes below were filled.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from msgspec import Struct

MOST_RANGES = 1000
"""An agent sends in order, newest first and then upwards from the oldest hole, and makes a few."""
PAGE = 4 * MOST_RANGES
"""So many of the stored numbers above these are looked up at once."""
ALL = 2**63 - 1
"""The largest sequence number there is."""


class SeqSet(Struct, frozen=True):
    """Sequence numbers from 1: all up to `through`, and `beyond` it some ranges."""

    through: int = 0
    beyond: tuple[tuple[int, int], ...] = ()
    known_to: int = ALL

    def has(self, seq: int) -> bool:
        """Whether `seq` is accounted for, as far as is known here."""
        if seq <= self.through:
            return True
        at = self._first_above(seq)
        return at > 0 and seq <= self.beyond[at - 1][1]

    def _first_above(self, seq: int) -> int:
        """Index of the first range that begins above `seq`."""
        return bisect_left(self.beyond, (seq + 1, 0))

    def add(self, seq: int) -> SeqSet:
        """The set with `seq` accounted for as well; the same one where that is not known here.

        Quick also for the set of a device that sends every second seq.
        """
        if seq == self.through + 1 and not self.beyond and self.known_to == ALL:
            return SeqSet(seq)
        if seq > self.known_to or self.has(seq):
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
            return SeqSet(high, ranges[end:], self.known_to)
        return _bounded(self.through, (*ranges[:start], (low, high), *ranges[end:]), self.known_to)

    def wants_more(self) -> bool:
        """Whether there is room again for what lies above `known_to`."""
        return self.known_to < ALL and 2 * len(self.beyond) <= MOST_RANGES

    def extended(self, seqs: Iterable[int], known_to: int) -> SeqSet:
        """The set that knows more: `seqs` are all that is stored above the old `known_to`.

        Args:
            seqs: in order.
            known_to: how far they go.
        """
        through, ranges = self.through, list(self.beyond)
        for seq in seqs:
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            elif not ranges and seq == through + 1:
                through = seq
            else:
                ranges.append((seq, seq))
        return _bounded(through, ranges, known_to)

    def forget_below(self, oldest: int) -> tuple[SeqSet, int]:
        """The set once all below `oldest` is known lost, and how many that are new.

        `oldest` is the lowest sequence number that the agent still holds. Numbers above
        `known_to` count as lost, also those that are stored.
        """
        floor = oldest - 1
        if floor <= self.through:
            return self, 0
        had = sum(min(high, floor) - low + 1 for low, high in self.beyond if low <= floor)
        kept = [(max(low, oldest), high) for low, high in self.beyond if high >= oldest]
        return _settled(floor, kept, max(floor, self.known_to)), floor - self.through - had

    def gap(self) -> tuple[int, int] | None:
        """The first hole: from and to, both missing; None when there is none."""
        if not self.beyond:
            return None
        return self.through + 1, self.beyond[0][0] - 1


def _settled(through: int, ranges: list[tuple[int, int]], known_to: int) -> SeqSet:
    while ranges and ranges[0][0] <= through + 1:
        through = max(through, ranges.pop(0)[1])
    return SeqSet(through, tuple(ranges), known_to)


def _bounded(through: int, ranges: Sequence[tuple[int, int]], known_to: int) -> SeqSet:
    """The set of these ranges, or of the lowest of them where they are too many."""
    if len(ranges) > MOST_RANGES:
        known_to = ranges[MOST_RANGES][0] - 1
    return SeqSet(through, tuple(ranges[:MOST_RANGES]), known_to)
