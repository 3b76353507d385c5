"""Spans of up, down and unmeasured, from readings in any order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.history import Span, Verdict, Window, spans, totals, window
from tests.server.made import Device


@pytest.mark.parametrize(
    ("ladder", "verdict"),
    [
        ({"domestic": "ok", "world": "ok"}, "up"),
        ({"domestic": "ok", "world": "fail"}, "up"),
        ({"domestic": "fail", "world": "ok"}, "up"),
        ({"domestic": "fail", "world": "fail"}, "down"),
        ({"domestic": "fail"}, "down"),
        ({"world": "ok"}, "up"),
        ({"gateway": "ok", "isp": "ok"}, "unmeasured"),
    ],
)
def test_a_window_is_up_when_either_far_rung_answered(ladder: dict[str, str], verdict: str) -> None:
    reading = Device().reading(1060, ladder=ladder)

    assert window(reading, 1060, uncertain=False) == (1000, 1060, verdict)


def test_a_degraded_window_is_up() -> None:
    bad: dict[str, Any] = {"ping": {"world": {"sent": 60, "loss_ratio": 0.9}}}

    assert window(Device().reading(1060, **bad), 1060, uncertain=False).verdict == "up"


def test_a_window_whose_time_is_uncertain_measures_nothing() -> None:
    assert window(Device().reading(1060), 1060, uncertain=True).verdict == "unmeasured"


def test_what_no_window_covers_is_unmeasured() -> None:
    assert spans([Window(100, 160, "up")], 0, 300) == [
        Span(0, 100, "unmeasured"),
        Span(100, 160, "up"),
        Span(160, 300, "unmeasured"),
    ]


def test_neighbours_of_one_verdict_are_one_span_over_a_small_seam() -> None:
    windows = [Window(0, 60, "up"), Window(60.9, 120, "up"), Window(120, 180, "down")]

    assert spans(windows, 0, 180) == [Span(0, 120, "up"), Span(120, 180, "down")]


def test_a_seam_of_more_than_a_second_is_unmeasured() -> None:
    assert spans([Window(0, 60, "up"), Window(61.5, 120, "up")], 0, 120)[1] == Span(
        60, 61.5, "unmeasured"
    )


def test_where_windows_overlap_the_first_to_end_keeps_its_part() -> None:
    windows = [Window(30, 90, "down"), Window(0, 60, "up")]

    assert spans(windows, 0, 90) == [Span(0, 60, "up"), Span(60, 90, "down")]


def test_what_lies_outside_is_cut_off() -> None:
    windows = [Window(-60, 30, "up"), Window(30, 90, "down"), Window(90, 150, "up")]

    assert spans(windows, 0, 60) == [Span(0, 30, "up"), Span(30, 60, "down")]


def test_a_window_from_a_clock_that_runs_ahead_is_not_part_of_the_past() -> None:
    assert spans([Window(203, 263, "up")], 0, 200) == [Span(0, 200, "unmeasured")]


def test_totals_add_up() -> None:
    found = spans([Window(0, 60, "up"), Window(60, 120, "down")], 0, 200)

    assert totals(found) == {"up": 60, "down": 60, "unmeasured": 80}


VERDICTS: list[Verdict] = ["up", "down", "unmeasured"]
WINDOWS = st.lists(
    st.builds(
        lambda end, length, verdict: Window(end - length, end, verdict),
        st.integers(-50, 250),
        st.integers(1, 60),
        st.sampled_from(VERDICTS),
    ),
    max_size=12,
)


@given(WINDOWS, st.randoms(use_true_random=False))
def test_spans_fill_the_time_and_do_not_depend_on_the_order(
    windows: list[Window], shuffler: Any
) -> None:
    found = spans(windows, 0, 200)
    edges = [(span.from_at, span.to_at) for span in found]
    assert edges[0][0] == 0
    assert edges[-1][1] == 200
    assert all(one[1] == other[0] for one, other in pairwise(edges))
    assert all(one.verdict != other.verdict for one, other in pairwise(found))

    shuffled = [*windows, *windows[:3]]
    shuffler.shuffle(shuffled)
    assert spans(shuffled, 0, 200) == found


@given(WINDOWS)
def test_no_moment_is_up_or_down_unless_a_window_says_so(windows: list[Window]) -> None:
    for span in spans(windows, 0, 200):
        if span.verdict != "unmeasured":
            middle = (span.from_at + span.to_at) / 2
            assert any(
                one.verdict == span.verdict and one.from_at - 1 <= middle <= one.to_at
                for one in windows
            )
