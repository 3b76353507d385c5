"""Stories: what physically happens to a fleet, from TOML, from CSV, or by seed. Pure.

A file that cannot be played is refused before anything starts, in one line that names the
event and the mend.
"""

from __future__ import annotations

import csv
import io
import math
import random
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.model import Site

EVENTS: dict[str, str | None] = {
    # What happens, and the parameter that it takes.
    "cable_cut": None,
    "isp_down": None,
    "backhaul_down": None,
    "power_off": None,
    "district_power_down": None,
    "agent_killed": None,
    "agent_hung": None,
    "clock_wrong": "offset_s",
    "link_lossy": "loss_ratio",
    "link_slow": "delay_ms",
    "access_point_off": None,
}
OF_CENTRE = (
    *("ingest_killed", "broker_killed", "broker_killed_without_ingest"),
    *("network_cut", "database_locked", "disk_full"),
)
"""What strikes the centre is for whoever runs the centre; here it is passed over."""
DEFAULTS = {"offset_s": 7200.0, "loss_ratio": 0.3, "delay_ms": 400.0}
TARGETS = ("site", "isp", "backhaul", "power_area", "district", "access_point")
_COLUMNS = {"id", "at_s", "lasts_s", "what", *TARGETS, *DEFAULTS}
_FLEET_KEYS = {"sites", "real", "begins_at"}
OF_MANY = {"isp_down": "isp", "backhaul_down": "backhaul", "district_power_down": "power_area"}
"""What strikes all that share something."""
_RANDOM_LASTS_S = (60.0, 300.0)
_MANY_RATIO = 0.04


class BadStory(Exception):
    """The story cannot be played; the text is one line with the place and the mend."""


@dataclass(frozen=True)
class Event:
    """One thing that happens.

    Attributes:
        at_s: seconds of story time.
        lasts_s: None: for good.
        sites: whom it strikes; empty for an event of the centre.
        value: its parameter, where it takes one.
        points: the access points that ``access_point_off`` strikes; empty: the first of each site.
    """

    id: str
    at_s: float
    lasts_s: float | None
    what: str
    sites: tuple[str, ...]
    value: float = 0.0
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """Events in their order.

    Attributes:
        start_after_s: how long the fleet is left in peace at first.
        begins_at: when story time 0 is, RFC 3339; None: `start_after_s` from now.
        real: sites that others play.
    """

    events: tuple[Event, ...] = ()
    start_after_s: float = 0.0
    begins_at: str | None = None
    real: frozenset[str] = field(default_factory=frozenset)


def parse(name: str, text: str, sites: Sequence[Site]) -> Story:
    """A story file: CSV where its name ends so, TOML else.

    Raises:
        BadStory: it is neither, or tells of unknown events or sites.
    """
    try:
        raw = _of_csv(text) if name.endswith(".csv") else tomllib.loads(text)
    except (ValueError, RecursionError, csv.Error) as err:  # tomllib's own is a ValueError
        raise BadStory(f"{name}: {err}; it has to be TOML, or CSV in a file named .csv") from None
    known = {"seed", "start_after_s", "fleet", "event"}
    if unknown := sorted(raw.keys() - known):
        raise BadStory(f"{name}: unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")
    fleet, rows = raw.get("fleet", {}), raw.get("event", [])
    if not isinstance(fleet, dict) or not isinstance(rows, list):
        raise BadStory(f"{name}: fleet has to be a table, event an array of tables")
    if unknown := sorted(fleet.keys() - _FLEET_KEYS):
        raise BadStory(f"{name}: unknown key fleet.{unknown[0]}; remove it")
    ids = {site.id for site in sites}
    real = fleet.get("real", [])
    if not isinstance(real, list):
        raise BadStory(f"{name}: fleet.real is {real!r}; it has to be a list of sites")
    if stranger := next((str(site) for site in real if str(site) not in ids), None):
        raise BadStory(f"{name}: fleet.real: no site {stranger!r} in the registry")
    events = [_event(name, number, row, sites) for number, row in enumerate(rows, 1)]
    if twice := _twice(event.id for event in events):
        raise BadStory(f"{name}: event {twice!r} stands there twice; give each an id of its own")
    return Story(
        tuple(sorted(events, key=lambda event: event.at_s)),
        _number(f"{name}: start_after_s", raw.get("start_after_s", 0.0)),
        None if "begins_at" not in fleet else _begins_at(name, fleet["begins_at"]),
        frozenset(real),
    )


def _of_csv(text: str) -> dict[str, object]:
    """Each row an event; empty cells are absent."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    events = []
    for row in rows:
        if None in row:
            raise ValueError(f"line {rows.line_num} has more cells than the header")
        events.append({key: cell for key, cell in row.items() if cell})
    return {"event": events}


def _begins_at(name: str, given: object) -> str:
    text = given.isoformat() if isinstance(given, datetime) else str(given)
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        mend = 'it has to be a time with its zone, as "2026-01-31T08:00:00Z"'
        raise BadStory(f"{name}: fleet.begins_at is {text!r}; {mend}")
    return text


def _twice(ids: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            return one
        seen.add(one)
    return None


def _event(name: str, number: int, row: object, sites: Sequence[Site]) -> Event:
    if not isinstance(row, dict):
        raise BadStory(f"{name}: event {number} is no table")
    place = f"{name}: event {row.get('id', number)}"
    if unknown := sorted(row.keys() - _COLUMNS):
        raise BadStory(f"{place}: unknown key {unknown[0]!r}; remove it")
    what = str(row.get("what", ""))
    if what not in EVENTS and what not in OF_CENTRE:
        known = ", ".join((*EVENTS, *OF_CENTRE))
        raise BadStory(f"{place}: unknown event {what!r}; there are {known}")
    at_s = _number(f"{place}: at_s", row.get("at_s"))
    lasts_s = _number(f"{place}: lasts_s", row["lasts_s"]) if "lasts_s" in row else None
    if what in OF_CENTRE:
        return Event(str(row.get("id", number)), at_s, lasts_s, what, ())
    struck, points = _struck(place, row, sites)
    parameter = EVENTS[what]
    value = 0.0
    if parameter is not None:
        value = _number(f"{place}: {parameter}", row.get(parameter, DEFAULTS[parameter]))
        if parameter == "loss_ratio" and not 0 <= value <= 1:
            raise BadStory(f"{place}: loss_ratio is {value:g}; it goes from 0 to 1")
    ids = tuple(site.id for site in struck)
    return Event(str(row.get("id", number)), at_s, lasts_s, what, ids, value, points)


def _struck(
    place: str, row: Mapping[str, object], sites: Sequence[Site]
) -> tuple[list[Site], tuple[str, ...]]:
    by = [target for target in TARGETS if target in row]
    if len(by) != 1:
        raise BadStory(f"{place}: say whom it strikes, by one of {', '.join(TARGETS)}")
    target = str(row[by[0]])
    points: tuple[str, ...] = ()
    if by[0] == "access_point":
        target, _, point = target.partition("/")
        points = (point,)
        struck = [site for site in sites if site.id == target and point in points_of(site)]
    else:
        column = "id" if by[0] == "site" else by[0]
        struck = [site for site in sites if getattr(site, column) == target]
    if not struck:
        raise BadStory(f"{place}: no site in the registry has {by[0]} {row[by[0]]!r}")
    return struck, points


def points_of(site: Site) -> tuple[str, ...]:
    """The access points of a site; one, where the registry names none."""
    return site.access_points or ("ap-1",)


def _number(place: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number is refused below
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (0 <= number < 1e9):
        raise BadStory(f"{place} is {value!r}; it has to be a number from 0 on")
    return number


def made_up(seed: int, sites: Sequence[Site], *, events: int, over_s: float) -> Story:
    """A random story: the same arguments give the same one."""
    chance = random.Random(f"story {seed}")  # noqa: S311  # repeatable, not secret
    made = []
    for number in range(1, events + 1):
        of_many = chance.random() < _MANY_RATIO
        what = chance.choice([one for one in EVENTS if (one in OF_MANY) == of_many])
        site = chance.choice(sites)
        struck = [site]
        if what in OF_MANY:
            shared = getattr(site, OF_MANY[what])
            struck = [one for one in sites if getattr(one, OF_MANY[what]) == shared]
        made.append(
            Event(
                f"e{number:04d}",
                round(chance.uniform(0, 0.8 * over_s), 1),
                round(min(chance.uniform(*_RANDOM_LASTS_S), over_s), 1),
                what,
                tuple(one.id for one in struck),
                DEFAULTS[EVENTS[what] or "offset_s"] if EVENTS[what] else 0.0,
            )
        )
    return Story(tuple(sorted(made, key=lambda event: event.at_s)))
