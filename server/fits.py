"""How well a value that sites share explains that they went. Pure.

The rules that are named here are those of `server.groups`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from server.model import UNREGISTERED, GroupRules, Site

DIMENSIONS = ("isp", "backhaul", "power_area", "district")
"""What sites can share; where two explain equally well, the first of these wins."""

Value = tuple[str, str]
"""A dimension and a value of it, such as ``("isp", "telkom")``."""


class Gone(NamedTuple):
    """A site that is pending or offline."""

    site: Site
    at: float  # when it went
    confirmed_at: float | None  # since when it is offline; None: pending


class Fit(NamedTuple):
    """How well a value explains; the greatest wins."""

    net: int
    hits: int
    order: int
    earliest: float
    value: Value
    members: list[Gone]
    begins: bool  # enough of them are confirmed (rule 3)


def values(site: Site) -> tuple[Value, ...]:
    """What a site may share with others."""
    return tuple(
        (name, value)
        for name in DIMENSIONS
        if (value := getattr(site, name)) and value != UNREGISTERED
    )


def fresh(one: Gone, now: float, rules: GroupRules) -> bool:
    return one.confirmed_at is not None and now - one.confirmed_at <= rules.window_s


def counted(living: Iterable[Site]) -> Counter[Value]:
    """How many living sites have each value; ``("", "")`` counts all."""
    counts: Counter[Value] = Counter()
    for site in living:
        if site.registered:
            counts.update(values(site))
            counts["", ""] += 1
    return counts


def rank(fit: Fit) -> tuple[int, int, int, float, Value]:
    return fit[:5]


def by_value(gone: Iterable[Gone]) -> dict[Value, list[Gone]]:
    sites: dict[Value, list[Gone]] = defaultdict(list)
    for one in gone:
        for value in values(one.site):
            sites[value].append(one)
    return sites


def explained(
    value: Value, sites: list[Gone], living: int, now: float, rules: GroupRules, *, begins: bool
) -> Fit | None:
    """How well a value explains its sites, which are sorted by when they went (rule 2).

    Args:
        begins: enough of them have to be confirmed of late; else one has to be pending.
    """
    if len(sites) < rules.min_sites:
        return None
    first, last = densest(
        sites,
        [fresh(one, now, rules) if begins else one.confirmed_at is None for one in sites],
        rules.min_sites if begins else 1,
        rules,
    )
    members = sites[first:last]
    lived_on = living + len(sites) - last  # who went later lived until then
    if len(members) < max(rules.min_sites, rules.ratio * (len(members) + lived_on)):
        return None
    order = -DIMENSIONS.index(value[0])
    net = len(members) - lived_on
    return Fit(net, len(members), order, -members[0].at, value, members, begins)


def densest(
    gone: Sequence[Gone], wanted: Sequence[bool], least: int, rules: GroupRules
) -> tuple[int, int]:
    """From and to of the most that went within a window, at least so many of them wanted.

    Of several such windows it is the earliest; where there is none, (0, 0).
    """
    times = [one.at for one in gone]
    count = [0, *accumulate(wanted)]
    windows = (
        (first, last)
        for first, at in enumerate(times)
        if count[last := bisect_right(times, at + rules.window_s)] - count[first] >= least
    )
    return max(windows, key=lambda window: (window[1] - window[0], -window[0]), default=(0, 0))


def unexplained(
    rest: Iterable[Gone], living: Counter[Value], now: float, rules: GroupRules
) -> list[Gone]:
    """Who is left without the sites of values that are a group once enough are confirmed."""
    left = sorted(rest, key=lambda one: (one.at, one.site.id))
    while True:
        fits = [
            fit
            for value, sites in by_value(left).items()
            if (fit := explained(value, sites, living[value], now, rules, begins=False))
        ]
        if not fits:
            return left
        members = {one.site.id for one in max(fits, key=rank).members}
        left = [one for one in left if one.site.id not in members]
