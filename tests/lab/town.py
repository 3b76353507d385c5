"""A fleet of simulated sites that a test makes suffer while it watches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from server.config import Mqtt
from server.simulate import Fleet
from server.simulate_site import Act


class Town:
    """Simulated sites, in a thread of their own; they all have power at first."""

    def __init__(self, url: str, sites: Sequence[str]) -> None:
        self._sites = sites
        self._fleet = Fleet(sites, Mqtt(url=url, keepalive_s=2), window_s=2.0)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None

    def suffer(self, act: Act, *sites: str) -> None:
        """Let something happen to them, and wait until it has."""
        done = threading.Event()

        def act_now() -> None:
            self._fleet.suffer(act, sites)
            done.set()

        self._loop.call_soon_threadsafe(act_now)
        assert done.wait(10)

    @contextmanager
    def running(self) -> Iterator[Town]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            self.suffer(Act.POWER_ON, *self._sites)
            yield self
        finally:
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
            thread.join()
            self._loop.close()

    def _run(self) -> None:
        async def fleet() -> None:
            self._task = asyncio.ensure_future(self._fleet.run())
            await asyncio.wait({self._task})

        self._loop.run_until_complete(fleet())
