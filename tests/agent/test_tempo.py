"""How much of the backlog goes at a time, by what the server says of it."""

from __future__ import annotations

import uuid

import pytest

from agent.publish.tempo import FIRST, LEAST, MOST_S, PATIENCE_S, QUICK_S, SLOW_S, Tempo
from agent.wire import MAX_READINGS, Ack

STREAM, OLDER = str(uuid.uuid4()), str(uuid.uuid4())


def ack(through: int, stream: str = STREAM) -> Ack:
    return Ack(v=1, stream=stream, through=through)


@pytest.fixture
def heard() -> Tempo:
    tempo = Tempo()
    tempo.acknowledged(ack(0), 0.0)
    return tempo


def test_full_messages_go_without_waiting_until_an_ack_was_heard() -> None:
    tempo = Tempo()
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


@pytest.mark.parametrize(
    ("took_s", "then"),
    [(QUICK_S, 2 * FIRST), ((QUICK_S + SLOW_S) / 2, FIRST), (SLOW_S + 0.1, FIRST // 2)],
)
def test_a_quick_ack_doubles_a_slow_one_halves(heard: Tempo, took_s: float, then: int) -> None:
    heard.sent(STREAM, 16, 10.0)
    heard.acknowledged(ack(16), 10.0 + took_s)
    assert heard.size == then


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
    assert waits == [PATIENCE_S, 20.0, 40.0, 80.0, MOST_S, MOST_S, MOST_S]
    heard.acknowledged(ack(7 * 16), at_s - MOST_S + 25.0)
    heard.sent(STREAM, 200, at_s)
    assert heard.until_s() - at_s == 50.0, "an ack tells how long one takes"
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
