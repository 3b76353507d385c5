"""What makes a living site degraded: thresholds with hysteresis. Pure.

Each trouble counts, over live windows, how many in a row were bad or good.
A window that did not measure it leaves its count as it was, until it is forgotten
(`server.untried`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import astuple, replace

from agent.wire import RUNGS, Echoes, Host, Reading
from server import untried
from server.events import Amended, Event, Opened, Resolved
from server.model import Cause, Kind, Rules

KINDS = (Kind.SITE_DEGRADED, Kind.ACCESS_POINT_OFFLINE, Kind.AGENT_PROBLEM)
"""The kinds of incident that troubles open."""

_THROUGHPUT = "throughput"
_POINT = "access point "
_TESTS_RUNNING = 2
"""Tests of throughput are rare: two in a row decide."""
_FAILING = {rung: f"{rung} failing" for rung in RUNGS}
_MEASURED_BY = {
    "carrier": "link",
    "loss to domestic": "domestic",
    "loss to world": "world",
    "rtt to domestic": "domestic",
    "temperature": "host",
    "undervoltage": "host",
}
"""By the trouble's name, where the probe or rung that errors name is called otherwise."""

Judgement = Literal["bad", "between", "good"]


class Count(Struct, frozen=True, omit_defaults=True):
    """How one trouble stands. `text` is that of the window that raised it."""

    name: str
    kind: Kind
    bad: int = 0
    good: int = 0
    text: str = ""  # not empty while raised
    since: float = 0.0  # when the first of its bad windows in a row began
    untried: int = 0  # windows in a row that did not even try to measure it


class Finding(NamedTuple):
    """What one window says of one trouble."""

    name: str
    kind: Kind
    judgement: Judgement
    pattern: str  # its text, with {value} and {limit}
    value: float = 0.0
    limit: float = 0.0
    running: int = 0  # so many in a row decide; 0: as the rules say

    def text(self) -> str:
        """The reason as an operator reads it."""
        return self.pattern.format(value=self.value, limit=self.limit)


def raised(counts: tuple[Count, ...]) -> list[tuple[Kind, str]]:
    """The troubles that stand, each with its kind and its text."""
    return [(count.kind, count.text) for count in counts if count.text]


def points_away(counts: tuple[Count, ...]) -> list[str]:
    """The access points whose absence is confirmed."""
    return [one.name.removeprefix(_POINT) for one in counts if one.text and _is_point(one)]


def _is_point(one: Count) -> bool:
    return one.kind is Kind.ACCESS_POINT_OFFLINE


def count(
    counts: tuple[Count, ...], reading: Reading, rules: Rules, now: float
) -> tuple[Count, ...]:
    """The counts after one more live window; the same object when nothing changed."""
    if counts and not rules.floor_down_mbps:  # there may have been one
        counts = tuple([one for one in counts if one.name != _THROUGHPUT])
    if counts and reading.access_points is not UNSET:  # one that is taken out is no trouble
        there = {_POINT + name for name in reading.access_points}
        counts = tuple([one for one in counts if not _is_point(one) or one.name in there])
    if not counts and _calm(reading, rules):
        return counts
    known = {one.name: one for one in counts}
    findings = {
        finding.name: finding
        for finding in _findings(reading, rules)
        if finding.judgement != "good" or finding.name in known
    }
    after = []
    for name in [*known, *(name for name in findings if name not in known)]:
        one = known.get(name)
        finding = findings.get(name)
        if finding is not None:
            one = _next(one or Count(name, finding.kind), finding, rules, now - reading.window_s)
        elif one is not None:
            one = _unmeasured(one, reading)
        if one is not None and (one.bad or one.text):
            after.append(one)
    return tuple(after)


def events(
    before: tuple[Count, ...],
    after: tuple[Count, ...],
    now: float,
    of_points: Cause | None = None,
) -> list[Event]:
    """What follows when the troubles that stand are others than before.

    It opened when the first window began that shows it, which is the last moment at which
    all may have been well.

    Args:
        before: the counts as they were.
        after: as they are now.
        now: the server's time.
        of_points: why access points are away, by the reading that shows it.
    """
    found: list[Event] = []
    for kind in KINDS:
        had = tuple(text for of, text in raised(before) if of is kind)
        has = tuple(text for of, text in raised(after) if of is kind)
        cause = of_points if kind is Kind.ACCESS_POINT_OFFLINE else None
        if has and not had:
            began = min(one.since or now for one in after if one.text and one.kind is kind)
            found.append(Opened(kind, began, now, has, cause))
        elif had and not has:
            found.append(Resolved(kind, now))
        elif had != has:
            found.append(Amended(kind, has, cause))
    return found


def _next(one: Count, finding: Finding, rules: Rules, began_at: float) -> Count:
    standing_since = one.since if one.text else 0.0
    if finding.judgement == "bad":
        bad = one.bad + 1
        enough = bad >= (finding.running or rules.raise_windows)
        text = one.text or (finding.text() if enough else "")
        return Count(one.name, one.kind, bad, 0, text, one.since or began_at)
    if finding.judgement == "good":
        good = one.good + 1
        text = "" if good >= (finding.running or rules.clear_windows) else one.text
        return Count(one.name, one.kind, 0, good, text, standing_since)
    return Count(one.name, one.kind, 0, 0, one.text, standing_since)


def _unmeasured(one: Count, reading: Reading) -> Count | None:
    """After a window that found nothing of it; None once the agent measures it no more."""
    if one.name == _THROUGHPUT:  # tests are rare; it goes with its floor
        return one
    probe = "access_points" if _is_point(one) else _MEASURED_BY.get(one.name, one.name)
    windows = untried.count(one.untried, probe, reading)
    return None if windows is None else replace(one, untried=windows)


def _calm(reading: Reading, rules: Rules) -> bool:
    """Whether nothing is beyond a clear threshold, so that every finding would be good.

    Nearly every reading is, and this costs a fifth of listing the findings.
    """
    if "fail" in astuple(reading.ladder):
        return False
    if reading.ping is not UNSET:
        for echoes in (reading.ping.domestic, reading.ping.world):
            if echoes is UNSET:
                continue
            if echoes.loss_ratio is not UNSET and echoes.loss_ratio > rules.loss_clear_ratio:
                return False
            if echoes.rtt_p50_ms is not UNSET and echoes.rtt_p50_ms > rules.rtt_clear_ms:
                return False
    points = reading.access_points
    if points is not UNSET and any(point.reachable is False for point in points.values()):
        return False
    if _is_slow(reading, rules):
        return False
    host = reading.host
    if host is UNSET:
        return True
    hot = host.temperature_c is not UNSET and host.temperature_c > rules.temperature_clear_c
    return not hot and host.undervoltage is not True


def _findings(reading: Reading, rules: Rules) -> Iterator[Finding]:
    ladder = reading.ladder
    for rung in RUNGS:
        verdict = getattr(ladder, rung)
        if verdict is not UNSET:
            judgement: Judgement = "good" if verdict == "ok" else "bad"
            yield Finding(rung, Kind.SITE_DEGRADED, judgement, _FAILING[rung])
    ping = reading.ping
    if ping is not UNSET:
        yield from _loss("domestic", ping.domestic, rules)
        yield from _loss("world", ping.world, rules)
        yield from _rtt(ping.domestic, rules)
    if reading.access_points is not UNSET:
        for name, point in reading.access_points.items():
            if point.reachable is UNSET:
                continue
            judgement = "good" if point.reachable else "bad"
            text = f"access point {name} unreachable".replace("{", "(").replace("}", ")")
            yield Finding(_POINT + name, Kind.ACCESS_POINT_OFFLINE, judgement, text)
    yield from _throughput(reading, rules)
    if reading.host is not UNSET:
        yield from _host(reading.host, rules)


def _loss(rung: str, echoes: Echoes | UnsetType, rules: Rules) -> Iterator[Finding]:
    if echoes is UNSET or echoes.loss_ratio is UNSET or not _enough(echoes, rules):
        return
    above = rules.loss_raise_ratio
    yield Finding(
        f"loss to {rung}",
        Kind.SITE_DEGRADED,
        _judge(echoes.loss_ratio, above, rules.loss_clear_ratio),
        f"loss_ratio to {rung} {{value:.2f}} above {{limit:g}}",
        echoes.loss_ratio,
        above,
    )


def _rtt(echoes: Echoes | UnsetType, rules: Rules) -> Iterator[Finding]:
    if echoes is UNSET or echoes.rtt_p50_ms is UNSET or not _enough(echoes, rules):
        return
    above = rules.rtt_raise_ms
    yield Finding(
        "rtt to domestic",
        Kind.SITE_DEGRADED,
        _judge(echoes.rtt_p50_ms, above, rules.rtt_clear_ms),
        "rtt_p50_ms to domestic {value:.0f} above {limit:g}",
        echoes.rtt_p50_ms,
        above,
    )


def _throughput(reading: Reading, rules: Rules) -> Iterator[Finding]:
    tested, floor = reading.throughput, rules.floor_down_mbps
    if tested is UNSET or tested.down_mbps is UNSET or not floor:
        return
    yield Finding(
        _THROUGHPUT,
        Kind.SITE_DEGRADED,
        "bad" if _is_slow(reading, rules) else "good",
        "down_mbps {value:.1f} below {limit:g}",
        tested.down_mbps,
        floor,
        _TESTS_RUNNING,
    )


def _is_slow(reading: Reading, rules: Rules) -> bool:
    """Whether a test of throughput stayed below the floor."""
    tested = reading.throughput
    return (
        tested is not UNSET
        and tested.down_mbps is not UNSET
        and tested.down_mbps < rules.floor_down_mbps
    )


def _host(host: Host, rules: Rules) -> Iterator[Finding]:
    if host.temperature_c is not UNSET:
        above = rules.temperature_raise_c
        yield Finding(
            "temperature",
            Kind.AGENT_PROBLEM,
            _judge(host.temperature_c, above, rules.temperature_clear_c),
            "temperature_c {value:.0f} above {limit:g}",
            host.temperature_c,
            above,
        )
    if host.undervoltage is not UNSET:
        judgement: Judgement = "bad" if host.undervoltage else "good"
        yield Finding("undervoltage", Kind.AGENT_PROBLEM, judgement, "undervoltage")


def _enough(echoes: Echoes, rules: Rules) -> bool:
    return echoes.sent is not UNSET and echoes.sent >= rules.min_echoes


def _judge(value: float, raise_above: float, clear_at: float) -> Judgement:
    if value > raise_above:
        return "bad"
    return "good" if value <= clear_at else "between"
