"""Stories of physical events, made by seed. Pure.

Two events never touch the same site within `REST_S` of each other, so that every
alert can be held against one event.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass, field

OF_SITE = (
    *("cable_cut", "power_off", "agent_killed", "agent_hung"),
    *("clock_wrong", "link_lossy", "link_slow", "access_point_off"),
)
OF_GROUP = {
    "isp_down": "isp",
    "backhaul_down": "backhaul",
    "district_power_down": "power_area",
}
"""What strikes many sites at once, and the column of the registry that tells whom."""
OF_CENTRE = (
    *("ingest_killed", "broker_killed", "broker_killed_without_ingest"),
    *("network_cut", "database_locked", "disk_full"),
)
PARAMETERS = {
    "link_lossy": {"loss_ratio": 0.3},
    "link_slow": {"delay_ms": 400.0},
    "clock_wrong": {"offset_s": 7200.0},
}
REST_S = 90.0
"""How long a site is left in peace before and after an event, at least; see `rest_s`."""
BLIP_S = (1.0, 15.0)
"""How long a blip lasts at most; with short windows less: no silence may reach 2.5 windows."""
BLIP_RATIO = 0.1
FOR_GOOD_RATIO = 0.1
GROUP_RATIO = 0.04
REAL_RATIO = 0.2


@dataclass(frozen=True)
class Event:
    """One thing that physically happens.

    Attributes:
        at_s: seconds of story time.
        lasts_s: None: for good.
        by: what `target` names: ``site``, ``isp``, …; empty for an event of the centre.
    """

    id: str
    at_s: float
    lasts_s: float | None
    what: str
    by: str = ""
    target: str = ""
    parameters: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Story:
    """Events in their order, and who there is for them to happen to.

    Attributes:
        real: sites that are played by real agents.
    """

    seed: int
    start_after_s: float
    sites: list[dict[str, str]]
    events: list[Event]
    real: tuple[str, ...] = ()


START_WINDOWS = 3
"""The first events find each site with a reading or two: what never measured leaves no evidence."""


def rest_s(window_s: float) -> float:
    """A site that came back has shown two whole windows before the next event."""
    return max(REST_S, 2 * window_s + 40.0)


def registry(seed: int, count: int) -> list[dict[str, str]]:
    """The rows of `sites.csv`; ISP, backhaul, district and power area cut across each other."""
    chance = random.Random(f"registry {seed}")  # noqa: S311  # repeatable, not secret
    rows = []
    for number in range(1, count + 1):
        isp = chance.randrange(min(5, max(1, count // 12)))
        district = chance.randrange(4)
        rows.append(
            {
                "site": f"sim-{number:04d}",
                "name": f"Site {number}",
                "district": f"district-{district}",
                "isp": f"isp-{isp}",
                "backhaul": f"tower-{isp}-{chance.randrange(max(1, count // 60))}",
                "power_area": f"feeder-{district}-{chance.randrange(max(1, count // 50))}",
                "access_points": "ap-1",
            }
        )
    return rows


def generate(
    seed: int,
    count: int,
    *,
    minutes: float,
    events: int,
    window_s: float,
    kinds: Collection[str] = (*OF_SITE, *OF_GROUP),
    lasts_s: tuple[float, float] = (90.0, 150.0),
    real: int = 0,
    real_kinds: Collection[str] = (),
) -> Story:
    """A story by seed: the same seed and sizes give the same story.

    Args:
        count: sites.
        minutes: all events end within these, but those for good.
        events: how many at most; fewer where the sites would get no rest.
        window_s: troubles have to last for several windows to be seen.
        kinds: what may happen.
        lasts_s: how long an outage lasts that is neither a blip nor for good.
        real: so many sites are played by real agents; one event of five strikes one of them.
        real_kinds: what may happen to those alone.
    """
    chance = random.Random(f"story {seed}")  # noqa: S311  # repeatable, not secret
    sites = registry(seed, count)
    ours = {row["site"] for row in sites[:real]}
    busy: dict[str, list[tuple[float, float]]] = {row["site"]: [] for row in sites}
    made: list[Event] = []
    groups = 0 if set(kinds).isdisjoint(OF_GROUP) else math.ceil(events * GROUP_RATIO)
    for tried in range(events * 20):
        if len(made) == events:
            break
        # Groups first: later there would be none whose sites are all at rest.
        some = set(OF_GROUP if len(made) < groups and tried < 20 * groups else OF_SITE) & set(kinds)
        if not some:
            continue
        among = sites[:real] if real and chance.random() < REAL_RATIO else sites
        event = _drawn(chance, among, minutes * 60, window_s, some, lasts_s)
        struck = sites_of(event, sites)
        rest = rest_s(window_s)
        from_s = event.at_s - rest
        to_s = float("inf") if event.lasts_s is None else event.at_s + event.lasts_s + rest
        if to_s != float("inf") and to_s - rest > minutes * 60:
            continue
        if event.what not in real_kinds and not ours.isdisjoint(struck):
            continue
        if event.by != "site" and len(struck) < 3:
            continue
        if all(to_s <= a or b <= from_s for site in struck for a, b in busy[site]):
            for site in struck:
                busy[site].append((from_s, to_s))
            made.append(event)
    made.sort(key=lambda event: event.at_s)
    named = [
        Event(f"e{number:04d}", e.at_s, e.lasts_s, e.what, e.by, e.target, dict(e.parameters))
        for number, e in enumerate(made, 1)
    ]
    names = tuple(row["site"] for row in sites[:real])
    return Story(seed, max(30.0, START_WINDOWS * window_s), sites, named, names)


def _drawn(
    chance: random.Random,
    sites: list[dict[str, str]],
    ends_s: float,
    window_s: float,
    kinds: set[str],
    usual_s: tuple[float, float],
) -> Event:
    at_s = round(chance.uniform(0, ends_s * 0.7), 1)
    what = chance.choice(sorted(kinds))
    grouped = what in OF_GROUP
    by = OF_GROUP.get(what, "site")
    target = chance.choice(sites)[by]
    if what in ("link_lossy", "link_slow", "access_point_off"):
        lasts_s: float | None = round(chance.uniform(7, 10) * window_s, 1)
    elif not grouped and what != "clock_wrong" and chance.random() < BLIP_RATIO:
        lasts_s = round(chance.uniform(BLIP_S[0], min(BLIP_S[1], max(2.0, window_s - 2))), 1)
    elif not grouped and what in ("cable_cut", "agent_killed") and chance.random() < FOR_GOOD_RATIO:
        lasts_s = None
    else:
        lasts_s = round(chance.uniform(*usual_s), 1)
    return Event("", at_s, lasts_s, what, by, target, dict(PARAMETERS.get(what, {})))


def sites_of(event: Event, sites: list[dict[str, str]]) -> list[str]:
    """Whom an event strikes; nobody for an event of the centre."""
    if not event.by:
        return []
    if event.by == "access_point":
        return [event.target.partition("/")[0]]
    return [row["site"] for row in sites if row[event.by] == event.target]
