"""What a changed registry does to states and alerts: they move, end, or begin."""

from __future__ import annotations

import math
from collections.abc import Iterable

from agent import wire
from server import causes, flapping, health, troubles
from server.draft import Draft
from server.events import Event, Opened
from server.health import Health
from server.memory import Memory
from server.model import UNREGISTERED, Kind, Site, Status
from server.store import Store

_NOWHERE = (UNREGISTERED, UNREGISTERED)
"""Where the state of a site stands that the registry does not know."""


def apply(
    draft: Draft, memory: Memory, store: Store, read_otherwise: Iterable[str], now: float
) -> None:
    """Follow the registry that `memory` has just taken over; inside a transaction.

    Args:
        read_otherwise: the sites whose state says something else by it.
    """
    for name in read_otherwise:
        if name in memory.healths:
            draft.show(name)
    for name, one in memory.healths.items():
        if health.due_at(one, memory.rules(name)) != memory.dues.get(name):
            draft.put_health(one)  # by other rules it is due at another time
    _clear_resolved(draft, memory, store, now)
    for site in memory.registry.values():
        _apply_site(draft, memory, site, now)
    _move_groups(draft, memory)
    _cover(draft, memory, now)


def _cover(draft: Draft, memory: Memory, now: float) -> None:
    """Silence what announced work covers now, and tell of what has outlasted it.

    Outages that have are told by the next tick, which may make a group of them.
    """
    for site, kind in memory.firing:
        incident = draft.firing(site, kind)
        if incident is None or incident.maintenance == memory.in_work(incident):
            continue
        if not incident.maintenance:
            known = memory.registry[(incident.sites or (site,))[0]]
            work = memory.in_force.work(known)
            told = f": {work.id}" if work else ""
            draft.put_incident(incident.revised(why=f"announced work goes on{told}"))
            continue
        if kind is Kind.SITE_OFFLINE:
            draft.hold(site)
        why = "announced work is over, and it still lasts"
        draft.put_incident(incident.revised(held_until=now, why=why))


def _move_groups(draft: Draft, memory: Memory) -> None:
    """Tell of a group where its members are now."""
    known = memory.registry
    for group in [one for one in memory.firing.values() if one.sites]:
        places = tuple(
            (known[site].district, known[site].isp) if site in known else place
            for site, place in zip(group.sites, group.places, strict=True)
        )
        if places == group.places:
            continue
        for left in set(group.places) - set(places):
            draft.post(wire.alert_topic(*left, group.id), b"")
        draft.put_incident(group.revised(places=places, why="a member moved"))


def _clear_resolved(draft: Draft, memory: Memory, store: Store, now: float) -> None:
    """Clear what still stands resolved of a site under a district or ISP that it has left."""
    standing = set(store.clear_due(math.inf))
    for incident in store.incidents(now - draft.retain_s) if standing else ():
        site = memory.registry.get(incident.site)
        here = (incident.district, incident.isp)
        topic = wire.alert_topic(*here, incident.id)
        if site is None or topic not in standing or here == (site.district, site.isp):
            continue
        draft.post(topic, b"")
        store.cleared(topic)


def _apply_site(draft: Draft, memory: Memory, site: Site, now: float) -> None:
    for kind in Kind:
        incident = draft.firing(site.id, kind)
        if incident is None:
            continue
        if site.retired:
            away = kind is Kind.SITE_OFFLINE
            cause = causes.of_site_taken_out(incident.cause) if away else incident.cause
            draft.put_incident(incident.resolved(now, cause))
        elif (incident.district, incident.isp) != (site.district, site.isp):
            topic = wire.alert_topic(incident.district, incident.isp, incident.id)
            draft.post(topic, b"")
            draft.put_incident(incident.revised(district=site.district, isp=site.isp))
    stood = memory.places.get(site.id)
    if site.retired:
        if stood not in (None, _NOWHERE):
            draft.move(site.id, None)
        return
    place = (site.district, site.isp)
    if stood == place:
        return
    draft.move(site.id, place)
    if stood == _NOWHERE:
        for event in standing(draft.health(site.id), now):
            draft.open(site.id, event)


def standing(health: Health, now: float) -> tuple[Opened, ...]:
    """What would fire if the site had come into the registry only now."""
    since, events = health.flapping_since, list[Event]()
    if since:
        events.append(Opened(Kind.SITE_FLAPPING, since, now, (flapping.reason(health.changes),)))
    if health.status is Status.OFFLINE:
        events.append(Opened(Kind.SITE_OFFLINE, health.heard_at, now, health.reasons))
    events += troubles.events((), health.troubles, now)
    return tuple(event for event in events if isinstance(event, Opened))
