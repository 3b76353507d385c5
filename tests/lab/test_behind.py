"""While ingest is behind, agents rest between the messages of their backlog: it does not ask."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent import wire
from server.payloads import MARKER
from server.resend import BEHIND_S
from tests.lab import garbage
from tests.lab.broker import Broker
from tests.lab.city import City
from tests.lab.garbage import SITE
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.wait import until

pytestmark = pytest.mark.slow

_SOON_S = 10.0
_MARKER_S = 30.0
"""Ingest sends one each 5 s."""


def _waiting_bytes(broker: Broker) -> int:
    """What clients have sent and the broker has not read."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = f":{broker.port:04X}"
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(local))


def _delay_a_marker(broker: Broker, observer: Observer) -> None:
    """Hold the broker until a marker has waited there for longer than is in time."""
    before = len(observer.seen("server/ingest/marker"))
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        until(lambda: _waiting_bytes(broker) > len(MARKER), _MARKER_S, "a marker to wait")
        late_at = time.time() + 1.5 * BEHIND_S
        until(lambda: time.time() > late_at, _MARKER_S, "it to be late")
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    until(lambda: len(observer.seen("server/ingest/marker")) > before, _SOON_S, "the marker")


def test_a_hole_is_asked_for_at_once_but_not_while_everything_comes_late(tmp_path: Path) -> None:
    made = City(tmp_path / "city", None, [], also=[SITE])
    made.tables["mqtt"]["keepalive_s"] = 60  # the broker stands for seconds
    with made as city, Observer(city.broker) as observer:
        peer = Peer(city.broker, SITE).connect()

        def sends(*seqs: int) -> None:
            for seq in seqs:
                payload = garbage.message(garbage.reading(seq))
                peer.publish(wire.site_topic(SITE, "readings"), payload)

        def asked() -> list[int]:
            commands = observer.site(SITE, "commands")
            return [s.body["args"]["from"] for s in commands if s.body["do"] == "resend"]

        sends(1, 3)
        until(lambda: asked() == [2], _SOON_S, "ingest to ask for seq 2")
        sends(2)
        until(lambda: observer.through(SITE, garbage.STREAM) == 3, 30, "the hole to close")

        for _ in range(2):
            _delay_a_marker(city.broker, observer)
        assert len(city.ingest.lines("connected to")) == 1, "it must not have begun anew"
        sends(5)
        sent_at = time.time()
        until(lambda: time.time() > sent_at + _SOON_S, 30, "the time in which it would ask")
        assert asked() == [2]
        assert observer.through(SITE, garbage.STREAM) == 3
