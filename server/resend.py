"""When to ask an agent for readings that are missing. Pure; the clock is one that never steps.

Rules
 1. A hole is normal while a backlog drains, since the newest reading goes first. So ingest
    asks only for a hole that has stood for a while without any progress, and for the same
    hole at most once in `AGAIN_S`, each time twice as late.
 2. What still waits at the broker is no lack of progress: only what is proven to be taken in
    counts.
 3. While ingest is behind, agents rest between the messages of their backlog
    (`agent.publish.tempo`): a hole is then given more time.
 4. Who is asked sends at once, though he may only have rested. So ingest asks no more than
    it takes beside all else, the longest standing first: a fleet that rests never wakes at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from agent.wire import MAX_READINGS

STANDING_S = 3.0
"""How long a hole stands without progress before we ask."""
BEHIND_S = 1.0
"""What comes through the broker later than that shows that ingest is behind."""
BEHIND_AT_ONCE_S = 10.0
"""The first that comes through after an absence also waited for what stood there."""
STANDING_BEHIND_S = 20.0
"""How long a hole stands before we ask, when ingest was behind within that time."""
PER_S, PER_S_BEHIND = 2000, 400
"""How many readings to ask for in a second: a fifth of what ingest takes, and a part of that. One
hole counts for no more than the message that comes at once."""
AGAIN_S = 30.0
"""Least time between two requests for the same hole."""
_LATEST_S = 3600.0


class Ask(NamedTuple):
    """Readings of a stream to send again, both ends included."""

    site: str
    stream: str
    low: int
    high: int


@dataclass(slots=True)
class _Hole:
    low: int
    high: int
    moved_s: float
    asked_s: float | None = None
    asked_high: int = 0
    wait_s: float = AGAIN_S

    def may_be_asked(self, now_s: float) -> bool:
        return self.asked_s is None or now_s - self.asked_s >= self.wait_s

    def ask(self, now_s: float) -> None:
        if self.asked_s is not None and self.asked_s >= self.moved_s:
            self.wait_s = min(2 * self.wait_s, _LATEST_S)
        self.asked_s, self.asked_high = now_s, self.high

    @property
    def stands_since_s(self) -> float:
        """When it was last asked for; before that, when it last moved."""
        return self.moved_s if self.asked_s is None else self.asked_s


class Holes:
    """The holes of all streams."""

    def __init__(self) -> None:
        self._holes: dict[tuple[str, str], _Hole] = {}
        self._slow = False
        self._behind_s = -math.inf
        self._looked_s = -math.inf
        self._left = 0.0

    def took(self, trip_s: float, now_s: float) -> None:
        """How long something was on its way through the broker to us; two in a row count."""
        if trip_s > BEHIND_S and (self._slow or trip_s > BEHIND_AT_ONCE_S):
            self._behind_s = now_s
        self._slow = trip_s > BEHIND_S

    def note(self, site: str, stream: str, gap: tuple[int, int] | None, now_s: float) -> None:
        """What is missing in a stream after a commit."""
        key = (site, stream)
        if gap is None:
            self._holes.pop(key, None)
            return
        hole = self._holes.get(key)
        if hole is None or 0 < hole.asked_high < gap[0]:  # nobody asked for any of it yet
            self._holes[key] = _Hole(*gap, moved_s=now_s)
        elif (hole.low, hole.high) != gap:
            hole.low, hole.high = gap
            hole.moved_s = now_s
            hole.wait_s = AGAIN_S

    def due(self, now_s: float, proven_s: float) -> list[Ask]:
        """What to ask for now; asking is thereby noted.

        Args:
            proven_s: everything that reached the broker until then has been taken in.
        """
        behind = now_s - self._behind_s < STANDING_BEHIND_S
        standing_s = STANDING_BEHIND_S if behind else STANDING_S
        standing = [
            (key, hole)
            for key, hole in self._holes.items()
            if proven_s - hole.moved_s >= standing_s and hole.may_be_asked(now_s)
        ]
        standing.sort(key=lambda one: one[1].stands_since_s)
        per_s = PER_S_BEHIND if behind else PER_S
        self._left = min(self._left + per_s * (now_s - self._looked_s), per_s)
        self._looked_s = now_s
        asks = []
        for (site, stream), hole in standing:
            if self._left <= 0:
                break
            self._left -= min(1 + hole.high - hole.low, MAX_READINGS)
            hole.ask(now_s)
            asks.append(Ask(site, stream, hole.low, hole.high))
        return asks
