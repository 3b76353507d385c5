"""When ingest asks for what is missing."""

from __future__ import annotations

from server.resend import Ask, Holes

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


def test_what_may_still_wait_at_the_broker_is_not_asked_for() -> None:
    holes = Holes()
    holes.note("site", "stream", HOLE, 100)
    assert holes.due(160, 102.9) == []
    assert holes.due(161, 103) == [Ask("site", "stream", 5, 8)]
