"""What makes a living site degraded: thresholds with hysteresis. Pure.

Each trouble counts, over live windows, how many in a row were bad or good.
A window that did not measure it leaves its count as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType

from agent.wire import RUNGS, Echoes, Reading
from server.model import Kind, Rules

KINDS = (Kind.SITE_DEGRADED, Kind.ACCESS_POINT_OFFLINE, Kind.AGENT_PROBLEM)
"""The kinds of incident that troubles open."""

Judgement = Literal["bad", "between", "good"]


class Count(Struct, frozen=True, omit_defaults=True):
    """How one trouble stands. `text` is that of the window that raised it."""

    name: str
    kind: Kind
    bad: int = 0
    good: int = 0
    text: str = ""  # not empty while raised


class Finding(NamedTuple):
    """What one window says of one trouble."""

    name: str
    kind: Kind
    judgement: Judgement
    text: str


def raised(counts: tuple[Count, ...]) -> list[tuple[Kind, str]]:
    """The troubles that stand, each with its kind and its text."""
    return [(count.kind, count.text) for count in counts if count.text]


def count(counts: tuple[Count, ...], reading: Reading, rules: Rules) -> tuple[Count, ...]:
    """The counts after one more live window; the same object when nothing changed."""
    findings = {finding.name: finding for finding in _findings(reading, rules)}
    if not counts and all(finding.judgement == "good" for finding in findings.values()):
        return counts
    known = {one.name: one for one in counts}
    after = []
    for name in [*known, *(name for name in findings if name not in known)]:
        one = known.get(name)
        finding = findings.get(name)
        if finding is not None:
            one = _next(one or Count(name, finding.kind), finding, rules)
        if one is not None and (one.bad or one.text):
            after.append(one)
    return tuple(after)


def _next(one: Count, finding: Finding, rules: Rules) -> Count:
    if finding.judgement == "bad":
        bad = one.bad + 1
        text = one.text or (finding.text if bad >= rules.raise_windows else "")
        return Count(one.name, one.kind, bad, 0, text)
    if finding.judgement == "good":
        good = one.good + 1
        text = "" if good >= rules.clear_windows else one.text
        return Count(one.name, one.kind, 0, good, text)
    return Count(one.name, one.kind, 0, 0, one.text)


def _findings(reading: Reading, rules: Rules) -> Iterator[Finding]:
    for rung in RUNGS:
        verdict = getattr(reading.ladder, rung)
        if verdict is not UNSET:
            yield Finding(
                rung, Kind.SITE_DEGRADED, "bad" if verdict == "fail" else "good", f"{rung} failing"
            )
    if reading.ping is not UNSET:
        yield from _loss("domestic", reading.ping.domestic, rules)
        yield from _loss("world", reading.ping.world, rules)
        yield from _rtt(reading.ping.domestic, rules)
    if reading.access_points is not UNSET:
        for name, point in reading.access_points.items():
            yield Finding(
                f"access point {name}",
                Kind.ACCESS_POINT_OFFLINE,
                "good" if point.reachable else "bad",
                f"access point {name} unreachable",
            )
    yield from _host(reading, rules)


def _loss(rung: str, echoes: Echoes | UnsetType, rules: Rules) -> Iterator[Finding]:
    if echoes is UNSET or echoes.loss_ratio is UNSET or not _enough(echoes, rules):
        return
    value = echoes.loss_ratio
    yield Finding(
        f"loss to {rung}",
        Kind.SITE_DEGRADED,
        _judge(value, rules.loss_raise_ratio, rules.loss_clear_ratio),
        f"loss_ratio to {rung} {value:.2f} above {rules.loss_raise_ratio:g}",
    )


def _rtt(echoes: Echoes | UnsetType, rules: Rules) -> Iterator[Finding]:
    if echoes is UNSET or echoes.rtt_p50_ms is UNSET or not _enough(echoes, rules):
        return
    value = echoes.rtt_p50_ms
    yield Finding(
        "rtt to domestic",
        Kind.SITE_DEGRADED,
        _judge(value, rules.rtt_raise_ms, rules.rtt_clear_ms),
        f"rtt_p50_ms to domestic {value:.0f} above {rules.rtt_raise_ms:g}",
    )


def _host(reading: Reading, rules: Rules) -> Iterator[Finding]:
    if reading.host is UNSET:
        return
    value = reading.host.temperature_c
    if value is not UNSET:
        yield Finding(
            "temperature",
            Kind.AGENT_PROBLEM,
            _judge(value, rules.temperature_raise_c, rules.temperature_clear_c),
            f"temperature_c {value:.0f} above {rules.temperature_raise_c:g}",
        )
    if reading.host.undervoltage is not UNSET:
        judgement: Judgement = "bad" if reading.host.undervoltage else "good"
        yield Finding("undervoltage", Kind.AGENT_PROBLEM, judgement, "undervoltage")


def _enough(echoes: Echoes, rules: Rules) -> bool:
    return echoes.sent is not UNSET and echoes.sent >= rules.min_echoes


def _judge(value: float, raise_above: float, clear_at: float) -> Judgement:
    if value > raise_above:
        return "bad"
    return "good" if value <= clear_at else "between"
