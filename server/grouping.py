"""What becomes of incidents when sites go together: cover, join, take over. Pure.

`server.groups` says which sites went together; this says what that changes in the
ledger. A tick hands over how everything stands (`View`), and puts what comes back
into its transaction, so that a member's incident and its group's are one commit.

A group is an incident of its own, whose `site` is its own id; `sites` holds everybody
who was ever a member. While it fires, the offline incidents of its members name it in
`group`, which keeps their own alerts silent. When it ends, those who are still away
are taken over: `group` is empty again, and their own alerts are told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from server import causes, groups
from server.fits import Gone
from server.groups import EVERYTHING
from server.model import UNREGISTERED, Cause, GroupRules, Incident, Kind, Site


class Away(NamedTuple):
    """A registered site that is pending or offline."""

    site: Site
    at: float  # when it went; see `groups.went_at`
    outage: Incident | None  # its firing incident; None: pending


class View(NamedTuple):
    """How everything stands, as the transaction sees it."""

    away: Mapping[str, Away]
    living: Collection[Site]  # registered, with signs of life, not pending
    fired: Sequence[Incident]  # the groups that fire
    returned: Callable[[Incident], Sequence[Cause]]
    """Of a group: the causes of the outages of its members that have ended."""
    few_since: Mapping[str, float]
    """Groups by id of whom few are away, and since when, as the last decision left them."""


class Decided(NamedTuple):
    """What is to be done."""

    incidents: list[Incident]  # new ones and next revisions, in order
    held: dict[str, float]  # sites whose own alert is not told before
    taken: dict[str, float]  # the same, of members that a group has left: they may be next
    few_since: dict[str, float]  # for the next view


def decide(view: View, now: float, rules: GroupRules, new_id: Callable[[], str]) -> Decided:
    """The next step of all groups.

    Args:
        view: how everything stands.
        now: the server's time.
        rules: ``[groups]``.
        new_id: gives a UUID for a new incident.
    """
    step = _Step(view, now, rules)
    for group in view.fired:
        step.go_on(group)
    held = step.begin(new_id)
    return Decided(step.incidents, held, step.taken, step.few_since)


class _Step:
    """One decision in the making."""

    def __init__(self, view: View, now: float, rules: GroupRules) -> None:
        self._view = view
        self._now = now
        self._rules = rules
        self.incidents: list[Incident] = []
        self.taken: dict[str, float] = {}
        self.few_since: dict[str, float] = {}
        fired = {group.id for group in view.fired}
        taken = {site for group in view.fired for site in group.sites}
        self._free = {
            name: one
            for name, one in view.away.items()
            if name not in taken and (one.outage is None or one.outage.group not in fired)
        }

    def go_on(self, group: Incident) -> None:
        """A group that fires: who joins it, whether it ends, what it was."""
        members = [one for name in group.sites if (one := self._view.away.get(name))]
        went = sorted(one.at for one in members)
        former = frozenset(group.sites)
        coming = sorted(
            name
            for name, one in self._free.items()
            if groups.joins(_gone(one), group.dimension, went, former, self._rules)
        )
        found = {name: self._free.pop(name) for name in coming}  # pending ones join later
        joining = [name for name in coming if found[name].outage is not None]
        members += [found[name] for name in joining]
        count = len(group.sites) + len(joining)
        if groups.few(len(members), count):
            since = min(self._now, self._view.few_since.get(group.id, self._now))
            if groups.ended(len(members), since, self._now, self._rules):
                self._end(group, members)
                return
            self.few_since[group.id] = since
        if joining:
            places = tuple(_place(self._view.away[name].site) for name in joining)
            sites = (*group.sites, *joining)
            title = _title(group.dimension, len(sites))
            group = group.revised(
                sites=sites,
                places=(*group.places, *places),
                title=title,
                why=f"{', '.join(joining)} went, too",
            )
            self.incidents.append(group)
        cause = causes.of_group(group.dimension, count, self._view.returned(group))
        if cause.verdict not in ("unknown", group.cause.verdict):
            why = f"what its members show: {group.cause.verdict} became {cause.verdict}"
            self.incidents.append(group.revised(cause=cause, why=why))
        self._cover(group, members)

    def _end(self, group: Incident, left: Iterable[Away]) -> None:
        returned = self._view.returned(group)
        cause = causes.of_group(group.dimension, len(group.sites), returned)
        self.incidents.append(group.resolved(self._now, cause if returned else group.cause))
        for one in left:
            if one.outage is not None and one.outage.group == group.id:
                taken = one.outage.revised(
                    group=None, why="its group has ended, and it is still away"
                )
                self.incidents.append(taken)
                self.taken[one.site.id] = self._now + self._rules.hold_s

    def _cover(self, group: Incident, members: Iterable[Away]) -> None:
        for one in members:
            if one.outage is not None and one.outage.group != group.id:
                why = f"one of {len(group.sites)} sites of {group.dimension}"
                self.incidents.append(one.outage.revised(group=group.id, why=why))

    def begin(self, new_id: Callable[[], str]) -> dict[str, float]:
        """New groups; gives whose own alert has to wait."""
        gone = [_gone(one) for one in self._free.values()]
        held = {}
        for group in groups.find(gone, self._view.living, self._now, self._rules):
            if group.told_from > self._now:
                held.update(dict.fromkeys(group.sites, group.told_from))
                continue
            members = [self._free.pop(name) for name in group.sites]
            incident = _opened(new_id(), group.dimension, members, self._now)
            self.incidents.append(incident)
            self._cover(incident, members)
        rest = [_gone(one) for one in self._free.values()]
        for name in groups.waiting(rest, self._view.living, self._now, self._rules):
            outage = self._free[name].outage
            if outage is not None:
                told_from = max(outage.detected_at, outage.held_until)
                held.setdefault(name, told_from + self._rules.hold_s)
        return held


def _gone(one: Away) -> Gone:
    outage = one.outage
    told_from = None if outage is None else max(outage.detected_at, outage.held_until)
    return Gone(one.site, one.at, told_from)


def _place(site: Site) -> tuple[str, str]:
    return site.district, site.isp


def _opened(identity: str, dimension: str, members: Sequence[Away], now: float) -> Incident:
    districts = {one.site.district for one in members}
    isps = {one.site.isp for one in members}
    heard = [one.outage.opened_at for one in members if one.outage is not None]
    opened_at = min([*heard, *(one.at for one in members)])
    spread_s = max(one.at for one in members) - min(one.at for one in members)
    return Incident(
        id=identity,
        kind=Kind.GROUP_OUTAGE,
        site=identity,
        district=districts.pop() if len(districts) == 1 else UNREGISTERED,
        isp=isps.pop() if len(isps) == 1 else UNREGISTERED,
        title=_title(dimension, len(members)),
        opened_at=min(opened_at, now),
        detected_at=now,
        reasons=(f"{len(members)} sites went within {spread_s:.0f} s",),
        cause=causes.of_group(dimension, len(members), ()),
        sites=tuple(one.site.id for one in members),
        places=tuple(_place(one.site) for one in members),
        dimension=dimension,
    )


def _title(dimension: str, count: int) -> str:
    if dimension == EVERYTHING:
        return f"{count} sites are offline at once: we may be blind"
    return f"{dimension}: {count} sites are offline"


def copies(group: Incident) -> list[Incident]:
    """A group's incident once for every district and ISP that it touches.

    Each has the same id and revision, stands under that district and ISP, and
    lists the members there.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for site, place in zip(group.sites, group.places, strict=True):
        found.setdefault(place, []).append(site)
    return [
        replace(
            group,
            district=district,
            isp=isp,
            sites=tuple(sites),
            places=((district, isp),) * len(sites),
        )
        for (district, isp), sites in found.items()
    ]
