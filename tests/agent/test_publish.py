"""Sending, on a real mosquitto: presence, backlog, acks, resend, what is malformed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.publish import Here, Publisher, Range
from agent.spool import Spool
from tests.agent.publish_helper import SITE, WAIT_S, config, mqtt, reading, rig
from tests.agent.spool_helper import BOOT, NEXT_BOOT, abandon
from tests.lab.broker import Broker
from tests.lab.peer import Peer
from tests.wait import until

VERSIONS = ["5", "3.1.1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_presence_says_online_retained_and_a_clean_end_says_why(
    tmp_path: Path, broker: Broker, version: str
) -> None:
    with rig(tmp_path, broker, version=version) as agent:
        until(lambda: len(agent.presences()) == 1, WAIT_S, "presence")
        agent.publisher.stop("upgrade")
        until(lambda: len(agent.presences()) == 2, WAIT_S, "the goodbye")
        online, offline = agent.presences()

    assert (online["state"], online["agent"], online["settings_revision"]) == ("online", "0.1.0", 7)
    assert (offline["state"], offline["reason"]) == ("offline", "upgrade")
    assert offline["session"] == online["session"]
    with Peer(broker, "_late") as late:
        late.subscribe(wire.site_topic(SITE, "presence"))
        until(lambda: len(late.heard) == 1, WAIT_S, "the retained presence")
        assert late.heard[0].retained
        assert b'"upgrade"' in late.heard[0].payload


@pytest.mark.parametrize("version", VERSIONS)
def test_each_connection_has_a_session_and_a_will_of_its_own(
    tmp_path: Path, broker: Broker, version: str
) -> None:
    with rig(tmp_path, broker, version=version) as agent:
        until(lambda: len(agent.presences()) == 1, WAIT_S, "presence")
        # whoever takes our client id away ends our connection without our goodbye
        with Peer(broker, SITE):
            until(lambda: len(agent.presences()) >= 2, WAIT_S, "the will")
        until(lambda: agent.presences()[-1]["state"] == "online", WAIT_S, "the next session")
        presences = agent.presences()

    first, will, *_, last = presences
    assert (will["state"], will["reason"], will["session"]) == ("offline", "lost", first["session"])
    assert last["session"] != first["session"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_newest_goes_first_and_the_backlog_behind_it_oldest_first(
    tmp_path: Path, broker: Broker, version: str
) -> None:
    with rig(tmp_path, broker, held=250, version=version) as agent:
        agent.wait_seqs(250)
        batches = agent.batches()

    assert [seqs for _, _, seqs in batches] == [
        [250],
        list(range(1, 101)),
        list(range(101, 201)),
        list(range(201, 250)),
    ]
    assert {oldest for _, oldest, _ in batches} == {1}


@pytest.mark.parametrize("remembered", [0, 10])
def test_readings_arrive_on_their_topic_whether_or_not_the_broker_remembers_its_name(
    tmp_path: Path, remembered: int
) -> None:
    with (
        Broker(tmp_path / "broker", extra=[f"max_topic_alias {remembered}"]) as broker,
        rig(tmp_path, broker, version="5") as agent,
    ):
        for count in range(1, 5):
            agent.append()
            agent.wait_seqs(count)
        assert agent.seqs() == [1, 2, 3, 4]


def test_a_new_reading_overtakes_the_backlog_and_nothing_is_sent_twice(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker, held=600) as agent:
        agent.wait_seqs(150)
        agent.append()
        seqs = agent.wait_seqs(601)

    assert sorted(seqs) == list(range(1, 602))
    assert seqs.index(601) < seqs.index(599)


def test_a_single_reading_is_compressed_as_a_batch_is(tmp_path: Path, broker: Broker) -> None:
    with rig(tmp_path, broker, held=3) as agent:
        agent.wait_seqs(3)
        single, batch = agent.messages("readings")

    assert [len(wire.decode_readings(m.payload, site=SITE).good) for m in (single, batch)] == [1, 2]
    assert (single.payload[:1], batch.payload[:1]) == (b"\x78", b"\x78")


def test_acks_release_and_a_new_connection_begins_behind_them(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker, held=5) as agent:
        agent.wait_seqs(5)
        agent.ack(3)
        agent.wait_unreleased(2)
        with Peer(broker, SITE):
            until(lambda: len(agent.presences()) >= 2, WAIT_S, "the end of the connection")
        seqs = agent.wait_seqs(7)

    assert sorted(seqs[5:]) == [4, 5]


def test_the_retained_ack_is_awaited_before_the_backlog_is_sent(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker, held=300) as agent:
        agent.wait_seqs(300)
        agent.ack(290)
        agent.wait_unreleased(10)
        # as if the positions were lost: only the retained ack knows of the 290
        agent.spool.release(agent.batches()[0][0], 0)
        with Peer(broker, SITE):
            until(lambda: len(agent.presences()) >= 2, WAIT_S, "the end of the connection")
        seqs = agent.wait_seqs(310)

    assert sorted(seqs[300:]) == list(range(291, 301))


def test_acks_that_go_back_have_everything_behind_them_sent_again(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker, held=20) as agent:
        agent.wait_seqs(20)
        agent.ack(20)
        agent.wait_unreleased(0)
        agent.ack(12)
        seqs = agent.wait_seqs(28)

    assert sorted(seqs[20:]) == list(range(13, 21))


def test_resend_sends_a_range_again_as_far_as_it_is_held(tmp_path: Path, broker: Broker) -> None:
    with rig(tmp_path, broker, held=20) as agent:
        agent.wait_seqs(20)
        stream = agent.batches()[0][0]
        held = agent.publisher.resend(Range(stream, 15, 99))
        seqs = agent.wait_seqs(26)
        nothing = agent.publisher.resend(Range(stream, 50, 99))
        other = agent.publisher.resend(Range("another", 1, 2))

    assert held == Range(stream, 15, 20)
    assert seqs[20:] == list(range(15, 21))
    assert (nothing, other) == (None, None)


def test_what_the_backlog_has_yet_to_send_is_not_resent_as_well(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker, held=700) as agent:
        agent.wait_seqs(101)
        stream = agent.batches()[0][0]
        agent.publisher.resend(Range(stream, 600, 650))
        agent.append()
        agent.wait_seqs(701)
        agent.append()
        until(lambda: 702 in agent.seqs(), WAIT_S, "the last reading")
        seqs = agent.seqs()

    assert sorted(seqs) == list(range(1, 703))


def test_streams_are_sent_oldest_first_each_with_its_own_oldest(
    tmp_path: Path, broker: Broker
) -> None:
    before = Spool(tmp_path / "spool", 1 << 22, boot=NEXT_BOOT)
    for _ in range(4):
        before.append(reading)
    abandon(before)
    with rig(tmp_path, broker, held=3) as agent:
        agent.wait_seqs(7)
        batches = agent.batches()

    (newest, _, first), (old, _, second), (again, _, third) = batches
    assert (first, second, third) == ([3], [1, 2, 3, 4], [1, 2])
    assert newest == again != old


GARBAGE: list[bytes] = [
    b"",
    b"not json",
    b"\xff\xfe",
    b"\x78\x9c broken",
    b"[]",
    b"null",
    b"{}",
    b'{"v":2}',
    b"[" * 100_000,
    b'{"v":1,"stream":7,"through":"x"}',
    b'{"v":1,"stream":"5f0cd9f5-4c1c-4a37-8a0e-3b5a4c1d2e3f","through":-1}',
    b'{"v":1,"stream":"5f0cd9f5-4c1c-4a37-8a0e-3b5a4c1d2e3f","through":9223372036854775807}',
]


@pytest.mark.parametrize("version", VERSIONS)
def test_garbage_on_every_topic_that_is_read_changes_nothing(
    tmp_path: Path, broker: Broker, version: str
) -> None:
    with rig(tmp_path, broker, held=2, version=version) as agent:
        agent.wait_seqs(2)
        for leaf in ("acks", "settings", "commands"):
            for payload in GARBAGE:
                agent.say(leaf, payload)
        agent.append()
        agent.wait_seqs(3)
        agent.ack(3)
        agent.wait_unreleased(0)

        assert len(agent.presences()) == 1
        assert len(agent.controls) == 2 * len(GARBAGE)


def test_a_fault_in_the_handler_does_not_end_the_connection(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rig(tmp_path, broker) as agent:
        until(lambda: len(agent.presences()) == 1, WAIT_S, "presence")

        def broken(*_: Any) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(agent.publisher, "_control", broken)
        agent.say("commands", b"{}")
        agent.append()
        agent.wait_seqs(1)
        agent.ack(1)
        agent.wait_unreleased(0)

        assert len(agent.presences()) == 1


def test_the_broker_coming_back_is_found_and_everything_unreleased_sent_again(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker, held=5) as agent:
        agent.wait_seqs(5)
        with Peer(broker, "_second", clean=False) as peer:  # its session hears who comes first
            peer.subscribe("pantau/v1/sites/+/+")
        broker.stop()
        until(lambda: not agent.publisher.state()[0], WAIT_S, "the loss to be seen")
        agent.append(3)
        broker.start()
        with Peer(broker, "_second", clean=False) as peer:
            agent.peer = peer
            seqs = agent.wait_seqs(8)

    assert sorted(seqs) == list(range(1, 9))


def test_a_half_open_link_is_noticed_by_the_keepalive(tmp_path: Path, broker: Broker) -> None:
    with rig(tmp_path, broker, keepalive_s=1) as agent:
        until(lambda: agent.publisher.state()[0], WAIT_S, "a connection")
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            until(lambda: not agent.publisher.state()[0], WAIT_S, "the loss to be seen")
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        until(lambda: agent.publisher.state()[0], WAIT_S, "the next connection")


def test_an_unreachable_broker_is_told_once_and_named(
    tmp_path: Path, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.stop()
    spool = Spool(tmp_path / "spool", 1 << 20, boot=BOOT)
    settings = config(tmp_path / "spool", mqtt(broker.url))
    publisher = Publisher(
        settings, spool, Here(BOOT, time.monotonic, lambda: None), lambda *_: None
    )
    publisher.start()
    place = f"broker 127.0.0.1:{broker.port}: Connection refused; check mqtt.url and the network"
    until(lambda: publisher.state()[1] == place, WAIT_S, "the refusal")
    publisher.stop("stopped")
    spool.close()

    assert [record.message for record in caplog.records].count(place) == 1
