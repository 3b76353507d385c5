"""While ingest is behind, agents rest between the messages of their backlog: it does not ask."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path

import pytest

from agent import wire
from server.resend import BEHIND_S
from tests.lab import garbage
from tests.lab.broker import Broker
from tests.lab.city import City
from tests.lab.garbage import SITE
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.wait import until

pytestmark = pytest.mark.slow

_SOON_S, _AT_LATEST_S = 30.0, 90.0
"""The first ask comes late where this machine is busy: ingest is behind then, too."""
_MARKERS_S = 5.0
"""How often ingest sends one."""


def _markers(observer: Observer) -> int:
    return len(observer.seen("server/ingest/marker"))


def _delay_a_marker(broker: Broker, observer: Observer) -> None:
    """Hold the broker until one that was sent meanwhile has waited for longer than is in time."""
    before = _markers(observer)
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        ready_s = time.monotonic() + _MARKERS_S + 3 * BEHIND_S
        until(lambda: time.monotonic() > ready_s, _SOON_S, "a marker to be late")
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    until(lambda: _markers(observer) > before, _SOON_S, "the marker")


def test_a_hole_is_asked_for_at_once_but_not_while_everything_comes_late(tmp_path: Path) -> None:
    made = City(tmp_path / "city", None, [], also=[SITE])
    made.tables["mqtt"]["keepalive_s"] = 60  # the broker stands for seconds
    with made as city, Observer(city.broker) as observer:
        peer = Peer(city.broker, SITE).connect()

        def sends(*seqs: int) -> None:
            for seq in seqs:
                payload = garbage.message(garbage.reading(seq))
                peer.publish(wire.site_topic(SITE, "readings"), payload)

        def asked(until_at: float = math.inf) -> list[int]:
            commands = [s for s in observer.site(SITE, "commands") if s.at < until_at]
            return [s.body["args"]["from"] for s in commands if s.body["do"] == "resend"]

        sends(1, 3)
        until(lambda: asked() == [2], _AT_LATEST_S, "ingest to ask for seq 2")
        sends(2)
        until(lambda: observer.through(SITE, garbage.STREAM) == 3, 30, "the hole to close")

        for _ in range(2):
            _delay_a_marker(city.broker, observer)
        assert len(city.ingest.lines("connected to")) == 1, "it must not have begun anew"
        sends(5)
        seen = _markers(observer)
        until(lambda: _markers(observer) >= seen + 3, _SOON_S, "the time in which it would ask")
        assert asked(observer.seen("server/ingest/marker")[seen + 2].at) == [2]
        assert observer.through(SITE, garbage.STREAM) == 3
