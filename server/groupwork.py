"""The groups of one ingest: how everything stands, looked at each second or so.

Called within a tick's transaction, after what ran out was judged. `server.grouping`
decides; this gathers what it needs and puts back what it decided.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Protocol

from server import groups
from server.grouping import Away, View, decide
from server.health import Health
from server.model import Cause, GroupRules, Incident, Kind, Rules, Site, Status
from server.store import Store

_EVERY_S = 1.0
_MOST_S = 60.0
"""No hold lasts so long, though our clock be set back."""


class Desk(Protocol):
    """What of a transaction is needed; see `server.draft.Draft`."""

    def health(self, site: str) -> Health: ...
    def rules(self, site: str) -> Rules: ...
    def in_work(self, site: str) -> bool: ...
    def firing(self, site: str, kind: Kind) -> Incident | None: ...
    def put_incident(self, incident: Incident) -> None: ...
    def revises(self, incident: Incident) -> bool: ...
    def hold(self, site: str) -> None: ...


class Groupwork:
    """What is remembered from tick to tick; a restart may forget it."""

    def __init__(self, store: Store, rules: GroupRules) -> None:
        self._store = store
        self._rules = rules
        self._looked_at = 0.0
        self._held: set[str] | None = None  # None: just started
        self._taken: dict[str, float] = {}
        self._few_since: dict[str, float] = {}
        self._returned: dict[tuple[str, int], Sequence[Cause]] = {}

    def is_due(self, firing: Iterable[Incident], now: float) -> bool:
        """Whether time alone may change something."""
        if 0 <= now - self._looked_at < _EVERY_S:
            return False
        return (
            self._held is None
            or bool(self._held)
            or any(one.kind is Kind.GROUP_OUTAGE or self._is_fresh(one, now) for one in firing)
        )

    def _is_fresh(self, one: Incident, now: float) -> bool:
        alone = one.kind is Kind.SITE_OFFLINE and one.group is None and not one.maintenance
        return alone and (not one.told or now - one.detected_at <= self._rules.window_s)

    def step(
        self, desk: Desk, sites: Iterable[Site], fired: Sequence[Incident], now: float
    ) -> None:
        """Decide, and put what was decided into the transaction.

        Args:
            desk: the transaction.
            sites: the registry.
            fired: the groups that fire.
            now: the server's time.
        """
        self._looked_at = now
        fired_ids = {one.id for one in fired}
        away: dict[str, Away] = {}
        living = []
        for site in sites:
            if not site.registered:
                continue
            health = desk.health(site.id)
            outage = desk.firing(site.id, Kind.SITE_OFFLINE)
            if desk.in_work(site.id) and (outage is None or outage.group not in fired_ids):
                continue  # it goes because it was announced
            one = _away(site, health, outage, desk.rules(site.id))
            if one is not None:
                away[site.id] = one
            elif health.status in (Status.ONLINE, Status.DEGRADED):
                living.append(site)

        def returned(group: Incident) -> Sequence[Cause]:
            return self._ended(group, sum(name in away for name in group.sites))

        view = View(away, living, fired, returned, self._few_since)
        decided = decide(view, now, self._rules, lambda: str(uuid.uuid4()))
        self._few_since = decided.few_since
        for incident in decided.incidents:
            desk.put_incident(incident)
        lasts = fired_ids - {one.id for one in decided.incidents if not one.firing}
        self._returned = {key: told for key, told in self._returned.items() if key[0] in lasts}
        before = {  # whoever waits: also since a failed commit, or the process before this one
            name
            for name, one in away.items()
            if one.outage and not one.outage.told and one.outage.detected_at != now
        }
        self._taken = {name: at for name, at in self._taken.items() if now < at < now + _MOST_S}
        self._taken.update(decided.taken)
        self._held = {*decided.held, *self._taken}
        self._release(desk, before - self._held)
        for name in self._held:
            outage = desk.firing(name, Kind.SITE_OFFLINE)
            if outage is not None and not outage.told:
                desk.hold(name)

    def _release(self, desk: Desk, names: Iterable[str]) -> None:
        """Tell of those who wait no longer, and are in no group."""
        for name in sorted(names):
            outage = desk.firing(name, Kind.SITE_OFFLINE)
            if outage is None or desk.revises(outage):
                continue
            if outage.group is None and not outage.told:
                desk.put_incident(outage.revised(why="it waited for its group"))

    def _ended(self, group: Incident, away: int) -> Sequence[Cause]:
        """The causes of the members' outages that have ended; asked again when more are back."""
        key = (group.id, away)
        if key not in self._returned:
            self._returned = {
                one: told for one, told in self._returned.items() if one[0] != group.id
            }
            self._returned[key] = [one.cause for one in self._store.covered(group.id)]
        return self._returned[key]


def _away(site: Site, health: Health, outage: Incident | None, rules: Rules) -> Away | None:
    seen = health.seen
    window_s = seen.window_s if seen else rules.default_window_s
    if outage is not None:
        will_at = outage.detected_at - rules.offline_confirm_s
        return Away(site, groups.went_at(outage.opened_at, window_s, will_at), outage)
    if health.confirm_at is None or health.status is Status.OFFLINE:
        return None
    will_at = health.confirm_at - rules.offline_confirm_s
    return Away(site, groups.went_at(health.heard_at, window_s, will_at), None)
