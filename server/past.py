"""What one transaction adds to the spans of sites, and puts right in them.

Thrown away with its draft when the transaction fails.
"""

from __future__ import annotations

from itertools import islice

from agent.wire import GoodReading, decode_reading
from server import clock, timeline
from server.clock import Anchors, When
from server.store import FLAG_CORRECTED, FLAG_UNCERTAIN, ReadingRow, Store
from server.timeline import Run, Span

Runs = dict[str, Run]
"""The span of up of each site that still grows."""
_SLACK_S = 3600.0
"""Our own clock may have been set meanwhile."""
MOST_ROWS = 10_000
"""So many readings are looked at once a boot is anchored anew, the newest: a week of minutes."""


class Past:
    """The changes of one transaction, on top of the runs that ingest remembers."""

    def __init__(self, runs: Runs, store: Store) -> None:
        self._known = runs
        self._store = store
        self._runs: dict[str, Run | None] = {}
        self._parts: dict[str, list[Span]] = {}

    def run(self, site: str) -> Run | None:
        """The growing span of a site as this transaction sees it."""
        return self._runs[site] if site in self._runs else self._known.get(site)

    def add(self, site: str, good: GoodReading, when: When) -> None:
        """What one more reading says."""
        if when.uncertain:
            return
        run = self.run(site)
        after, stored = timeline.follow(
            run, timeline.parts(good.reading, when.taken_at, good.taken_at)
        )
        if after is not run:
            self._runs[site] = after
        if stored:
            self._parts.setdefault(site, []).extend(stored)

    def end(self, site: str) -> None:
        """Store the growing span: the site's row is about to go."""
        run = self.run(site)
        if run is not None:
            self._parts.setdefault(site, []).append(Span(*run, timeline.UP))
            self._runs[site] = None

    @property
    def painted(self) -> dict[str, list[Span]]:
        """The parts by site that are more than a growing span of up."""
        return self._parts

    def save(self) -> None:
        """Write all but the runs, which stand with the sites' health."""
        for site, parts in self._parts.items():
            self._store.paint(site, parts)

    def put_right(self, site: str, known: Anchors, anchors: Anchors, now: float) -> None:
        """Move the stored readings of a site whose time the anchors tell better than `known`."""
        rows: list[ReadingRow] = []
        old: list[Span] = []
        new: list[Span] = []
        gains = clock.better(known, anchors)
        since = clock.reach(gains, anchors, now) - _SLACK_S
        found = self._store.unsynced(site, since) if gains else ()
        for row in islice(found, MOST_ROWS):
            good = decode_reading(row.body)
            if good.reading.boot not in gains:
                continue
            when = clock.when(good, anchors)
            gain_s = row.taken_at - when.taken_at
            uncertain = row.flags == FLAG_UNCERTAIN
            better = uncertain or clock.tells_better(gain_s, now - when.taken_at)
            if not when.corrected or not better:
                continue
            rows.append(row._replace(taken_at=when.taken_at, flags=FLAG_CORRECTED))
            new += timeline.parts(good.reading, when.taken_at, good.taken_at)
            if row.flags == FLAG_CORRECTED:
                old += timeline.parts(good.reading, row.taken_at, good.taken_at)
        self._store.put_times(rows)
        if old:
            self._repaint(site, old)
        if new:
            self._parts.setdefault(site, []).extend(new)

    def _repaint(self, site: str, old: list[Span]) -> None:
        """Take back what readings said before their time was put right."""
        self.end(site)
        stored = self._parts.pop(site, None)
        if stored:
            self._store.paint(site, stored)
        from_at = min(span.from_at for span in old)
        to_at = max(span.to_at for span in old)
        told = (measured(row) for _, row in self._store.readings(site, from_at))
        spans = timeline.rebuild(one for one in told if one is not None)
        self._store.repaint(site, from_at, to_at, spans)

    def merge(self) -> None:
        """The transaction is durable: remember it."""
        for site, run in self._runs.items():
            if run is None:
                self._known.pop(site, None)
            else:
                self._known[site] = run


def measured(row: ReadingRow) -> timeline.Told | None:
    """A stored reading as the spans take it; None where nothing anchors its time."""
    if row.flags == FLAG_UNCERTAIN:
        return None
    good = decode_reading(row.body)
    return timeline.Told(good.reading, row.taken_at, good.taken_at)


def rebuilt(store: Store, site: str) -> list[Span]:
    """The spans of a site from nothing but its stored readings; equal to the stored ones."""
    told = (measured(row) for _, row in store.readings(site))
    return timeline.rebuild(one for one in told if one is not None)
