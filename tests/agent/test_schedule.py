"""When things are due: windows without gaps, probes within them, reconnects with jitter."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent import schedule
from agent.probes import PROBES
from agent.schedule import Window

WINDOW_S = st.floats(1, 3600)


def test_a_site_always_waits_equally_long_and_two_sites_do_not() -> None:
    assert schedule.splay_s("bitung-0001", 60) == schedule.splay_s("bitung-0001", 60)
    assert schedule.splay_s("bitung-0001", 60) != schedule.splay_s("bitung-0002", 60)


@given(st.text(), WINDOW_S)
def test_the_first_window_begins_within_a_window_and_within_10_s(
    site: str, window_s: float
) -> None:
    first = schedule.first_window(100.0, site, window_s)
    assert 100.0 <= first.start_s <= 100.0 + min(window_s, 10.0)
    assert first.end_s == first.start_s + window_s


def test_a_fleet_is_spread_evenly_over_the_splay() -> None:
    waits = [schedule.splay_s(f"bitung-{i:04}", 60) for i in range(1000)]
    for tenth in range(10):
        assert 60 <= sum(tenth <= wait < tenth + 1 for wait in waits) <= 140


def test_windows_follow_each_other_without_a_gap() -> None:
    window = Window(10.0, 70.0)
    assert schedule.next_window(window, 60.0, now_s=70.01) == Window(70.0, 130.0)


def test_a_new_length_counts_from_the_next_window() -> None:
    assert schedule.next_window(Window(10.0, 70.0), 30.0, now_s=70.0) == Window(70.0, 100.0)


def test_windows_that_passed_unmeasured_are_left_out_and_the_grid_is_kept() -> None:
    assert schedule.next_window(Window(0.0, 60.0), 60.0, now_s=200.0) == Window(180.0, 240.0)


def test_a_window_is_complete_when_its_last_echo_is_answered_or_lost() -> None:
    assert Window(0.0, 60.0).complete_s == 62.0


@given(WINDOW_S)
def test_every_probe_starts_in_its_window_and_ends_before_the_window_is_complete(
    window_s: float,
) -> None:
    window = Window(5.0, 5.0 + window_s)
    due = schedule.probes_due(window, PROBES)
    assert {item.name for item in due} == set(PROBES)
    assert [item.at_s for item in due] == sorted(item.at_s for item in due)
    for item in due:
        assert window.start_s <= item.at_s <= window.end_s
        assert item.at_s + schedule.probe_deadline_s(window_s) <= window.complete_s


def test_probes_that_use_the_network_do_not_start_together() -> None:
    at_s = {due.name: due.at_s for due in schedule.probes_due(Window(0.0, 60.0), PROBES)}
    assert abs(at_s["dns"] - at_s["web"]) >= 10


def test_what_counts_traffic_is_read_at_the_windows_end() -> None:
    assert schedule.probes_due(Window(0.0, 60.0), PROBES)[-1] == schedule.Due(60.0, "link")


@given(WINDOW_S)
def test_a_probe_is_over_before_it_starts_again(window_s: float) -> None:
    assert 0 < schedule.probe_deadline_s(window_s) < window_s
    assert schedule.probe_deadline_s(window_s) <= 2.0


@given(WINDOW_S)
def test_a_window_always_holds_10_echoes_and_a_long_one_an_echo_a_second(window_s: float) -> None:
    interval_s = schedule.echo_interval_s(window_s)
    # Each echo stands within 0.2 intervals of its place: that much is lost at each edge.
    assert (window_s - 0.4 * interval_s) / interval_s >= 10
    assert interval_s <= 1.0
    if window_s >= 11:
        assert interval_s == 1.0


def test_the_first_reconnect_comes_within_3_s_and_no_wait_is_longer_than_60_s() -> None:
    rng = random.Random(1)  # noqa: S311  # waiting times, no secrets
    for attempt, bound_s in [(0, 3), (1, 6), (2, 12), (3, 24), (4, 48), (5, 60), (10_000, 60)]:
        delays = [schedule.reconnect_delay(attempt, rng) for _ in range(500)]
        assert max(delays) <= bound_s
        assert min(delays) < 0.1 * bound_s, "full jitter begins at 0"
        assert max(delays) > 0.9 * bound_s


def test_refusals_in_a_row_on_a_metered_link_are_tried_again_up_to_ten_minutes_later() -> None:
    rng = random.Random(1)  # noqa: S311  # waiting times, no secrets
    for refusals, bound_s in [(0, 3), (4, 48), (5, 96), (7, 384), (8, 600), (10_000, 600)]:
        delays = [schedule.refused_delay(refusals, rng) for _ in range(500)]
        assert 0.9 * bound_s < max(delays) <= bound_s
