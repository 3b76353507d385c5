"""The demo's verdict: what the story promised against what came, as one JSON object. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from server.demo.picture import Picture
from server.demo.story import OFFLINE, Outcome
from server.model import Status
from server.simulate_site import SiteModel


class Ledger(NamedTuple):
    """Readings that the simulated sites hold, against those that are stored.

    Attributes:
        journalled: made by the sites, and still in their journals.
        acknowledged: of these, released by an ack.
        stored: in the store under a name of the journals.
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
    models: Iterable[SiteModel],
    marks: Mapping[str, int],
    stored: Callable[[str], Iterable[tuple[str, int, bytes]]],
) -> Ledger:
    """Compare by (site, stream, seq) and content.

    Args:
        models: the simulated sites.
        marks: by site, the last seq to compare; what came later is left alone.
        stored: every stored reading of a site as (stream, seq, JSON text).
    """
    totals = Counter[str]()
    for model in models:
        compared = range(model.oldest, marks[model.site] + 1)
        rows = [row for row in stored(model.site) if row[1] in compared]
        names = Counter((stream, seq) for stream, seq, _body in rows)
        made = {(model.stream, seq): body for seq, body in model.journal.items() if seq in compared}
        released = {name for name in made if name[1] <= model.through}
        totals["journalled"] += len(made)
        totals["acknowledged"] += len(released)
        totals["stored"] += len(made.keys() & names.keys())
        totals["missing"] += len(released - names.keys())
        totals["doubled"] += names.total() - len(names)
        totals["altered"] += sum(made.get((row[0], row[1])) != row[2] for row in rows)
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
