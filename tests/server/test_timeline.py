"""Spans follow from the set of readings alone, in whatever order they are painted."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import hypothesis
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from server import timeline
from server.timeline import FAILING, SILENT, UP, Span, Told
from tests.server.made import Device

OK = {"domestic": "ok", "world": "ok"}
FAIL = {"domestic": "fail", "world": "fail"}


def edges(rung: str, start: float, end: float | None) -> dict[str, Any]:
    return {"rung": rung, "from": wire.iso(start), "to": None if end is None else wire.iso(end)}


def told(at: float, *dead: dict[str, Any], ladder: dict[str, str] = OK, shift_s: float = 0) -> Told:
    fields: dict[str, Any] = {"ladder": ladder, **({"dead": list(dead)} if dead else {})}
    return Told(Device().reading(at, **fields), at + shift_s, at)


def spans(*readings: Told) -> list[tuple[float, float, int]]:
    return [tuple(span) for span in timeline.rebuild(readings)]


def test_windows_in_a_row_are_one_span_of_up() -> None:
    assert spans(told(1060), told(1120), told(1180)) == [(1000, 1180, UP)]


def test_windows_that_miss_each_other_by_less_than_a_second_join() -> None:
    assert spans(told(1060.2), told(1121.0)) == [(1000, 1121, UP)]


def test_windows_that_miss_each_other_by_more_leave_what_is_not_known() -> None:
    assert spans(told(1060), told(1122)) == [(1000, 1060, UP), (1062, 1122, UP)]


def test_a_window_in_which_every_far_rung_failed_is_down() -> None:
    assert spans(told(1060, ladder=FAIL)) == [(1000, 1060, FAILING)]


def test_a_window_in_which_one_far_rung_was_ok_is_up() -> None:
    assert spans(told(1060, ladder={"domestic": "fail", "world": "ok"})) == [(1000, 1060, UP)]


def test_a_window_that_measured_no_far_rung_says_nothing() -> None:
    assert spans(told(1060, ladder={"gateway": "ok"})) == []


def test_a_silence_of_both_far_rungs_is_down_to_the_second_within_a_window_that_is_up() -> None:
    dead = edges("domestic", 1010.4, 1031.2), edges("world", 1011.7, 1030.6)
    assert spans(told(1060, *dead)) == [(1000, 1012, UP), (1012, 1031, SILENT), (1031, 1060, UP)]


def test_a_silence_of_one_far_rung_alone_is_no_outage() -> None:
    assert spans(told(1060, edges("world", 1010, 1030))) == [(1000, 1060, UP)]


def test_a_far_rung_that_is_not_measured_is_not_asked() -> None:
    one = told(1060, edges("world", 1010, 1030), ladder={"world": "ok"})
    assert spans(one) == [(1000, 1010, UP), (1010, 1030, SILENT), (1030, 1060, UP)]


def test_a_silence_begins_in_the_window_before_that_was_up() -> None:
    dead = edges("domestic", 1058, None), edges("world", 1058, None)
    assert spans(told(1060), told(1120, *dead, ladder=FAIL)) == [
        (1000, 1058, UP),
        (1058, 1120, SILENT),
    ]


def test_a_silence_that_goes_on_joins_from_window_to_window() -> None:
    open_dead = edges("domestic", 1058.5, None), edges("world", 1057.5, None)
    ended = edges("domestic", 1058.5, 1155.4), edges("world", 1057.5, 1154.0)
    found = spans(
        told(1060.02), told(1120.02, *open_dead, ladder=FAIL), told(1180.02, *ended), told(1240.02)
    )
    assert found == [(1000, 1058, UP), (1058, 1154, SILENT), (1154, 1241, UP)]


def test_the_edges_of_a_wrong_clock_are_put_right_with_its_window() -> None:
    dead = edges("domestic", 1010, 1020), edges("world", 1010, 1020)
    one = told(1060, *dead, shift_s=5000.0)
    assert spans(one) == [(6000, 6010, UP), (6010, 6020, SILENT), (6020, 6060, UP)]


def test_a_silence_is_never_older_than_the_boot() -> None:
    dead = edges("domestic", 10, None), edges("world", 10, None)
    assert spans(told(1060, *dead, ladder=FAIL)) == [(100, 1060, SILENT)]


@given(
    st.lists(st.tuples(st.integers(900, 1100), st.integers(0, 60)), max_size=8),
    st.lists(st.tuples(st.integers(900, 1100), st.integers(0, 60)), max_size=8),
)
def test_both_are_silent_in_the_seconds_that_an_edge_of_each_covers(
    domestic: list[tuple[int, int]], world: list[tuple[int, int]]
) -> None:
    named = {"domestic": domestic, "world": world}
    dead = [edges(name, at, at + long_s) for name, those in named.items() for at, long_s in those]
    found = spans(told(1100, *dead))
    seconds = {
        at for begin, end, code in found if code == SILENT for at in range(int(begin), int(end))
    }

    def covered(those: list[tuple[int, int]], second: int) -> bool:
        return any(at <= second < min(1100, at + long_s) for at, long_s in those)

    assert seconds == {
        at for at in range(900, 1100) if covered(domestic, at) and covered(world, at)
    }


def test_thousands_of_edges_that_overlap_are_one_silence() -> None:
    dead = [
        edges(name, 1000 + at / 100, 1050 + at / 200)
        for name in ("domestic", "world")
        for at in range(1900)
    ]
    assert spans(told(1060, *dead)) == [(1000, 1059, SILENT), (1059, 1060, UP)]


def test_nearly_every_reading_only_lengthens_the_run() -> None:
    run, stored = timeline.follow(None, timeline.parts(*told(1060)))
    assert (run, stored) == ((1000, 1060), [])
    run, stored = timeline.follow(run, timeline.parts(*told(1120.4)))
    assert (run, stored) == ((1000, 1121), [])


def test_a_window_apart_from_the_run_stores_it_and_begins_another() -> None:
    run, stored = timeline.follow((1000, 1060), timeline.parts(*told(1300)))
    assert (run, stored) == ((1240, 1300), [Span(1000, 1060, UP)])


def test_an_older_window_apart_from_the_run_is_stored_and_leaves_it() -> None:
    run, stored = timeline.follow((1000, 1060), timeline.parts(*told(900)))
    assert (run, stored) == ((1000, 1060), [Span(840, 900, UP)])


# The oracle goes second by second, and knows nothing of spans that are kept.

START, LAST = 1000, 1400


@st.composite
def readings(draw: st.DrawFn) -> list[Told]:
    found = []
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers((START + 60) * 10, LAST * 10)) / 10
        dead = [
            edges(rung, at - start / 10, None if end < 0 else at - start / 10 + end / 10)
            for rung in ("domestic", "world")
            for start, end in draw(
                st.lists(st.tuples(st.integers(0, 900), st.integers(-1, 700)), max_size=2)
            )
        ]
        ladder = draw(st.sampled_from([OK, FAIL, {"domestic": "fail"}, {"gateway": "ok"}]))
        found.append(told(at, *dead, ladder=ladder, shift_s=draw(st.sampled_from([0, 0.5, 7]))))
    return found


def second_by_second(found: list[Told]) -> dict[int, int]:
    says: dict[int, int] = {}
    for second in range(START - 120, LAST + 120):
        said = set()
        for reading, taken_at, own_at in found:
            ladder = reading.ladder
            far = [
                rung for rung in ("domestic", "world") if getattr(ladder, rung) is not msgspec.UNSET
            ]
            if not far:
                continue
            if math.floor(taken_at - reading.window_s) <= second < math.ceil(taken_at):
                up = any(getattr(ladder, rung) == "ok" for rung in far)
                said.add(UP if up else FAILING)
            dead = [] if reading.dead is msgspec.UNSET else reading.dead
            for one in dead if far[0] == "domestic" else []:
                if one.rung != "domestic":
                    continue
                world = [two for two in dead if two.rung == "world"]
                for other in world if "world" in far else [one]:
                    start = max(wire.epoch(one.start), wire.epoch(other.start)) - own_at + taken_at
                    ends = [
                        wire.epoch(edge.end) - own_at + taken_at if edge.end else taken_at
                        for edge in (one, other)
                    ]
                    end = min(*ends, taken_at)
                    if start >= end:
                        continue
                    last = math.ceil(end) if end == taken_at else round(end)
                    if round(start) <= second < last:
                        said.add(SILENT)
        for code in (SILENT, UP, FAILING):
            if code in said:
                says[second] = code
                break
    return says


def by_second(found: list[Span]) -> dict[int, int]:
    return {
        second: span.code for span in found for second in range(int(span.from_at), int(span.to_at))
    }


@given(readings(), st.randoms(use_true_random=False), st.integers(1, 4))
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_order_in_any_portions_gives_what_the_seconds_say(
    found: list[Told], rng: random.Random, portion: int
) -> None:
    expected = second_by_second(found)
    assert by_second(timeline.rebuild(found)) == expected
    shuffled = list(found)
    rng.shuffle(shuffled)
    kept: list[Span] = []
    run = None
    for at in range(0, len(shuffled), portion):
        stored: list[Span] = []
        for one in shuffled[at : at + portion]:
            run, more = timeline.follow(run, timeline.parts(*one))
            stored += more
        kept = timeline.paint(kept, stored)
    assert timeline.with_run(kept, run) == timeline.rebuild(found)
    for before, after in itertools.pairwise(kept):
        assert before.to_at < after.from_at or before.code != after.code
        assert before.to_at <= after.from_at
