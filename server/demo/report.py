"""The demo's verdict: what the story promised against what came, as one JSON object. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from server.demo.picture import Picture
from server.demo.story import OFFLINE, Outcome
from server.model import Status

Name = tuple[str, int]
"""Of a site's reading: stream and seq."""


def digest(body: bytes) -> bytes:
    """Stands for the text of a reading: as good as unique."""
    return hashlib.sha256(body).digest()


class Ledger(NamedTuple):
    """Readings that the simulated sites made, against those that are stored.

    Attributes:
        journalled: noted as the sites made them.
        acknowledged: of these, released by an ack in the site's spool.
        stored: in the store under a name of the journal.
        missing: acknowledged, but not stored.
        doubled: stored more than once.
        altered: stored with other content, or never made by the site.
    """

    journalled: int
    acknowledged: int
    stored: int
    missing: int
    doubled: int
    altered: int

    @property
    def exact(self) -> bool:
        """Whether every reading is acknowledged and stored once, as it was made."""
        return self.journalled == self.acknowledged == self.stored and not (
            self.missing or self.doubled or self.altered
        )


def compare(
    made: Mapping[str, Mapping[Name, bytes]],
    released: Callable[[str], Mapping[str, int]],
    stored: Callable[[str], Iterable[tuple[str, int, bytes]]],
) -> Ledger:
    """Compare by (site, stream, seq) and content.

    Args:
        made: by site, name and digest of what is compared; what came later in the same
            streams is left alone.
        released: up to which seq of each stream an ack released a site's readings.
        stored: every stored reading of a site as (stream, seq, JSON text).
    """
    totals = Counter[str]()
    for site, readings in made.items():
        ends: dict[str, int] = {}
        for stream, seq in readings:
            ends[stream] = max(seq, ends.get(stream, 0))
        rows = [row for row in stored(site) if row[1] <= ends.get(row[0], row[1])]
        names = Counter((stream, seq) for stream, seq, _body in rows)
        through = released(site)
        acknowledged = {name for name in readings if name[1] <= through.get(name[0], 0)}
        totals["journalled"] += len(readings)
        totals["acknowledged"] += len(acknowledged)
        totals["stored"] += len(readings.keys() & names.keys())
        totals["missing"] += len(acknowledged - names.keys())
        totals["doubled"] += names.total() - len(names)
        totals["altered"] += sum(readings.get(row[:2]) != digest(row[2]) for row in rows)
    return Ledger(**{name: totals[name] for name in Ledger._fields})


class Verdict(NamedTuple):
    """Everything that decides whether the demo kept its promises."""

    story_s: float
    online_after_s: float | None
    picture: Picture
    outcomes: list[Outcome]
    surprises: list[str]
    ledger: Ledger

    def failures(self) -> list[str]:
        """One line for each promise that was not kept."""
        lines = [] if self.online_after_s is not None else ["not every simulated site came online"]
        lines += [
            f"{one.beat.text}: {len(one.after_s)} alerts came,"
            f" not {0 if one.beat.quiet else len(one.beat.sites)}"
            for one in self.outcomes
            if not one.met
        ]
        lines += [f"unexpected: {line}" for line in self.surprises]
        lines += [f"malformed: {line}" for line in self.picture.malformed]
        if not self.picture.readings_seen:
            lines.append(f"no reading of {self.picture.watched} came, the real agent")
        if not self.ledger.exact:
            lines.append(f"readings do not agree: {self.ledger._asdict()}")
        return lines

    def headline(self) -> str:
        """The verdict in few words."""
        met = f"{sum(one.met for one in self.outcomes)} of {len(self.outcomes)} as promised"
        exact = "exact" if self.ledger.exact else "NOT exact"
        return f"{met}, {self.ledger.journalled} readings {exact}"

    def summary(self) -> list[str]:
        """The verdict in a few lines, with what went wrong."""
        ledger = self.ledger
        story = (
            f"Story: {sum(one.met for one in self.outcomes)} of {len(self.outcomes)} events"
            f" came out as promised; {len(self.surprises)} alerts were unexpected."
        )
        readings = (
            f"Readings: {ledger.journalled} made, {ledger.acknowledged} acknowledged,"
            f" {ledger.stored} stored; {ledger.missing} missing, {ledger.doubled} doubled."
        )
        return [story, readings, *(f"  {line}" for line in self.failures())]

    def as_json(self) -> dict[str, object]:
        """The final line of ``pantau demo --json``."""
        failures = self.failures()
        counts = self.picture.counts()
        latest = {alert.id: alert for alert in self.picture.alerts}
        firing = {alert.id: alert for alert in self.picture.alerts if alert.status == "firing"}
        resolved = [alert for alert in latest.values() if alert.status == "resolved"]
        ladder = self.picture.reading.ladder if self.picture.reading else None
        return {
            "ok": not failures,
            "failures": failures,
            "story_s": self.story_s,
            "sites": len(self.picture.sites),
            "counts": {status.value: counts[status] for status in Status},
            "alerts": {
                "firing": Counter(alert.kind for alert in firing.values()),
                "resolved": Counter(alert.kind for alert in resolved),
                "causes": Counter(one.cause.verdict for one in resolved if one.kind == OFFLINE),
            },
            "readings": self.ledger._asdict(),
            "agent": {
                "site": self.picture.watched,
                "readings": self.picture.readings_seen,
                "ladder": ladder,
            },
            "all_online_after_s": self.online_after_s,
            "events": [
                {
                    "event": one.beat.name,
                    "text": one.beat.text,
                    "at_s": round(one.beat.at_s, 1),
                    "sites": len(one.beat.sites),
                    "alerts": len(one.after_s),
                    "first_after_s": one.after_s[0] if one.after_s else None,
                    "last_after_s": one.after_s[-1] if one.after_s else None,
                    "met": one.met,
                }
                for one in self.outcomes
            ],
        }
