"""A publisher on a real broker, and the other side of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agent import wire
from agent.config import Config, Mqtt, Reading
from agent.config import Spool as SpoolConfig
from agent.publish import Here, Publisher
from agent.spool import Spool
from tests.agent.spool_helper import BOOT
from tests.lab.broker import Broker
from tests.lab.peer import Heard, Peer
from tests.wait import until

SITE = "bitung-0123"
WAIT_S = 30.0


def mqtt(url: str, **changed: Any) -> Mqtt:
    """A configuration of the broker without TLS."""
    keys: dict[str, Any] = {
        **dict.fromkeys(("ca_file", "cert_file", "key_file", "username", "password_file")),
        "version": "auto",
        "keepalive_s": 15,
    }
    return Mqtt(url=url, **{**keys, **changed})


def config(path: Path, broker: Mqtt) -> Config:
    """A configuration that measures nothing."""
    given = {
        "site": SITE,
        "mqtt": broker,
        "spool": SpoolConfig(path, 1),
        "reading": Reading(60.0),
    }
    absent = dict.fromkeys(one.name for one in fields(Config))
    return Config(**{**absent, **given})  # type: ignore[arg-type]  # by name, as they are


def reading(seq: int) -> bytes:
    """A valid reading."""
    return wire.encode(
        wire.Reading(
            seq=seq,
            boot=BOOT,
            taken_at="2026-11-22T06:50:00.000Z",
            uptime_s=float(seq),
            clock=wire.Clock(synced=True),
            window_s=60.0,
            agent="0.1.0",
            ladder=wire.Ladder(carrier="ok"),
        )
    )


@dataclass
class Rig:
    """A publisher with its spool, and a peer that hears what it says and can answer."""

    spool: Spool
    publisher: Publisher
    peer: Peer
    controls: list[tuple[str, bytes]] = field(default_factory=list)

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            self.spool.append(reading)
        self.publisher.notify()

    def messages(self, leaf: str) -> list[Heard]:
        topic = wire.site_topic(SITE, leaf)
        return [heard for heard in list(self.peer.heard) if heard.topic == topic]

    def batches(self) -> list[tuple[str, int, list[int]]]:
        """Stream, oldest and seqs of each readings message; each one decodes."""
        found = []
        for heard in self.messages("readings"):
            batch = wire.decode_readings(heard.payload, site=SITE)
            assert not batch.bad
            seqs = [good.reading.seq for good in batch.good]
            found.append((batch.envelope.stream, batch.envelope.oldest, seqs))
        return found

    def seqs(self) -> list[int]:
        return [seq for _, _, seqs in self.batches() for seq in seqs]

    def presences(self) -> list[dict[str, Any]]:
        return [json.loads(heard.payload) for heard in self.messages("presence")]

    def wait_seqs(self, count: int) -> list[int]:
        until(lambda: len(self.seqs()) >= count, WAIT_S, f"{count} readings")
        return self.seqs()

    def say(self, leaf: str, payload: bytes | dict[str, Any], *, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.peer.publish(wire.site_topic(SITE, leaf), data, retain=retain)

    def ack(self, through: int, *, stream: str | None = None) -> None:
        newest = self.spool.newest
        name = stream or (newest[0] if newest else "")
        self.say("acks", {"v": 1, "stream": name, "through": through}, retain=True)

    def wait_unreleased(self, count: int) -> None:
        until(lambda: self.spool.unreleased == count, WAIT_S, f"{count} unreleased readings")


@contextmanager
def rig(tmp_path: Path, broker: Broker, *, held: int = 0, **changed: Any) -> Iterator[Rig]:
    """A running publisher whose spool already holds some readings."""
    spool = Spool(tmp_path / "spool", 1 << 22, boot=BOOT)
    for _ in range(held):
        spool.append(reading)
    controls: list[tuple[str, bytes]] = []
    here = Here(BOOT, lambda: 8190.0, lambda: 7)
    settings = config(tmp_path / "spool", mqtt(**{"url": broker.url, **changed}))
    publisher = Publisher(
        settings, spool, here, lambda leaf, payload, _: controls.append((leaf, payload))
    )
    with Peer(broker, "_watcher") as peer:
        peer.subscribe("pantau/v1/sites/+/+")
        made = Rig(spool, publisher, peer, controls)
        publisher.start()
        try:
            yield made
        finally:
            publisher.stop("stopped")
            spool.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "publisher"]
