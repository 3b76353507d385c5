"""Of a story what befalls its real sites. Pure but for `read`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.truth import storyfile
from bench.truth.realdeeds import OF_AGENT
from bench.truth.realnet import MOST_SITES
from bench.truth.story import Event, sites_of
from bench.truth.storyfile import from_toml


class Refused(Exception):
    """It cannot begin; the text is one line."""


@dataclass(frozen=True)
class Plan:
    """What is to be played: the rows of the real sites, and what strikes which of them."""

    rows: list[dict[str, str]]
    events: list[tuple[Event, list[str]]]
    start_after_s: float
    begins_at: float | None


def plan(text: str, rows: list[dict[str, str]]) -> Plan:
    """Of a story file what befalls its real sites. Pure.

    Raises:
        Refused: no real sites, unknown ones, or too many.
        BadStory: the story cannot be played by anybody.
    """
    told = from_toml(text, rows)
    fleet = tomllib.loads(text).get("fleet", {})
    real = fleet.get("real", [])
    if not real:
        raise Refused('no site is real: name some, [fleet] real = ["sim-0001"]')
    known = {row["site"]: row for row in rows}
    if strangers := [site for site in real if site not in known]:
        raise Refused(f"[fleet] real names {strangers[0]!r}, which the registry does not have")
    if len(real) > MOST_SITES:
        raise Refused(f"[fleet] real names {len(real)} sites; {MOST_SITES} at most")
    begins_at = fleet.get("begins_at")
    try:
        begins = None if begins_at is None else datetime.fromisoformat(str(begins_at)).timestamp()
    except ValueError:
        raise Refused(f"[fleet] begins_at is {begins_at!r}; RFC 3339 is wanted") from None
    events = [
        (event, struck)
        for event in told.events
        if (struck := [site for site in sites_of(event, rows) if site in set(real)])
    ]
    _need_one_life(events)
    rows = [known[site] for site in dict.fromkeys(real)]
    return Plan(rows, events, told.start_after_s, begins)


def _need_one_life(events: list[tuple[Event, list[str]]]) -> None:
    """An agent that is dead or stands still cannot die."""
    free: dict[str, tuple[float, str]] = {}
    for event, struck in sorted(events, key=lambda one: one[0].at_s):
        if event.what not in OF_AGENT:
            continue
        for site in struck:
            from_s, before = free.get(site, (0.0, ""))
            if event.at_s < from_s:
                raise Refused(f"event {event.id}: the agent of {site} is down by {before} already")
            lasts_s = float("inf") if event.lasts_s is None else event.lasts_s
            free[site] = event.at_s + lasts_s, event.id


def read(file: Path) -> Plan:
    """The plan of a story file.

    Raises:
        Refused, BadStory: see `plan`.
        OSError: a file is not there.
    """
    return plan(file.read_text(), storyfile.read(file).sites)
