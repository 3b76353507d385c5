"""A run as it would be recorded from a Pantau without a fault, to be spoilt by the tests."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bench.truth import books
from bench.truth.ending import Heard, Watch
from bench.truth.score import Score, score
from bench.truth.story import BLIP_S, OF_GROUP, OF_SITE, Story, generate
from bench.truth.truth import Expected, down_s, expect

T0 = 1_800_000_000.0
RUN_S = 1800.0
WINDOW_S = 10.0
SETTLE_S = 90.0


@dataclass
class Recorded:
    """All that the judge is given of a run."""

    expected: list[Expected]
    played: dict[str, tuple[float, float | None]]
    heard: list[Heard] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    made: Counter[books.Name] = field(default_factory=Counter)
    kept: Counter[books.Name] = field(default_factory=Counter)
    down_s: dict[str, float] = field(default_factory=dict)
    absences: list[tuple[float, float]] = field(default_factory=list)

    def score(self) -> Score:
        """Judge it."""
        watch = Watch(WINDOW_S, T0 + RUN_S + SETTLE_S, self.absences)
        return score(self.expected, self.played, self.heard, self.ledger, watch)

    def books(self) -> list[str]:
        """Compare its readings and alerts."""
        return [
            *books.readings(self.made, self.kept, set()),
            *books.alerts(self.heard, self.ledger),
        ]


def faultless() -> Recorded:
    """A story in which Pantau did everything right, 40 s after each event."""
    story = _fitting()
    expected = expect(story, WINDOW_S)
    run = Recorded(
        expected,
        {
            one.event: (T0 + one.from_s, None if one.to_s is None else T0 + one.to_s)
            for one in expected
        },
    )
    for one in expected:
        if one.incident:
            _tell(run, one)
    for row in story.sites:
        for seq in range(1, 61):
            run.made[row["site"], f"stream-{row['site']}", seq] += 1
    run.kept = copy.copy(run.made)
    run.down_s = {row["site"]: 0.0 for row in story.sites} | down_s(expected, 0.0, RUN_S)
    return run


@functools.cache
def _fitting() -> Story:
    return next(filter(_tells_of_all, map(_story, range(100))))


def _story(seed: int) -> Story:
    return generate(seed, 200, minutes=RUN_S / 60, events=80, window_s=WINDOW_S)


def _tells_of_all(story: Story) -> bool:
    """Groups of every kind, blips, and outages for good."""
    blips = {e.what for e in story.events if e.lasts_s is not None and e.lasts_s <= BLIP_S[1]}
    return (
        {*OF_SITE, *OF_GROUP} <= {e.what for e in story.events}
        and {"cable_cut", "power_off"} <= blips
        and any(e.lasts_s is None for e in story.events)
    )


def _tell(run: Recorded, one: Expected) -> None:
    alert = {
        "id": f"a-{one.event}",
        "revision": 1,
        "status": "firing",
        "kind": one.incident,
        "sites": list(one.sites),
        "opened_at": _iso(one.from_s - 5),
        "detected_at": _iso(one.from_s + 40),
        "resolved_at": None,
        "cause": {"verdict": one.cause if one.evidence else "unknown"},
    }
    run.heard.append(Heard(T0 + one.from_s + 40.5, dict(alert)))
    if one.to_s is not None:
        alert |= {"revision": 2, "status": "resolved", "resolved_at": _iso(one.to_s)}
        run.heard.append(Heard(T0 + one.to_s + 3, dict(alert)))
    run.ledger.append(alert)


def _iso(story_s: float) -> str:
    return datetime.fromtimestamp(T0 + story_s, UTC).isoformat(timespec="milliseconds")
