"""Which sites went together: one outage of many instead of many outages. Pure.

Rules
 1. A site counts from the moment its loss is being confirmed (*pending*), not only
    once it is offline; when it *went* is the first sign of that (`went_at`). Sites
    that the registry does not know, or has retired, never count.
 2. Sites can share an ISP, a backhaul, a power area, a district. A value of these
    explains a group when at least ``min_sites`` of its sites went within
    ``window_s``, and at least ``ratio`` of those that lived until then.
 3. A group begins once ``min_sites`` of these sites are confirmed, at most ``window_s``
    ago, and only confirmed sites are its members: pending ones may all come back, and
    what was told long ago is not told again. Those that are confirmed later join.
 4. The value that explains most wholly wins: the one with the most sites gone,
    each that lives on counting against it. Its sites are taken out, and the next is
    looked for among the rest. So two groups at once are told apart, and no site is
    in two. A value that explains more wholly, but of whose sites too few are confirmed
    yet, keeps them from the others meanwhile: they are about to be its group.
 5. When at least 0.9 of a fleet of 10 or more went at once, it is our own
    blindness that is likely, not the fleet: that is one group of everything, told
    ``hold_s`` after its first confirmation at the earliest. Unless one value holds
    all that went, and somebody without it lives on: then we can hear.
 6. A confirmed site joins a group whose value it shares when it went within ``window_s`` of a
    member, or is a former member that went again.
 7. A group ends when none of its members is away any more, or when half or fewer
    have been for ``window_s``: once a line is mended, not all are back at once.
 8. A confirmed site's own alert waits while it is about to be in a group, for only the
    confirmations are missing; or while a value that it has still grows, and may become a
    group: another site of it is pending, and went less than ``hold_s`` ago. Those that
    another value explains do not count to this one (rule 4). It waits for ``hold_s`` at
    most.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from server import fits
from server.fits import Fit, Gone, Value, values
from server.model import GroupRules, Site

EVERYTHING = "everything"
"""The dimension of rule 5."""
_WHOLE_RATIO = 0.9
_WHOLE_SITES = 10


class Group(NamedTuple):
    """Sites that went together."""

    dimension: str  # such as "isp telkom"; or "everything"
    sites: tuple[str, ...]  # by name
    told_from: float  # not to be told before


def went_at(heard_at: float, window_s: float, will_at: float | None) -> float:
    """When a site went, as nearly as is known: the first sign that it was away.

    Args:
        heard_at: its last sign of life.
        window_s: the window of its readings: the first one missed was due then.
        will_at: when the broker said that its connection was lost; None: it did not.
    """
    missed_at = heard_at + window_s
    return missed_at if will_at is None else min(missed_at, will_at)


def shares(site: Site, dimension: str) -> bool:
    """Whether a site has the value that a group stands for."""
    name, _, value = dimension.partition(" ")
    return dimension == EVERYTHING or (name, value) in values(site)


def find(
    gone: Iterable[Gone], living: Iterable[Site], now: float, rules: GroupRules
) -> list[Group]:
    """The groups among sites that are in none yet (rules 1 to 5).

    Args:
        gone: pending and offline sites that are in no group.
        living: all others that show signs of life.
        now: the server's time.
        rules: ``[groups]``.
    """
    rest = sorted(
        (one for one in gone if one.site.registered), key=lambda one: (one.at, one.site.id)
    )
    if len(rest) < rules.min_sites:
        return []
    counts = fits.counted(living)
    if whole := _everything(rest, counts, now, rules):
        return [whole]
    found = []
    while best := _best(rest, counts, now, rules):
        dimension = " ".join(best.value)
        members = {one.site.id for one in best.members}
        if best.begins:
            found.append(Group(dimension, _confirmed(best.members), now))
        rest = [one for one in rest if one.site.id not in members]
    return found


def _confirmed(members: Iterable[Gone]) -> tuple[str, ...]:
    return tuple(sorted(one.site.id for one in members if one.confirmed_at is not None))


def _best(rest: list[Gone], living: Counter[Value], now: float, rules: GroupRules) -> Fit | None:
    """What explains most wholly (rule 4), where anything can begin."""
    gone = fits.by_value(rest)
    able = {
        value: fit
        for value, sites in gone.items()
        if (fit := fits.explained(value, sites, living[value], now, rules, begins=True))
    }
    if not able:
        return None
    best = max(able.values(), key=fits.rank)
    for value in {value for one in best.members for value in values(one.site)} - able.keys():
        rival = fits.explained(value, gone[value], living[value], now, rules, begins=False)
        if rival is not None:
            best = max(best, rival, key=fits.rank)
    return best


def _everything(
    rest: list[Gone], living: Counter[Value], now: float, rules: GroupRules
) -> Group | None:
    """Rule 5."""
    fresh = [fits.fresh(one, now, rules) for one in rest]
    first, last = fits.densest(rest, fresh, rules.min_sites, rules)
    members = rest[first:last]
    lived_on = living["", ""] + len(rest) - last
    fleet = len(members) + lived_on
    confirmed = [one.confirmed_at for one in members if one.confirmed_at is not None]
    if fleet < _WHOLE_SITES or len(members) < _WHOLE_RATIO * fleet or not confirmed:
        return None
    shared = set.intersection(*(set(values(one.site)) for one in members))
    if any(living[value] < living["", ""] for value in shared):
        return None
    confirmed_at = min(confirmed)
    told_from = confirmed_at + rules.hold_s if confirmed_at <= now else now
    return Group(EVERYTHING, _confirmed(members), told_from)


def joins(
    one: Gone,
    dimension: str,
    went: Sequence[float],
    former: Collection[str],
    rules: GroupRules,
) -> bool:
    """Whether a site that is in no group joins this one, once it is confirmed (rule 6).

    Args:
        went: when its members went, in order of time.
        former: all who were members once.
    """
    if not one.site.registered:
        return False
    if one.site.id in former:
        return True
    if not shares(one.site, dimension):
        return False
    place = bisect_right(went, one.at)
    return any(abs(one.at - at) <= rules.window_s for at in went[max(0, place - 1) : place + 1])


def few(away: int, members: int) -> bool:
    """Whether so few of a group's members are away that it may end (rule 7)."""
    return 2 * away <= members


def ended(away: int, few_since: float, now: float, rules: GroupRules) -> bool:
    """Whether a group of whom few are away, since then, has ended (rule 7)."""
    return not away or now - few_since >= rules.window_s


def waiting(
    gone: Iterable[Gone], living: Iterable[Site], now: float, rules: GroupRules
) -> set[str]:
    """The confirmed sites whose own alert waits (rule 8); arguments as for `find`."""
    rest = [one for one in gone if one.site.registered]
    held = [  # not what was confirmed before our clock was set back
        one
        for one in rest
        if (at := one.confirmed_at) is not None and at <= now < at + rules.hold_s
    ]
    if not held or not any(one.confirmed_at is None for one in rest):
        return set()
    counts = fits.counted(living)
    left = fits.unexplained(rest, counts, now, rules)
    lone = {one.site.id for one in left}
    lately = [one for one in left if now - one.at <= rules.window_s]
    likely = {
        value
        for value, sites in fits.by_value(lately).items()
        if any(_grows(one, now, rules) for one in sites)
        and len(sites) + counts[value] >= rules.min_sites
        and len(sites) >= rules.ratio / 2 * (len(sites) + counts[value])
    }
    return {
        one.site.id
        for one in held
        if one.site.id not in lone
        or (now - one.at <= rules.window_s and likely.intersection(values(one.site)))
    }


def _grows(one: Gone, now: float, rules: GroupRules) -> bool:
    """Whether a site went so lately that others may follow."""
    return one.confirmed_at is None and now - one.at < rules.hold_s
