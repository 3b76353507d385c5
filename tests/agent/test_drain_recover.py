"""An older stream that was lost on the way is found by what the server has of the newest."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.publish.drain import Drain, Range
from agent.spool import Spool
from tests.agent.spool_helper import NEXT_BOOT, abandon, append, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An older stream of three readings, and a newest one of one."""
    before = open_spool(tmp_path)
    for text in "abc":
        append(before, text)
    abandon(before)
    after = open_spool(tmp_path, boot=NEXT_BOOT)
    append(after, "d")
    return after


def _sent(drain: Drain) -> list[tuple[str, list[int]]]:
    """Everything that is to be sent now: stream and seqs of each message."""
    batches = [drain.newest()]
    while (batch := drain.backlog()) is not None:
        batches.append(batch)
    return [(b.stream, [seq for seq, _ in b.readings]) for b in batches if b is not None]


def _confirm_a_later_reading(spool: Spool, drain: Drain) -> None:
    """The server has a reading of the newest stream that was sent behind all others."""
    stream, seq = append(spool, "later")
    _sent(drain)
    spool.release(stream, seq)


def test_what_the_server_must_have_passed_and_did_not_confirm_is_sent_again(spool: Spool) -> None:
    old = spool.streams()[0].stream
    drain = Drain(spool)
    _sent(drain)

    assert drain.recover() == []
    _confirm_a_later_reading(spool, drain)
    assert drain.recover() == [Range(old, 1, 3)]
    assert _sent(drain) == [(old, [1, 2, 3])]


def test_nothing_is_sent_again_while_the_server_is_away(spool: Spool) -> None:
    drain = Drain(spool)
    for _ in range(5):
        _sent(drain)
        append(spool, "later")
        assert drain.recover() == []


def test_only_what_is_not_confirmed_is_sent_again(spool: Spool) -> None:
    old = spool.streams()[0].stream
    drain = Drain(spool)
    _sent(drain)
    drain.recover()
    spool.release(old, 2)
    _confirm_a_later_reading(spool, drain)

    assert drain.recover() == [Range(old, 3, 3)]


def test_a_confirmation_that_comes_in_time_leaves_nothing_to_do(spool: Spool) -> None:
    old = spool.streams()[0].stream
    drain = Drain(spool)
    _sent(drain)
    drain.recover()
    spool.release(old, 3)
    _confirm_a_later_reading(spool, drain)

    assert drain.recover() == []


def test_a_stream_that_is_still_being_sent_is_not_called_lost(spool: Spool) -> None:
    drain = Drain(spool)
    drain.newest()

    drain.recover()
    stream, seq = append(spool, "later")
    drain.newest()
    spool.release(stream, seq)
    assert drain.recover() == []


def test_where_sending_again_did_not_help_it_is_not_tried_twice(spool: Spool) -> None:
    drain = Drain(spool)
    _sent(drain)
    drain.recover()
    _confirm_a_later_reading(spool, drain)
    assert len(drain.recover()) == 1

    for _ in range(3):
        _sent(drain)
        assert drain.recover() == []
        _confirm_a_later_reading(spool, drain)
