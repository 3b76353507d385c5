"""How much of the backlog goes at a time, by what the server says of it."""

from __future__ import annotations

import heapq
import itertools
import uuid

import pytest

from agent.publish.tempo import (
    ANSWER_S,
    FIRST,
    GROWS_S,
    LEAST,
    LONGEST_REST_S,
    MOST_S,
    PATIENCE_S,
    QUICK_S,
    REST,
    SLOW_S,
    Tempo,
)
from agent.wire import MAX_READINGS, Ack

STREAM, OLDER = str(uuid.uuid4()), str(uuid.uuid4())


def ack(through: int, stream: str = STREAM) -> Ack:
    return Ack(v=1, stream=stream, through=through)


@pytest.fixture
def heard() -> Tempo:
    tempo = Tempo(lambda: 0.5)
    tempo.stood()
    return tempo


def test_full_messages_go_without_waiting_until_an_ack_was_heard() -> None:
    tempo = Tempo(lambda: 0.5)
    for seq in (100, 200):
        assert tempo.size == MAX_READINGS
        tempo.sent(STREAM, seq, 10.0)
        assert tempo.until_s() <= 10.0
    tempo.acknowledged(ack(0, OLDER), 11.0)
    assert tempo.size == FIRST
    assert tempo.until_s() == 10.0 + PATIENCE_S


def test_the_next_message_waits_for_the_acks_to_cover_the_one_before(heard: Tempo) -> None:
    heard.sent(STREAM, 16, 10.0)
    for early in (ack(15), ack(99, OLDER)):
        heard.acknowledged(early, 10.5)
        assert heard.until_s() == 10.0 + PATIENCE_S
    heard.acknowledged(ack(20), 11.0)
    assert heard.until_s() <= 11.0


def test_the_newest_reading_asks_how_far_behind_the_server_is(heard: Tempo) -> None:
    heard.newest(STREAM, 300, 10.0)
    heard.landed(STREAM, 300, 10.5)
    heard.stood()
    assert heard.until_s() == 10.0 + ANSWER_S, "what stood there answers nothing"
    heard.acknowledged(ack(0), 10.5 + QUICK_S + 3.0)
    assert heard.until_s() == 10.5 + QUICK_S + 3.0 + 3.0 * REST
    assert heard.size == FIRST, "one reading tells nothing of what a message may hold"


def test_a_server_that_does_not_answer_the_newest_reading_gets_the_backlog(heard: Tempo) -> None:
    heard.newest(STREAM, 300, 10.0)
    assert heard.until_s() == 10.0 + ANSWER_S
    heard.sent(STREAM, 16, 10.0 + ANSWER_S)
    assert heard.size == FIRST
    assert heard.until_s() == 10.0 + ANSWER_S + PATIENCE_S


def test_only_the_first_newest_reading_of_a_connection_is_waited_for(heard: Tempo) -> None:
    heard.newest(STREAM, 300, 10.0)
    heard.acknowledged(ack(0), 11.0)
    heard.newest(STREAM, 301, 70.0)
    assert heard.until_s() <= 70.0
    other = Tempo(lambda: 0.5)
    other.stood()
    other.sent(STREAM, 16, 10.0)
    other.newest(STREAM, 301, 12.0)
    other.acknowledged(ack(0), 13.0)
    assert other.until_s() == 10.0 + PATIENCE_S, "it is the backlog that is waited for"


@pytest.mark.parametrize(
    ("link_s", "then"),
    [(0.1, 2 * FIRST), (SLOW_S, 2 * FIRST), (SLOW_S + 0.1, FIRST // 2)],
)
def test_an_ack_doubles_and_a_slow_link_halves(heard: Tempo, link_s: float, then: int) -> None:
    heard.sent(STREAM, 16, 10.0)
    heard.landed(STREAM, 16, 10.0 + link_s)
    heard.acknowledged(ack(16), 11.0 + link_s)
    assert heard.size == then


@pytest.mark.parametrize(("took_s", "then"), [(GROWS_S, 2 * FIRST), (GROWS_S + 0.1, FIRST)])
def test_a_late_ack_lets_nothing_grow(heard: Tempo, took_s: float, then: int) -> None:
    heard.sent(STREAM, 16, 10.0)
    heard.landed(STREAM, 16, 10.5)
    heard.acknowledged(ack(16), 10.5 + took_s)
    assert heard.size == then


@pytest.mark.parametrize(
    ("took_s", "rest_s"),
    [(0.1, 0.0), (QUICK_S, 0.0), (QUICK_S + 2, 2 * REST), (QUICK_S + 50, LONGEST_REST_S)],
)
def test_it_rests_by_how_much_too_long_the_ack_took(
    heard: Tempo, took_s: float, rest_s: float
) -> None:
    heard.sent(STREAM, 16, 10.0)
    heard.landed(STREAM, 16, 10.5)
    heard.acknowledged(ack(16), 10.5 + took_s)
    assert heard.until_s() == pytest.approx(10.5 + took_s + rest_s)
    heard.sent(STREAM, 32, 500.0)
    heard.acknowledged(ack(32), 501.0)
    assert heard.until_s() == 501.0


def test_what_the_link_takes_is_no_reason_to_rest(heard: Tempo) -> None:
    heard.sent(STREAM, 16, 10.0)
    heard.landed(STREAM, 15, 10.1)
    heard.landed(OLDER, 16, 10.2)
    heard.landed(STREAM, 16, 18.0)
    heard.landed(STREAM, 16, 18.5)
    heard.acknowledged(ack(16), 21.0)
    assert heard.until_s() == 21.0 + (3.0 - QUICK_S) * REST, "the PUBACK of its own, the first"


@pytest.mark.parametrize(("chance", "times"), [(0.0, 0.5), (1.0, 1.5)])
@pytest.mark.parametrize(("late_s", "rest_s"), [(1.0, REST), (60.0, LONGEST_REST_S)])
def test_it_rests_half_to_one_and_a_half_times_that(
    chance: float, times: float, late_s: float, rest_s: float
) -> None:
    tempo = Tempo(lambda: chance)
    tempo.newest(STREAM, 300, 0.0)
    tempo.landed(STREAM, 300, 0.0)
    tempo.acknowledged(ack(0), QUICK_S + late_s)
    assert tempo.until_s() == QUICK_S + late_s + times * rest_s


def test_a_server_that_asks_is_not_behind(heard: Tempo) -> None:
    heard.newest(STREAM, 300, 0.0)
    heard.landed(STREAM, 300, 0.0)
    heard.acknowledged(ack(0), 4.3)
    assert heard.until_s() > 30.0
    heard.lost(STREAM)
    assert heard.until_s() <= 4.3


def test_where_no_ack_comes_the_next_goes_all_the_same_and_is_smaller(heard: Tempo) -> None:
    sizes = []
    for turn in range(4):
        heard.sent(STREAM, 16 * turn + 16, turn * PATIENCE_S)
        sizes.append(heard.size)
    assert sizes == [FIRST, LEAST, LEAST, LEAST]
    heard.acknowledged(ack(64), 3 * PATIENCE_S + 1.0)
    assert heard.size == 2 * LEAST, "it recovers by itself"


def test_each_that_goes_without_an_ack_makes_the_next_wait_twice_as_long(heard: Tempo) -> None:
    at_s, waits = 0.0, []
    for turn in range(7):
        heard.sent(STREAM, 16 * turn + 16, at_s)
        waits.append(heard.until_s() - at_s)
        at_s = heard.until_s()
    assert waits == [PATIENCE_S, 40.0, 80.0, *[MOST_S] * 4]
    heard.acknowledged(ack(7 * 16), at_s - MOST_S + 35.0)
    heard.sent(STREAM, 200, at_s)
    assert heard.until_s() - at_s == 70.0, "an ack tells how long one takes"
    heard.acknowledged(ack(200), at_s + 1.0)
    heard.sent(STREAM, 300, at_s)
    assert heard.until_s() - at_s == PATIENCE_S


def test_it_never_leaves_what_a_message_may_hold(heard: Tempo) -> None:
    for turn in range(10):
        heard.sent(STREAM, turn + 1, float(turn))
        heard.acknowledged(ack(turn + 1), float(turn))
    assert heard.size == MAX_READINGS


def test_what_the_server_asks_for_is_lost_and_not_waited_for(heard: Tempo) -> None:
    heard.sent(STREAM, 16, 10.0)
    heard.lost(OLDER)
    assert heard.until_s() == 10.0 + PATIENCE_S
    heard.lost(STREAM)
    assert heard.until_s() <= 10.0
    heard.sent(STREAM, 32, 10.5)
    assert heard.size == FIRST, "which is no reason to slow down"


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    ("sites", "per_s", "slower"), [(1000, 100, 1), (9000, 100, 1), (9000, 140, 1), (1000, 20, 6)]
)
def test_a_fleet_with_a_days_backlog_keeps_the_servers_queue_short(
    sites: int, per_s: float, slower: float, newest_first: bool
) -> None:
    """A server that takes 1.1 ms a message and 0.077 ms a reading, as bench/storms shows.

    In their order, as while it catches up, or everybody's newest reading before any backlog.

    One more of 2 ms for each that connects, and as many times slower.
    """
    chance = itertools.cycle([n * 0.618 % 1 for n in range(9973)]).__next__
    held = 288
    tempos = [Tempo(chance) for _ in range(sites)]
    done = [0] * sites
    asked: set[int] = set()
    acks: dict[tuple[float, int], int] = {}
    agenda = [(site / per_s, site) for site in range(sites)]  # sorted, so it is a heap
    free_s = longest_s = drained_s = 0.0
    while agenda:
        now_s, site = heapq.heappop(agenda)
        tempo = tempos[site]
        through = acks.pop((now_s, site), None)
        if through is not None:
            tempo.acknowledged(ack(through), now_s)
            drained_s = now_s
        if site in asked and tempo.until_s() > now_s:
            heapq.heappush(agenda, (tempo.until_s(), site))
            continue
        if done[site] == held:
            continue
        if site not in asked:
            asked.add(site)
            tempo.stood()
            tempo.newest(STREAM, held, now_s)
            size, last, cost_ms = 1, held, 2 + 1.177
        else:
            size = min(tempo.size, held - done[site])
            last = done[site] = done[site] + size
            tempo.sent(STREAM, last, now_s)
            cost_ms = 1.1 + 0.077 * size
        tempo.landed(STREAM, last, now_s)
        free_s = max(free_s, now_s) + slower * cost_ms / 1000
        longest_s = max(longest_s, free_s - now_s)
        overtakes = newest_first and size == 1
        answer = ((now_s if overtakes else free_s) + chance(), site)
        acks[answer] = done[site]
        heapq.heappush(agenda, answer)
        heapq.heappush(agenda, (tempo.until_s(), site))
    assert longest_s < 10.0
    work_s = slower * sites * (4 + held * 0.088) / 1000
    assert drained_s < 2 * work_s + 2 * MOST_S, "and is not idle for long"
