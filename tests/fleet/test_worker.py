"""One process of `pantau simulate`, in this one."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

from server.config import Mqtt
from server.fleet.story import Event
from server.fleet.worker import Play, Share
from server.mqtt import Connection
from tests.lab.broker import Broker

SITES = tuple(f"sim-{number}" for number in range(5))
ATTEMPTS = 8 * len(SITES)


def test_what_connections_leave_behind_does_not_pile_up(tmp_path: Path) -> None:
    """Agents are killed again and again, and nobody but the play itself collects garbage."""
    kills = [Event(f"k{n}", float(n), 0.1, "agent_killed", SITES, 0.0) for n in range(1, 60)]
    lying: list[int] = []
    with Broker(tmp_path / "broker") as broker:
        now = time.time()
        share = Share(
            sites=tuple((site, ()) for site in SITES),
            events=tuple(kills),
            settings=Mqtt(url=broker.url, keepalive_s=2),
            window_s=60.0,
            begins=now,
            ends=now + 120,
            spools=tmp_path / "spools",
            spools_stay=True,
            journal=None,
            certificates=None,
        )

        def tell(_: object) -> None:
            lying.append(sum(isinstance(one, Connection) for one in gc.get_objects()))
            if play.fleet.attempts >= ATTEMPTS:
                raise OSError  # as when who started it is gone: that ends it

        gc.disable()
        try:
            play = Play(share, tell)
            asyncio.run(play.run())
        finally:
            gc.enable()
            gc.unfreeze()
    assert play.fleet.attempts >= ATTEMPTS
    # One of each site that lives, and those of the time between two looks.
    assert max(lying) <= 3 * len(SITES)
