"""Each ack is held against the store as it comes, whatever came before it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from bench.truth.acks import AckWatch
from tests.lab.broker import Broker
from tests.wait import until

_LAST = "sim-0001: through 9 of last"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Seq 1 of one stream is stored."""
    file = tmp_path / "pantau.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE streams (id INTEGER PRIMARY KEY, site, stream)")
        db.execute("CREATE TABLE readings (stream_id, seq)")
        db.execute("INSERT INTO streams VALUES (1, 'sim-0001', 'a')")
        db.execute("INSERT INTO readings VALUES (1, 1)")
        db.commit()
    return file


def _watched(broker: Broker, database: Path, payloads: list[bytes]) -> AckWatch:
    """A watch that has heard these, between two that show that it listens."""
    watch = AckWatch(broker.port, database)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "_server")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    topic = "pantau/v1/sites/sim-0001/acks"

    def listens() -> bool:
        client.publish(topic, _ack(1), 1)
        return watch.heard > 0

    try:
        until(listens, 20, "the first ack")
        for payload in (*payloads, _ack(9, "last")):
            client.publish(topic, payload, 1)
        until(lambda: _LAST in watch.ahead, 20, "the last ack")
        watch.ahead.remove(_LAST)
        return watch
    finally:
        client.disconnect()
        client.loop_stop()
        watch.close()


def _ack(through: int, stream: str = "a") -> bytes:
    return json.dumps({"v": 1, "stream": stream, "through": through}).encode()


@pytest.mark.parametrize(
    "bad", [b"{", b"[]", b'{"v":1,"stream":"a"}', b"\xff", b'{"stream":[1],"through":1}']
)
def test_an_ack_that_cannot_be_read_is_a_fault_and_the_next_is_watched(
    broker: Broker, database: Path, bad: bytes
) -> None:
    watch = _watched(broker, database, [bad, _ack(7), _ack(1)])
    assert watch.ahead == ["sim-0001: through 7 of a"]
    assert len(watch.unread) == 1
    said = "\n".join(watch.faults())
    assert "1 acks ran ahead of the store" in said
    assert "1 acks could not be held against the store" in said


def test_acks_of_what_is_stored_are_no_fault(broker: Broker, database: Path) -> None:
    assert _watched(broker, database, [_ack(1), _ack(0)]).faults() == []


def test_a_watch_that_heard_nothing_is_a_fault(broker: Broker, database: Path) -> None:
    watch = AckWatch(broker.port, database)
    watch.close()
    assert watch.faults() == ["no ack was heard at all"]
