"""When the backlog of a connection goes, from a real spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.publish.drain import Range
from agent.publish.pace import ACKS_WAIT_S, ANSWER_S, Pace
from agent.publish.tempo import ANSWER_S as NEWEST_ANSWER_S
from agent.publish.tempo import FIRST, QUICK_S, REST
from agent.spool import Spool
from agent.wire import MAX_READINGS, Ack

HELD = 250


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    own = Spool(tmp_path / "spool", 1 << 22, boot="boot-1")
    for _ in range(HELD):
        own.append(lambda seq: b'{"seq":%d}' % seq)
    yield own
    own.close()


def sent(pace: Pace, now_s: float) -> int:
    """How many readings of the backlog go then."""
    batch = pace.backlog(now_s, 0, 20)
    return 0 if batch is None else len(batch.readings)


def stored(spool: Spool, through: int) -> Ack:
    assert spool.newest is not None
    return Ack(v=1, stream=spool.newest[0], through=through)


def test_acks_are_waited_for_from_the_brokers_answer_on(spool: Spool) -> None:
    pace = Pace(spool, 100.0, lambda: 0.5)
    assert sent(pace, 103.0) == 0, "the broker has not answered yet: nothing can have been heard"
    pace.answered(103.0)
    assert sent(pace, 103.0 + ACKS_WAIT_S - 0.1) == 0
    assert sent(pace, 103.0 + ACKS_WAIT_S) == MAX_READINGS, "nobody is there who says acks"


def test_a_broker_that_never_answers_is_not_waited_for_for_ever(spool: Spool) -> None:
    pace = Pace(spool, 100.0, lambda: 0.5)
    assert sent(pace, 100.0 + ANSWER_S - 0.1) == 0
    assert sent(pace, 100.0 + ANSWER_S) == MAX_READINGS


def test_an_ack_lets_it_go_at_once_and_in_small_steps(spool: Spool) -> None:
    pace = Pace(spool, 100.0, lambda: 0.5)
    pace.answered(100.1)
    pace.acknowledged(stored(spool, 10), 100.2, retained=True)
    assert sent(pace, 100.2) == FIRST
    assert sent(pace, 101.0) == 0
    pace.acknowledged(stored(spool, 10 + FIRST), 101.1, retained=False)
    assert sent(pace, 101.1) == 2 * FIRST


def test_what_the_server_asks_for_goes_without_waiting(spool: Spool) -> None:
    pace = Pace(spool, 100.0, lambda: 0.5)
    pace.answered(100.0)
    pace.acknowledged(stored(spool, 0), 100.0, retained=True)
    assert sent(pace, 100.0) == FIRST
    assert sent(pace, 101.0) == 0
    assert spool.newest is not None
    pace.resend(Range(spool.newest[0], 1, 5))
    assert sent(pace, 101.0) == 5


def asking(spool: Spool) -> Pace:
    """A connection that knows of acks, whose newest reading went at 100 and landed at 100.2."""
    pace = Pace(spool, 100.0, lambda: 0.5)
    pace.answered(100.0)
    newest = pace.newest(100.0, 0, 20)
    assert newest is not None
    pace.acknowledged(stored(spool, 10), 100.1, retained=True)
    pace.landed(newest.stream, newest.last, 100.2)
    return pace


def test_the_newest_reading_tells_how_late_the_server_is_and_the_backlog_rests(
    spool: Spool,
) -> None:
    pace = asking(spool)
    assert sent(pace, 105.1) == 0, "no answer yet"
    pace.acknowledged(stored(spool, 11), 105.2, retained=False)
    rest_s = REST * (5 - QUICK_S)
    assert pace.wait_s(105.2) == pytest.approx(rest_s)
    assert sent(pace, 105.2 + rest_s - 0.1) == 0
    assert sent(pace, 105.3 + rest_s) == FIRST


def test_an_ack_that_stood_at_the_broker_does_not_tell_how_late_the_server_is(
    spool: Spool,
) -> None:
    pace = asking(spool)
    pace.acknowledged(stored(spool, 11), 105.2, retained=True)
    assert sent(pace, 100.0 + NEWEST_ANSWER_S - 0.1) == 0
    assert sent(pace, 100.0 + NEWEST_ANSWER_S) == FIRST
