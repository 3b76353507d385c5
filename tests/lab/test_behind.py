"""While ingest is behind, agents rest between the messages of their backlog: it does not ask."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent import wire
from tests.lab import garbage
from tests.lab.city import City
from tests.lab.garbage import SITE
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.wait import until

pytestmark = pytest.mark.slow

_STOPPED_S, _RUNS_S, _STOPS = 6.0, 1.0, 3
"""No longer than ingest's keepalive of 5 s allows; two of its markers in a row wait meanwhile."""
_SOON_S = 10.0


def test_a_hole_is_asked_for_at_once_but_not_while_everything_comes_late(tmp_path: Path) -> None:
    with City(tmp_path / "city", None, [], also=[SITE]) as city, Observer(city.broker) as observer:
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

        for _ in range(_STOPS):
            os.kill(city.broker.pid, signal.SIGSTOP)
            time.sleep(_STOPPED_S)
            os.kill(city.broker.pid, signal.SIGCONT)
            time.sleep(_RUNS_S)
        assert len(city.ingest.lines("connected to")) == 1, "it must not have begun anew"
        sends(5)
        sent_at = time.time()
        until(lambda: time.time() > sent_at + _SOON_S, 30, "the time in which it would ask")
        assert asked() == [2]
        assert observer.through(SITE, garbage.STREAM) == 3
