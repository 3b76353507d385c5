"""When ingest asks for what is missing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.wire import MAX_READINGS
from server import config, main
from server.resend import (
    BEHIND_AT_ONCE_S,
    BEHIND_S,
    PER_S,
    PER_S_BEHIND,
    STANDING_BEHIND_S,
    Ask,
    Holes,
)
from tests.server.centre import home
from tests.server.made import OTHER, SITE, Device

HOLE = (5, 8)


def asked(holes: Holes, *times: float) -> list[float]:
    """When of these times it was asked for."""
    return [at for at in times if holes.due(at, at)]


def test_a_hole_that_stands_for_three_seconds_is_asked_for() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)

    assert holes.due(102.9, 102.9) == []
    assert holes.due(103, 103) == [Ask("site", "stream", 5, 8)]


def test_a_hole_that_closes_in_time_is_not_asked_for() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    holes.note("site", "stream", None, 102)

    assert holes.due(1000, 1000) == []


def test_a_hole_that_shrinks_is_given_time() -> None:
    holes = Holes()
    for step in range(4):
        holes.note("site", "stream", (5 + step, 8), 100 + 2 * step)
        assert holes.due(101 + 2 * step, 101 + 2 * step) == []

    assert holes.due(109, 109) == [Ask("site", "stream", 8, 8)]


def test_while_ingest_is_behind_a_hole_may_stand_for_longer() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    holes.took(BEHIND_S + 0.1, 99)
    holes.took(BEHIND_S + 0.1, 101)
    holes.took(0.1, 102)

    assert asked(holes, 103, 99 + STANDING_BEHIND_S, 100 + STANDING_BEHIND_S) == [
        100 + STANDING_BEHIND_S
    ]


@pytest.mark.parametrize(
    ("trips_s", "behind"),
    [
        ((BEHIND_S, BEHIND_S), False),
        ((BEHIND_AT_ONCE_S, 0.1, BEHIND_AT_ONCE_S), False),
        ((BEHIND_S + 0.1, BEHIND_S + 0.1), True),
        ((BEHIND_AT_ONCE_S + 0.1, 0.1), True),
    ],
)
def test_one_slow_way_through_the_broker_shows_nothing_yet(
    trips_s: tuple[float, ...], behind: bool
) -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    for trip_s in trips_s:
        holes.took(trip_s, 101)

    assert asked(holes, 103) == ([] if behind else [103])


def test_a_hole_that_still_stands_after_that_is_asked_for_even_behind() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    for at in range(100, 400, 5):
        holes.took(9.0, at)
        if at < 100 + STANDING_BEHIND_S:
            assert holes.due(at, at) == []

    assert asked(holes, 400) == [400]


def test_the_same_range_is_asked_for_at_most_once_in_30_s_and_ever_later() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)

    assert asked(holes, *range(100, 400)) == [103, 133, 193, 313]


def test_more_messages_around_the_same_hole_do_not_hurry_it() -> None:
    holes = Holes()
    times = []
    for at in range(100, 200):
        holes.note("site", "stream", HOLE, at)
        times += asked(holes, at)

    assert times == [103, 133, 193]


def test_even_what_never_comes_is_asked_for_once_an_hour() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 0)
    times = asked(holes, *range(0, 40_000, 10))

    assert times[-1] - times[-2] == 3600


def test_an_answer_that_filled_a_part_lets_the_rest_be_asked_for_after_30_s() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    assert asked(holes, 103) == [103]
    holes.note("site", "stream", (7, 8), 104)

    assert asked(holes, *range(104, 180)) == [133, 163]


def test_streams_are_asked_for_on_their_own() -> None:
    holes = Holes()
    holes.note("site", "one", HOLE, 100)
    holes.note("site", "other", HOLE, 101)

    assert [ask.stream for ask in holes.due(104, 104)] == ["one", "other"]


def test_the_next_hole_is_asked_for_without_waiting_for_the_turn_of_the_last() -> None:
    holes = Holes()
    holes.note("site-1", "s", (6, 205), 0.0)
    assert holes.due(3.0, 3.0) == [Ask("site-1", "s", 6, 205)]
    holes.note("site-1", "s", (256, 258), 4.0)
    assert holes.due(7.0, 7.0) == [Ask("site-1", "s", 256, 258)]


def test_the_rest_of_a_range_that_was_asked_for_waits_for_its_turn() -> None:
    holes = Holes()
    holes.note("site-1", "s", (6, 205), 0.0)
    assert holes.due(3.0, 3.0) == [Ask("site-1", "s", 6, 205)]
    holes.note("site-1", "s", (106, 205), 4.0)
    assert asked(holes, 7.0, 32.9, 33.0) == [33.0]


def asked_in(holes: Holes, from_s: float, seconds: int) -> list[str]:
    """Which sites are asked, looked at four times a second."""
    times = [from_s + step / 4 for step in range(4 * seconds)]
    return [ask.site for at in times for ask in holes.due(at, at)]


@pytest.mark.parametrize(("width", "behind"), [(2, False), (1000, False), (1000, True)])
def test_a_fleet_is_not_asked_at_once_and_who_stands_longest_is_asked_first(
    width: int, behind: bool
) -> None:
    holes = Holes()
    sites = [f"site-{n}" for n in range(2000)]
    for n, site in enumerate(reversed(sites)):
        holes.note(site, "stream", (1, width), 100 - n / 1000)
    if behind:
        holes.took(BEHIND_AT_ONCE_S + 1, 110)

    first = asked_in(holes, 100 + STANDING_BEHIND_S, 10)
    each = min(width, MAX_READINGS)
    most = (PER_S_BEHIND if behind else PER_S) / each
    assert 9 * most <= len(first) or len(first) == len(sites)
    assert len(first) <= 11 * most + 1
    assert first == sites[: len(first)]


def test_nobody_is_asked_twice_before_all_were_asked_once() -> None:
    holes = Holes()
    sites = [f"site-{n}" for n in range(3000)]
    for site in sites:
        holes.note(site, "stream", (1, MAX_READINGS), 100)

    asked = asked_in(holes, 103, 200)
    assert sorted(asked[: len(sites)]) == sorted(sites)
    assert len(asked) > len(sites)


def test_what_may_still_wait_at_the_broker_is_not_asked_for() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    assert holes.due(160, 102.9) == []
    assert holes.due(161, 103) == [Ask("site", "stream", 5, 8)]


def test_a_hole_that_stood_when_ingest_ended_is_asked_for_by_the_next_once_it_is_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "_spare_collector", lambda: None)  # that is for a process of its own
    centre = home(tmp_path)
    whole, holed = Device(site=OTHER), Device()
    for device in (whole, holed):
        for n in range(6):
            device.reading(1000 + n)
    centre.hears(whole.message(1010, 1, 2, 3), holed.message(1010, 2, 6, oldest=2))
    centre.store.close()

    service = main.Service(config.Config(store=config.StoreConfig(url=centre.url)))
    now_s = time.monotonic()
    assert service._store.alive_at() == service._blind_since, "a first start leaves its trace"
    assert service._holes.due(now_s + 60, proven_s=0.0) == []
    assert service._holes.due(now_s + 60, now_s + 60) == [Ask(SITE, holed.stream, 3, 5)]
    service._store.close()
