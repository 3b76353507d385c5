"""A fleet of simulated sites that speak the real wire format through a real broker.

`SiteModel` decides what a site says; this module only gives it a clock and a
connection. A site that loses line or power drops its connection without a
DISCONNECT, so that the broker publishes the will, as it does for a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Iterable

from agent import wire
from server.config import Mqtt
from server.mqtt import Connection, Lost, Refused, Will, connect
from server.simulate_site import Act, Message, SiteModel

CONNECT_WITHIN_S = 1.0
"""A site (re)connects after a random part of this."""


class SimulatedSite:
    """One `SiteModel` with a clock and a connection to the broker."""

    def __init__(self, model: SiteModel, settings: Mqtt) -> None:
        self.model = model
        self._settings = settings
        self._random = random.Random(model.site)  # noqa: S311 - spreads load, no secret
        self._window_ends_at = 0.0
        self._powered = asyncio.Event()
        self._reachable = asyncio.Event()
        self._session: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    async def run(self) -> None:
        """Measure and talk until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._measure())
            tasks.create_task(self._talk())

    def suffer(self, act: Act) -> None:
        """Let something happen to the site now."""
        now = time.time()
        self.model.suffer(act, now)
        if act is Act.POWER_ON:
            # Not all windows of a fleet that is switched on together end together.
            self._window_ends_at = now + self.model.window_s * self._random.uniform(1, 2)
        _set_to(self._powered, self.model.powered)
        _set_to(self._reachable, self.model.reachable)
        if self._session and not self.model.reachable:
            self._session.cancel()

    async def _measure(self) -> None:
        while True:
            await self._powered.wait()
            await asyncio.sleep(max(0.0, self._window_ends_at - time.time()))
            now = time.time()
            if now < self._window_ends_at or not self.model.powered:
                continue
            while self._window_ends_at <= now:
                self._window_ends_at += self.model.window_s
            self.model.take_reading(now)
            if self._connection:
                self._say(self._connection, self.model.newest(now))

    async def _talk(self) -> None:
        while True:
            await self._reachable.wait()
            await asyncio.sleep(self._random.uniform(0, CONNECT_WITHIN_S))
            if not self.model.reachable:
                continue
            self._session = asyncio.create_task(self._hold_session())
            try:
                await asyncio.wait({self._session})
            finally:
                self._session.cancel()
            if not self._session.cancelled():
                self._session.result()

    async def _hold_session(self) -> None:
        """One connection, from its presence to its loss; cancelled, it is cut."""
        model, session = self.model, str(uuid.uuid4())
        will = model.will(time.time(), session)
        mine = [wire.site_topic(model.site, leaf) for leaf in ("acks", "commands")]
        with contextlib.suppress(Lost, Refused):
            async with connect(
                self._settings, model.site, Will(will.topic, will.payload), mine
            ) as connection:
                self._connection = connection
                try:
                    self._say(connection, model.hello(time.time(), session))
                    while True:
                        batch = await connection.next_batch(gather_s=0)
                        for message in batch.messages:
                            answer = model.hear(time.time(), message.topic, message.payload)
                            self._say(connection, answer)
                        connection.acknowledge(batch)
                finally:
                    self._connection = None

    @staticmethod
    def _say(connection: Connection, messages: Iterable[Message]) -> None:
        for message in messages:
            connection.publish(message.topic, message.payload, retain=message.retain)


class Fleet:
    """Simulated sites by id."""

    def __init__(self, sites: Iterable[str], settings: Mqtt, *, window_s: float) -> None:
        self.sites = {
            site: SimulatedSite(SiteModel(site, window_s=window_s), settings) for site in sites
        }

    @property
    def models(self) -> list[SiteModel]:
        """The sites' models, which hold what was truly measured."""
        return [site.model for site in self.sites.values()]

    async def run(self) -> None:
        """Run every site until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for site in self.sites.values():
                tasks.create_task(site.run())

    def suffer(self, act: Act, sites: Iterable[str]) -> None:
        """Let something happen to some sites now."""
        for site in sites:
            self.sites[site].suffer(act)


def _set_to(event: asyncio.Event, value: bool) -> None:
    event.set() if value else event.clear()
