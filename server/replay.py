"""Stored readings through the state machine again, under other rules. Pure.

Wills are not stored: an outage that was found by one is found by its silence here,
under either rules. What was before the first reading is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.wire import VERSION, Envelope, Reading
from server import health
from server.events import Amended, Event, Opened, Resolved
from server.health import Health
from server.model import Kind, Rules, Status


class Heard(NamedTuple):
    """A stored reading, and when it came."""

    reading: Reading
    stream: str
    received_at: float
    taken_at: float


class Episode(NamedTuple):
    """An incident as the rules would have made it."""

    kind: Kind
    from_at: float
    to_at: float | None
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What rules make of a site's readings."""

    episodes: list[Episode] = field(default_factory=list)
    degraded_s: float = 0.0
    offline_s: float = 0.0


class Difference(NamedTuple):
    """What other rules would have made of a site."""

    site: str
    before: Outcome
    after: Outcome

    @property
    def raised(self) -> list[Episode]:
        """Incidents that there would have been besides."""
        return _alone(self.after.episodes, self.before.episodes)

    @property
    def cleared(self) -> list[Episode]:
        """Incidents that there would not have been."""
        return _alone(self.before.episodes, self.after.episodes)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return self.before != self.after


class _Machine:
    """One site on its way through time."""

    def __init__(self, site: str, rules: Rules) -> None:
        self._health = Health(site)
        self._rules = rules
        self._at = 0.0
        self._open: dict[Kind, Episode] = {}
        self.outcome = Outcome()

    def wait(self, until: float) -> None:
        """Time passes, silences run out."""
        while (due := health.due_at(self._health, self._rules)) is not None and due <= until:
            self._pass(due)
            self._take(*health.expire(self._health, due, self._rules))
        self._pass(until)

    def _pass(self, until: float) -> None:
        if self._health.status is Status.DEGRADED:
            self.outcome.degraded_s += until - self._at
        elif self._health.status is Status.OFFLINE:
            self.outcome.offline_s += until - self._at
        self._at = until

    def hear(self, one: Heard) -> None:
        """A reading arrives as it did."""
        self.wait(one.received_at)
        age_s = max(0.0, one.received_at - one.taken_at)
        envelope = Envelope(
            v=VERSION,
            site=self._health.site,
            stream=one.stream,
            sent_boot=one.reading.boot,
            sent_uptime_s=one.reading.uptime_s + age_s,
            oldest=1,
            readings=[],
        )
        self._take(
            *health.observe(self._health, one.reading, envelope, one.received_at, self._rules)
        )

    def absent(self, since: float, until: float) -> None:
        """We were away, and judged nobody meanwhile."""
        self.wait(max(since, self._at))
        self._pass(until)
        self._health = health.absent(self._health, until)

    def _take(self, after: Health, events: tuple[Event, ...]) -> None:
        self._health = after
        for event in events:
            match event:
                case Opened():
                    self._open[event.kind] = Episode(event.kind, self._at, None, event.reasons)
                case Amended() if event.kind in self._open:
                    known = self._open[event.kind]
                    reasons = tuple(dict.fromkeys((*known.reasons, *event.reasons)))
                    self._open[event.kind] = known._replace(reasons=reasons)
                case Resolved() if event.kind in self._open:
                    self._end(event.kind, self._at)

    def _end(self, kind: Kind, at: float | None) -> None:
        self.outcome.episodes.append(self._open.pop(kind)._replace(to_at=at))

    def finish(self, at: float) -> Outcome:
        """What came of it until then; what lasts has no end."""
        self.wait(at)
        for kind in list(self._open):
            self._end(kind, None)
        self.outcome.episodes.sort(key=lambda one: one.from_at)
        return self.outcome


def replay(
    site: str,
    heard: Iterable[Heard],
    absences: Sequence[tuple[float, float, str]],
    rules: Rules,
    until: float,
) -> Outcome:
    """What `rules` make of the readings of a site.

    Args:
        heard: in the order in which they came.
        absences: when we could not hear, oldest first.
        until: nothing later counts.
    """
    machine = _Machine(site, rules)
    away = [one for one in absences if one[1] <= until]
    for one in heard:
        while away and away[0][1] <= one.received_at:
            machine.absent(*away.pop(0)[:2])
        machine.hear(one)
    for since, end, _ in away:
        machine.absent(since, end)
    return machine.finish(until)


def _alone(those: Iterable[Episode], others: Sequence[Episode]) -> list[Episode]:
    """Episodes during which none of the others has the same kind."""
    return [one for one in those if not any(_meet(one, other) for other in others)]


def _meet(one: Episode, other: Episode) -> bool:
    begins_in_time = one.to_at is None or other.from_at < one.to_at
    return (
        one.kind is other.kind
        and begins_in_time
        and (other.to_at is None or one.from_at < other.to_at)
    )
