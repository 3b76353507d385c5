"""What an operator's client knows from MQTT alone: states, alerts, one agent's readings. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from agent import wire
from server.model import Site, Status

MAX_ALERTS = 1000
"""Alert messages remembered, newest last."""
_WORST_FIRST = {Status.OFFLINE: 0, Status.DEGRADED: 1, Status.UNKNOWN: 2, Status.ONLINE: 3}


class State(msgspec.Struct, frozen=True):
    """A state message, as far as the screen needs it."""

    site: str
    status: Status
    since: wire.base.Time | None = None
    reasons: list[str] = []


class CauseSeen(msgspec.Struct, frozen=True):
    """The cause in an alert message."""

    verdict: str = "unknown"
    confidence: float = 0.0


class Alert(msgspec.Struct, frozen=True):
    """An alert message, as far as screen and judge need it, and when it came."""

    id: str
    revision: int
    status: str
    kind: str
    severity: str
    title: str
    district: str
    isp: str
    sites: list[str]
    cause: CauseSeen = CauseSeen()
    opened_at: str = ""
    detected_at: str = ""
    resolved_at: str | None = None
    seen_at: float = 0.0


class Picture:
    """The city as it arrived over MQTT.

    Args:
        sites: the registry; sites not heard of are unknown.
        watched: the site whose readings are shown.
    """

    def __init__(self, sites: Iterable[Site], *, watched: str) -> None:
        self.sites = {site.id: site for site in sites}
        self.watched = watched
        self.states: dict[str, State] = {}
        self.alerts: deque[Alert] = deque(maxlen=MAX_ALERTS)
        self.reading: wire.Reading | None = None
        self.readings_seen = 0
        self.malformed: list[str] = []

    def hear(self, now: float, topic: str, payload: bytes) -> Alert | None:
        """Take in one message; what is cleared or for others changes nothing.

        Returns:
            The alert, when the message brought a new revision of one.
        """
        kind = topic.removeprefix(f"{wire.PREFIX}/").partition("/")[0]
        if not payload:
            return None
        try:
            if kind == "state":
                state = msgspec.json.decode(payload, type=State)
                self.states[state.site] = state
            elif kind == "alerts":
                return self._hear_alert(now, payload)
            elif topic == wire.site_topic(self.watched, "readings"):
                self._hear_readings(payload)
        except (msgspec.MsgspecError, wire.Invalid) as err:
            self.malformed.append(f"{topic}: {err}")
        return None

    def counts(self) -> dict[Status, int]:
        """Sites by status, every status present."""
        heard = Counter(self.status(site) for site in self.sites)
        return {status: heard[status] for status in Status}

    def status(self, site: str) -> Status:
        """A site's verdict, unknown where none came."""
        state = self.states.get(site)
        return state.status if state else Status.UNKNOWN

    def worst(self) -> list[State]:
        """Every site that is not online, worst first, longest first."""
        silent = [State(site, Status.UNKNOWN) for site in self.sites if site not in self.states]
        heard = [state for state in self.states.values() if state.status is not Status.ONLINE]
        return sorted(
            heard + silent, key=lambda one: (_WORST_FIRST[one.status], one.since or "", one.site)
        )

    def _hear_alert(self, now: float, payload: bytes) -> Alert | None:
        alert = msgspec.json.decode(payload, type=Alert)
        if any(self._same(alert, known) for known in self.alerts):
            return None
        alert = msgspec.structs.replace(alert, seen_at=now)
        self.alerts.append(alert)
        return alert

    @staticmethod
    def _same(one: Alert, other: Alert) -> bool:
        """Whether both are one revision, published again or for the same district and ISP."""
        return (one.id, one.revision, one.district, one.isp) == (
            other.id,
            other.revision,
            other.district,
            other.isp,
        )

    def _hear_readings(self, payload: bytes) -> None:
        batch = wire.decode_readings(payload, site=self.watched)
        self.malformed += [f"reading of {self.watched}: {bad.reason}" for bad in batch.bad]
        self.readings_seen += len(batch.good)
        for good in batch.good:
            if self.reading is None or good.reading.taken_at >= self.reading.taken_at:
                self.reading = good.reading
