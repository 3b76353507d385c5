"""Stories as files: `story.toml`, and the `sites.csv` beside it. Pure but for `read`."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.truth.story import OF_CENTRE, OF_GROUP, OF_SITE, Event, Story, sites_of

_TARGETS = ("site", "isp", "backhaul", "power_area", "district", "access_point")


class BadStory(Exception):
    """The story cannot be played; the text is one line."""


def to_csv(sites: list[dict[str, str]]) -> str:
    """What `pantau sites import` takes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(sites[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sites)
    return text.getvalue()


def to_toml(story: Story, sites_file: str, begins_at: str | None = None) -> str:
    """The story file; the sites stand beside it, in `sites_file`.

    Args:
        begins_at: when story time 0 is, RFC 3339.
    """
    return "\n".join(_lines(story, sites_file, begins_at)) + "\n"


def _quoted(text: str) -> str:
    return f'"{text}"'


def _lines(story: Story, sites_file: str, begins_at: str | None) -> Iterator[str]:
    yield f"seed = {story.seed}"
    yield f"start_after_s = {story.start_after_s}"
    yield from ("", "[fleet]", f'sites = "{sites_file}"')
    yield f"real = [{', '.join(map(_quoted, story.real))}]"
    if begins_at is not None:
        yield f"begins_at = {_quoted(begins_at)}"
    for event in story.events:
        yield from ("", "[[event]]", f'id = "{event.id}"', f"at_s = {event.at_s}")
        if event.lasts_s is not None:
            yield f"lasts_s = {event.lasts_s}"
        yield f'what = "{event.what}"'
        if event.by:
            yield f'{event.by} = "{event.target}"'
        yield from (f"{name} = {value}" for name, value in event.parameters.items())


def read(file: Path) -> Story:
    """A story file, with the sites that it names.

    Raises:
        BadStory: see `from_toml`; or it names no list of sites.
        OSError: a file is not there.
    """
    text = file.read_text()
    try:
        name = tomllib.loads(text)["fleet"]["sites"]
    except tomllib.TOMLDecodeError as err:
        raise BadStory(f"the story is no TOML: {err}") from None
    except (KeyError, TypeError):
        raise BadStory('the story lacks [fleet] sites = "sites.csv"') from None
    if not isinstance(name, str):
        raise BadStory(f"[fleet] sites is {name!r}; it has to name a file")
    with (file.parent / name).open() as sites:
        return from_toml(text, list(csv.DictReader(sites)))


def from_toml(text: str, sites: list[dict[str, str]]) -> Story:
    """Read a story for these sites.

    Raises:
        BadStory: no TOML, an unknown event, or one that strikes nobody.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise BadStory(f"the story is no TOML: {err}") from None
    try:
        events = [_event(row) for row in raw.get("event", [])]
        real = tuple(raw.get("fleet", {}).get("real", []))
        story = Story(raw["seed"], float(raw["start_after_s"]), sites, events, real)
    except (KeyError, TypeError, ValueError) as err:
        raise BadStory(f"the story lacks or misplaces {err}") from None
    columns = sites[0].keys() if sites else set()
    for event in events:
        if event.by not in (*columns, "access_point", ""):
            raise BadStory(f"event {event.id}: the list of sites has no column {event.by}")
        if event.by and not sites_of(event, sites):
            raise BadStory(f"event {event.id}: no site has {event.by} {event.target!r}")
    return story


def _event(row: dict[str, Any]) -> Event:
    what = row["what"]
    if what not in (*OF_SITE, *OF_GROUP, *OF_CENTRE):
        raise BadStory(f"event {row['id']}: unknown event {what!r}")
    by = next((name for name in _TARGETS if name in row), "")
    if not by and what not in OF_CENTRE:
        raise BadStory(f"event {row['id']}: {what} of whom? one of {', '.join(_TARGETS)}")
    if by and what in OF_CENTRE:
        raise BadStory(f"event {row['id']}: {what} strikes the centre; take out {by}")
    if what in OF_CENTRE and "lasts_s" not in row:
        raise BadStory(f"event {row['id']}: {what} needs lasts_s: the centre comes back")
    known = {"id", "at_s", "lasts_s", "what", by}
    lasts_s = None if "lasts_s" not in row else float(row["lasts_s"])
    rest = {name: float(value) for name, value in row.items() if name not in known}
    return Event(row["id"], float(row["at_s"]), lasts_s, what, by, row.get(by, ""), rest)
