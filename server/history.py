"""What a site's readings say about the past: spans of up, down and unmeasured. Pure.

Spans follow from the set of stored readings alone, so late, repeated and
shuffled deliveries end in the same history. A window is *up* when ``domestic``
or ``world`` was ok, *down* when it measured one of them and none was ok. What no
window covers is unmeasured, and so is a window whose time nothing anchors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from agent.wire import Reading

Verdict = Literal["up", "down", "unmeasured"]
_SEAM_S = 1.0
"""Windows that miss each other by no more than this are taken as adjoining."""


class Window(NamedTuple):
    """One stored reading: its window's edges (corrected) and what it says."""

    from_at: float
    to_at: float
    verdict: Verdict


class Span(NamedTuple):
    """A time of one verdict."""

    from_at: float
    to_at: float
    verdict: Verdict


def window(reading: Reading, taken_at: float, *, uncertain: bool) -> Window:
    """The window of a stored reading.

    Args:
        taken_at: its end, put right where that was needed.
        uncertain: nothing anchors that time.
    """
    far = {reading.ladder.domestic, reading.ladder.world}
    verdict: Verdict = "up" if "ok" in far else "down" if "fail" in far else "unmeasured"
    return Window(taken_at - reading.window_s, taken_at, "unmeasured" if uncertain else verdict)


def spans(windows: Iterable[Window], from_at: float, to_at: float) -> list[Span]:
    """The spans that fill `from_at` to `to_at` without gap or overlap.

    Where windows overlap, the one that ends first keeps its part.
    """
    found: list[Span] = []
    at = from_at
    for one in sorted(windows, key=lambda one: (one.to_at, one.from_at, one.verdict)):
        end = min(one.to_at, to_at)
        if end <= at or one.from_at >= to_at or one.verdict == "unmeasured":
            continue
        start = max(one.from_at, at)
        if start - at > _SEAM_S:
            _append(found, Span(at, start, "unmeasured"))
        else:
            start = at
        _append(found, Span(start, end, one.verdict))
        at = end
    if to_at > at:
        _append(found, Span(at, to_at, "unmeasured"))
    return found


def totals(found: Iterable[Span]) -> dict[Verdict, float]:
    """Seconds of each verdict."""
    sums: dict[Verdict, float] = {"up": 0.0, "down": 0.0, "unmeasured": 0.0}
    for span in found:
        sums[span.verdict] += span.to_at - span.from_at
    return sums


def _append(found: list[Span], span: Span) -> None:
    if found and found[-1].verdict == span.verdict:
        span = Span(found.pop().from_at, span.to_at, span.verdict)
    found.append(span)
