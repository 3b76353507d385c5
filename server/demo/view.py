"""The demo's screen, drawn from what came over MQTT. Pure: one function makes one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import UNSET
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agent import wire
from server.demo.picture import Picture, State
from server.demo.story import Beat, Outcome
from server.model import Site, Status

_COLOURS = {
    Status.ONLINE: "green",
    Status.DEGRADED: "yellow",
    Status.OFFLINE: "red",
    Status.UNKNOWN: "bright_black",
}
_NO_REASON = dict.fromkeys(Status, "") | {Status.UNKNOWN: "never heard from"}
_WIDE_COLUMNS = 100
"""From this width on a site's district and ISP are shown."""
_FIXED_ROWS = 9
"""Rows that are neither story, sites nor alerts: header, counts, bar, rules, agent, hints."""
_STORY_ROWS = 3
_TALL_ROWS = 36
"""From this height on the whole story is shown."""


@dataclass(frozen=True)
class Scene:
    """Everything that one frame shows.

    Attributes:
        elapsed_s: since the story's begin; negative while things start.
        outcomes: by beat name, of the beats that expect alerts.
        verdict: one line, once the story is told.
    """

    now: float
    elapsed_s: float
    story_s: float
    picture: Picture
    beats: Sequence[Beat]
    outcomes: dict[str, Outcome]
    verdict: str | None
    try_next: str
    timezone: str


@cache
def zone(name: str) -> ZoneInfo | None:
    """A time zone, None where the system does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def clock(epoch_s: float, timezone: str) -> str:
    """A time of day with the name of its zone.

    >>> clock(0, "Asia/Makassar")
    '08:00:00 WITA'
    """
    return f"{datetime.fromtimestamp(epoch_s, zone(timezone) or UTC):%H:%M:%S %Z}"


def frame(scene: Scene, *, width: int, height: int) -> RenderableType:
    """One frame for a terminal of that size."""
    story = _story(scene, whole=height >= _TALL_ROWS)
    room = max(4, height - _FIXED_ROWS - story.row_count)
    worst = scene.picture.worst()
    for_sites = max(2, min(len(worst) or 1, room * 3 // 5))
    for_alerts = max(2, room - for_sites)
    return Group(
        _header(scene, width),
        _counts(scene.picture, width),
        _bar(scene.picture, width),
        _rule(_progress(scene)),
        story,
        _rule(f"Not online: {len(worst)}, since when, and why"),
        _sites(scene, worst, rows=for_sites, width=width),
        _rule(f"Alerts over MQTT: {len(scene.picture.alerts)}"),
        _alerts(scene, for_alerts),
        _rule("This machine, measured by a real agent"),
        _agent(scene.picture),
        _line(("Try next  ", "bold"), (scene.try_next, "cyan")),
    )


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _rule(title: str) -> Rule:
    return Rule(Text(title, "bold"), align="left", style="bright_black")


def _minutes(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def _progress(scene: Scene) -> str:
    if scene.verdict:
        return f"Story told: {scene.verdict}. Ctrl-C ends"
    return f"Story {_minutes(scene.elapsed_s)} of {_minutes(scene.story_s)}, Ctrl-C ends"


def _header(scene: Scene, width: int) -> Text:
    time = clock(scene.now, scene.timezone)
    title = f" Pantau demo: {len(scene.picture.sites) - 1} simulated sites and this machine"
    return Text(f"{title[: width - len(time) - 2].ljust(width - len(time) - 1)}{time} ", "reverse")


def _counts(picture: Picture, width: int) -> Text:
    total = len(picture.sites)
    counts = picture.counts()
    column = width // len(counts)
    text = Text(no_wrap=True, overflow="ellipsis")
    for status, count in counts.items():
        cell = f" {count:>3} {status} {count / total:.0%}"
        text.append(cell.ljust(column), f"bold {_COLOURS[status]}" if count else "bright_black")
    return text


def _bar(picture: Picture, width: int) -> Text:
    total = len(picture.sites)
    text = Text(" ", no_wrap=True)
    begun, drawn = 0, 0
    for status, count in picture.counts().items():
        begun += count
        cells = round(begun / total * (width - 2)) - drawn
        text.append("━" * cells, _COLOURS[status])
        drawn += cells
    return text


def _story(scene: Scene, *, whole: bool) -> Table:
    """The whole story with what came of it, or what happened last and comes next."""
    shown = list(scene.beats)
    if not whole:
        past = sum(beat.at_s <= scene.elapsed_s for beat in shown)
        first = min(max(0, past - 2), len(shown) - _STORY_ROWS)
        shown = shown[first : first + _STORY_ROWS]
    table = _table(1, 0)
    for beat in shown:
        table.add_row(*_beat(scene, beat))
    return table


def _beat(scene: Scene, beat: Beat) -> tuple[Text, Text]:
    outcome = scene.outcomes.get(beat.name)
    mark, style, came = "•", "", ""
    if beat.at_s > scene.elapsed_s:
        mark, style = "·", "bright_black"
    elif outcome:
        mark, style = ("✓", "green") if outcome.met else ("…", "bold yellow")
        came = _came(outcome)
    return Text(f" {mark} {_minutes(beat.at_s):>4}  {beat.text}", style), Text(came, style)


def _came(outcome: Outcome) -> str:
    expected = outcome.beat.expected
    if expected is None:
        return f"{len(outcome.after_s)} alerts"
    if not outcome.met:
        return f"{len(outcome.after_s)} of {len(outcome.beat.sites)} alerts"
    what = "resolved" if expected.status == "resolved" else "alert"
    cause = f", cause {expected.cause}" if expected.cause else ""
    return f"{what} in {outcome.after_s[-1]} s{cause}"


def _sites(scene: Scene, worst: list[State], *, rows: int, width: int) -> Table:
    table = _table(0, 0, 1)
    shown = worst if len(worst) <= rows else worst[: rows - 1]
    for state in shown:
        site = scene.picture.sites.get(state.site)
        colour = _COLOURS[state.status]
        since = _time_of(state.since, site)
        place = f"{site.district}, {site.isp}: " if site else ""
        why = "; ".join(state.reasons) or _NO_REASON[state.status]
        table.add_row(
            Text(f" {state.site}", colour),
            Text(f"{state.status:<8} {since}", colour),
            Text.assemble((place if width >= _WIDE_COLUMNS else "", "dim"), why),
        )
    if len(shown) < len(worst):
        table.add_row(Text(f" and {len(worst) - len(shown)} more", "dim"))
    if not worst:
        table.add_row(Text(" every site is online", "dim"))
    _fill(table, rows)
    return table


def _alerts(scene: Scene, rows: int) -> Table:
    table = _table(0, 0, 1)
    for alert in list(reversed(scene.picture.alerts))[:rows]:
        cause = f": {alert.cause.verdict}" if alert.cause.verdict != "unknown" else ""
        table.add_row(
            Text(f" {clock(alert.seen_at, scene.timezone)}", "dim"),
            Text(f"{alert.status}{cause}", "green" if alert.status == "resolved" else "bold red"),
            alert.title,
        )
    _fill(table, rows)
    return table


def _fill(table: Table, rows: int) -> None:
    for _ in range(rows - table.row_count):
        table.add_row("")


def _table(*ratios: int) -> Table:
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    for ratio in ratios:
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio or None)
    return table


def _time_of(text: str | None, site: Site | None) -> str:
    if text is None:
        return ""
    return clock(wire.epoch(text), site.timezone if site else "UTC")


def _agent(picture: Picture) -> Text:
    """The real agent's newest ladder, rung by rung."""
    reading = picture.reading
    if reading is None:
        return _line((" waiting for its first reading", "dim"))
    parts = [(f" #{reading.seq} ", "dim")]
    for rung in wire.RUNGS:
        verdict = getattr(reading.ladder, rung)
        if verdict is not UNSET:
            parts.append((f" {rung} {verdict}", "green" if verdict == "ok" else "red"))
    if reading.errors is not UNSET:
        parts += [(f"  {probe}: {error}", "yellow") for probe, error in reading.errors.items()]
    return _line(*parts)
