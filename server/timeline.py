"""What a site's readings say of the past: spans of up, failing and silent. Pure.

Each stored reading has parts. Where parts of several readings overlap, silent goes
before up, and up before failing, so that the spans follow from the set of readings,
whatever the order in which they came.

silent   both far rungs (``domestic``, ``world``; those that were measured) were silent at
         once, by the edges in ``dead``; it may begin before the window
up       the window, where a far rung was ok
failing  the window, where every far rung that was measured failed

Silent and failing are down. What no part covers is not known: no reading came, it
measured no far rung, or nothing anchors its time. Edges are whole seconds: windows are
rounded outwards, so that neighbours that miss each other by less than a second join.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import UNSET

from agent.wire import EchoRung, Reading, epoch

UP = 0
FAILING = 1
SILENT = 2
_RANK = {SILENT: 0, UP: 1, FAILING: 2}
"""The lowest wins."""
_FAR: tuple[EchoRung, ...] = ("domestic", "world")


class Span(NamedTuple):
    """What was known of a time, as UP, FAILING or SILENT; times are whole seconds."""

    from_at: float
    to_at: float
    code: int


class Told(NamedTuple):
    """A reading whose time is known: the end of its window by the server and by the device."""

    reading: Reading
    taken_at: float
    own_at: float


Run = tuple[float, float]
"""From and to of a time; of a span of up that still grows, kept beside the stored ones."""


def parts(reading: Reading, taken_at: float, own_at: float) -> tuple[Span, ...]:
    """The parts of one reading whose time is known.

    Args:
        taken_at: the end of its window by the server's reckoning.
        own_at: the same by the device's clock, which its `dead` edges go by.
    """
    ladder = reading.ladder
    far = (ladder.domestic, ladder.world)
    up = "ok" in far
    if not up and "fail" not in far:
        return ()
    end = float(math.ceil(taken_at))
    window = Span(float(math.floor(taken_at - reading.window_s)), end, UP if up else FAILING)
    if reading.dead is UNSET:
        return (window,)
    return (window, *_silences(reading, taken_at, own_at))


def _silences(reading: Reading, taken_at: float, own_at: float) -> list[Span]:
    """When every measured far rung was silent at once; never before the boot."""
    dead = () if reading.dead is UNSET else reading.dead
    booted_at = taken_at - reading.uptime_s
    common = [(booted_at, taken_at)]
    for rung in _FAR:
        if getattr(reading.ladder, rung) is UNSET:
            continue
        shift_s = taken_at - own_at
        edges = [
            (epoch(one.start) + shift_s, epoch(one.end) + shift_s if one.end else taken_at)
            for one in dead
            if one.rung == rung
        ]
        common = _both(common, _union(edges))
    found = []
    for from_at, to_at in common:
        end = math.ceil(to_at) if to_at == taken_at else round(to_at)
        if end > round(from_at):
            found.append(Span(float(round(from_at)), float(end), SILENT))
    return found


def _union(edges: list[Run]) -> list[Run]:
    """The same times, in order and apart. A hostile reading may have thousands that overlap."""
    found: list[Run] = []
    for begin, end in sorted(edges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif begin < end:
            found.append((begin, end))
    return found


def _both(some: list[Run], others: list[Run]) -> list[Run]:
    """What lies in both; each in order and apart."""
    found: list[Run] = []
    one = other = 0
    while one < len(some) and other < len(others):
        begin = max(some[one][0], others[other][0])
        end = min(some[one][1], others[other][1])
        if begin < end:
            found.append((begin, end))
        if some[one][1] < others[other][1]:
            one += 1
        else:
            other += 1
    return found


def paint(spans: Sequence[Span], new: Iterable[Span]) -> list[Span]:
    """The spans after more parts; in order, apart from each other, neighbours joined."""
    layers: dict[int, list[Span]] = {code: [] for code in _RANK}
    for span in (*spans, *new):
        layers[span.code].append(span)
    found: list[Span] = []
    for code in sorted(layers, key=_RANK.__getitem__):
        layer = _joined(layers[code])
        found = layer if not found else sorted(found + _outside(layer, found))
    return _joined(found)


def _joined(spans: list[Span]) -> list[Span]:
    """In order, those of one code that touch made one."""
    found: list[Span] = []
    for span in sorted(spans):
        last = found[-1] if found else None
        if last is not None and last.code == span.code and span.from_at <= last.to_at:
            if span.to_at > last.to_at:
                found[-1] = last._replace(to_at=span.to_at)
        else:
            found.append(span)
    return found


def _outside(layer: list[Span], above: list[Span]) -> list[Span]:
    """What of a layer shows beside the spans above it, which are in order."""
    found = []
    ends = [span.to_at for span in above]
    for from_at, to_at, code in layer:
        at = from_at
        index = bisect_left(ends, from_at)
        while index < len(above) and above[index].from_at < to_at:
            if above[index].from_at > at:
                found.append(Span(at, above[index].from_at, code))
            at = max(at, above[index].to_at)
            index += 1
        if at < to_at:
            found.append(Span(at, to_at, code))
    return found


def follow(run: Run | None, new: tuple[Span, ...]) -> tuple[Run | None, list[Span]]:
    """The run after one more reading, and the parts that have to be stored.

    Nearly every reading is live and up, and only lengthens the run: that costs no write.
    """
    stored: list[Span] = []
    for part in new:
        if part.code != UP or (run is not None and part.to_at < run[0]):
            stored.append(part)
        elif run is not None and part.from_at <= run[1]:
            if part.to_at > run[1] or part.from_at < run[0]:
                run = (min(run[0], part.from_at), max(run[1], part.to_at))
        else:
            if run is not None:
                stored.append(Span(*run, UP))
            run = (part.from_at, part.to_at)
    return run, stored


def with_run(spans: Sequence[Span], run: Run | None) -> list[Span]:
    """The stored spans and what the run adds."""
    if run is None:
        return list(spans)
    if not spans or spans[-1].to_at < run[0]:
        return [*spans, Span(*run, UP)]
    return paint(spans, [Span(*run, UP)])


def clipped(spans: Iterable[Span], from_at: float, to_at: float) -> list[Span]:
    """What of them lies between two times."""
    return [
        Span(max(span.from_at, from_at), min(span.to_at, to_at), span.code)
        for span in spans
        if span.from_at < to_at and span.to_at > from_at
    ]


def rebuild(readings: Iterable[Told]) -> list[Span]:
    """The spans from all of a site's readings whose time is known."""
    return paint([], [part for told in readings for part in parts(*told)])


def down(spans: Iterable[Span]) -> tuple[tuple[float, float], ...]:
    """The times without service."""
    found: list[tuple[float, float]] = []
    for span in spans:
        if span.code == UP:
            continue
        if found and span.from_at <= found[-1][1]:
            found[-1] = (found[-1][0], span.to_at)
        else:
            found.append((span.from_at, span.to_at))
    return tuple(found)
