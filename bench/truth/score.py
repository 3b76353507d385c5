"""Holds what was heard over MQTT and what stands in the ledger against the truth. Pure.

An alert belongs to an event when it is of a kind that the event brings, about one of its sites,
and was confirmed while the event lasted (or `LATE_S` after). What belongs to none is false.
Where the centre was broken, an outage may be told after its end, until the agent has
connected again (`RECONNECT_S`): that is counted apart, as late.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.truth.ending import (
    EARLY_S,
    LATE_S,
    RECONNECT_S,
    Heard,
    Json,
    Watch,
    after,
    others,
    seconds,
    strikes,
    too_many,
)
from bench.truth.truth import Expected, down_s

_FAULTS = ("not_played", "missed", "false", "unresolved", "early", "repeated")


@dataclass
class Score:
    """What the run was worth. `faults` empty: nothing fell short in kind (times are apart)."""

    events: int = 0
    detection_s: dict[str, list[float]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    not_played: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    disturbed_s: dict[str, list[float]] = field(default_factory=dict)
    causes: dict[str, dict[str, int]] = field(default_factory=dict)
    cause_wrong: list[str] = field(default_factory=list)
    cause_judged: int = 0
    group_precision: list[float] = field(default_factory=list)
    group_recall: list[float] = field(default_factory=list)
    alerts_per_event: dict[str, int] = field(default_factory=dict)
    availability_error_s: dict[str, float] = field(default_factory=dict)
    unseen_s: float = 0.0  # of lost supply, while we were away: charged to nobody

    @property
    def faults(self) -> list[str]:
        """What makes the run fail, a line each."""
        return [f"{name}: {line}" for name in _FAULTS for line in getattr(self, name)]

    @property
    def cause_right_ratio(self) -> float | None:
        """Of the events whose cause is judged; None where there was none."""
        if not self.cause_judged:
            return None
        return 1 - len(self.cause_wrong) / self.cause_judged


def score(
    expected: list[Expected],
    played: dict[str, tuple[float, float | None]],
    heard: Iterable[Heard],
    ledger: Iterable[Json],
    watch: Watch,
) -> Score:
    """Score every event.

    Args:
        played: when each event really began and ended, from the simulator's journal.
        heard: every alert publication.
        ledger: `pantau incidents --json`.
        watch: when the ledger was read, and when the centre was broken.
    """
    result = Score(events=len(expected))
    result.not_played = [one.event for one in expected if one.event not in played]
    alerts, incidents = list(heard), list(ledger)
    explained: set[str] = set()
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    struck = strikes(expected, played)
    for one in expected:
        if one.event not in played:
            continue
        began, ended = span = played[one.event]
        near = [h for h in alerts if _belongs(h.alert, one, began, ended)]
        result.alerts_per_event[one.event] = len({h.alert["id"] for h in near})
        if one.incident is None:
            continue  # what it brought stays unexplained, and is false below
        kinds = (one.incident, *_alone(one))
        told = [h for h in near if h.alert["kind"] in kinds]
        mine = [i for i in incidents if i["kind"] in kinds and _belongs(i, one, began, ended)]
        explained |= {h.alert["id"] for h in told} | {i["id"] for i in mine}
        fitting = [i for i in mine if i["kind"] == one.incident]
        if not one.calm and ended is not None:
            for item in [*incidents, *(h.alert for h in alerts)]:
                if item["id"] not in explained and _is_late(item, one, ended):
                    explained.add(item["id"])
                    result.late.append(f"{_line(item)}: {one.event} {one.what}")
                    mine += [i for i in incidents if i["id"] == item["id"]]
        result.repeated += too_many(
            one, [i for i in mine if i["kind"] == one.incident], told, span, watch
        )
        for incident in mine:
            of_it = [h for h in alerts if h.alert["id"] == incident["id"]]
            beside = others(one, incident, struck)
            for what, line in after(one, incident, of_it, span, watch, beside):
                getattr(result, what).append(line)
        first = min((h.at for h in told), default=None)
        if first is not None:
            samples = result.detection_s if one.calm else result.disturbed_s
            samples.setdefault(one.what, []).append(round(first - began, 3))
        if not fitting or first is None:
            kept = result.missed if one.sure else result.hidden
            kept.append(f"{one.event} {one.what} of {_whom(one)}")
        if one.incident == "group_outage":
            _group(result, one, fitting)
        if one.cause_judged and fitting:
            _cause(result, one, fitting[-1], confusion)
    for item in [*incidents, *(h.alert for h in alerts)]:
        line = _line(item)
        if item["id"] not in explained and line not in result.false:
            result.false.append(line)
    result.causes = {true: dict(said) for true, said in confusion.items()}
    return result


def _alone(one: Expected) -> tuple[str, ...]:
    """A group may first be told as its members."""
    return ("site_offline",) if one.incident == "group_outage" else ()


def _whom(one: Expected) -> str:
    return one.sites[0] if len(one.sites) == 1 else f"{len(one.sites)} sites"


def _belongs(item: Json, one: Expected, began: float, ended: float | None) -> bool:
    if not set(item["sites"]) & set(one.sites):
        return False
    confirmed = seconds(item["detected_at"])
    return began - EARLY_S <= confirmed and (ended is None or confirmed <= ended + LATE_S)


def _is_late(item: Json, one: Expected, ended: float) -> bool:
    told = item["kind"] in (one.incident, *_alone(one))
    here = bool(set(item["sites"]) & set(one.sites))
    confirmed = seconds(item["detected_at"])
    return told and here and ended + LATE_S < confirmed <= ended + RECONNECT_S


def _line(item: Json) -> str:
    return f"{item['kind']} {item['id']} of {', '.join(item['sites'][:3])}"


def _group(result: Score, one: Expected, groups: list[Json]) -> None:
    found = {site for group in groups for site in group["sites"]}
    true = set(one.sites)
    result.group_recall.append(len(found & true) / len(true))
    if found:
        result.group_precision.append(len(found & true) / len(found))


def _cause(
    result: Score, one: Expected, incident: Json, confusion: dict[str, Counter[str]]
) -> None:
    said = (incident.get("cause") or {}).get("verdict", "unknown")
    confusion[str(one.cause)][said] += 1
    result.cause_judged += 1
    right = said == one.cause or (said == "unknown" and not one.evidence)
    if not right:
        result.cause_wrong.append(f"{one.event} {one.what}: {one.cause}, was called {said}")


def availability(
    expected: list[Expected], reported_down_s: dict[str, float], begin_s: float, end_s: float
) -> dict[str, float]:
    """Reported less true seconds of down, by site; every reported site is judged.

    Args:
        expected: with `from_s`, `to_s` on the same clock as `begin_s`, `end_s`.
        reported_down_s: of every site of the report.
    """
    true = down_s(expected, begin_s, end_s)
    return {site: round(said - true.get(site, 0.0), 3) for site, said in reported_down_s.items()}


def percentile(samples: list[float], ratio: float) -> float:
    """The smallest sample that `ratio` of all do not exceed."""
    ordered = sorted(samples)
    rank = max(0, -(-len(ordered) * round(ratio * 1000) // 1000) - 1)
    return ordered[rank]


def table(result: Score) -> str:
    """The score for people."""
    lines = [f"events {result.events}, not played {len(result.not_played)}", ""]
    for title, times in (
        ("detection, s", result.detection_s),
        ("the same, we were away", result.disturbed_s),
    ):
        if times:
            lines.append(f"{title:22}{'n':>5}{'p50':>8}{'p95':>8}{'max':>8}")
        for what, samples in sorted(times.items()):
            cells = [percentile(samples, 0.5), percentile(samples, 0.95), max(samples)]
            lines.append(f"{what:22}{len(samples):5}" + "".join(f"{cell:8.1f}" for cell in cells))
    right = result.cause_right_ratio
    worst = max(result.availability_error_s.values(), key=abs, default=0.0)
    total_min = sum(map(abs, result.availability_error_s.values())) / 60
    lines += [
        "",
        f"missed {len(result.missed)}, false {len(result.false)}, late {len(result.late)}",
        f"unresolved {len(result.unresolved)}, resolved early {len(result.early)}",
        f"told more than once {len(result.repeated)}",
        f"over before we could tell: {len(result.hidden)}",
        f"cause right {'-' if right is None else f'{right:.3f}'} of {result.cause_judged}",
        *(f"  {true:13} was called {said}" for true, said in sorted(result.causes.items())),
        f"group precision {_mean(result.group_precision)}, recall {_mean(result.group_recall)}",
        f"alerts for each event: {_spread(result.alerts_per_event.values())}",
        f"availability: {total_min:.2f} min of error in all, worst site {worst:+.1f} s",
        f"supply lost and back in our absence, charged to nobody: {result.unseen_s / 60:.1f} min",
    ]
    for name in (*_FAULTS, "late", "hidden", "cause_wrong"):
        lines += [f"{name}: {line}" for line in getattr(result, name)]
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else "-"


def _spread(values: Iterable[int]) -> str:
    counted = Counter(values)
    return ", ".join(f"{alerts} of {counted[alerts]}" for alerts in sorted(counted))
