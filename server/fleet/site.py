"""One modelled site: a device, an agent on it, and its connection over a modelled line.

The agent's decisions are the agent's own code: what is sent next and when
(`agent.publish.pace`), presence, backoff (`agent.schedule`), spool and windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec

from agent import schedule, wire
from agent.publish.drain import Batch, Range
from agent.publish.pace import Pace
from agent.publish.presence import Here, presence
from server.config import Mqtt
from server.fleet import commands
from server.fleet.box import Box
from server.fleet.tube import Tube, tube_time
from server.mqtt import Connection, Lost, Message, Refused, Will, connect, tls

MAX_IN_FLIGHT = 20
"""As the agent's own connection."""
_SYN_S = 5.0
"""How long paho lets a connection come about."""
_STEADY_S = 30.0


Plight = Literal["dark", "dead", "hung"]
"""What stands against an agent: no power, no process, or a process that hangs."""
BEGINNING = None
"""Stands for the event that ends as the fleet is started."""


class Site:
    """A site that lives until `run` is cancelled. It waits for the end of `BEGINNING`.

    Args:
        box: its device and line.
        settings: how it reaches the broker, with its own identity.
        first: what stands against it at first; ``dead`` where the device runs already.
    """

    def __init__(self, box: Box, settings: Mqtt, first: Plight = "dark") -> None:
        self.box = box
        self._plight: dict[str | None, Plight] = {BEGINNING: first}
        version = "5" if settings.version == "auto" else settings.version
        username = settings.username or box.site
        self._settings = replace(settings, username=username, version=version)
        self._secure: ssl.SSLContext | None = None
        self._chance = random.Random(f"site {box.site}")  # noqa: S311  # spreads load
        self._tubes: set[Tube] = set()
        self._runs = asyncio.Event()
        self._died = asyncio.Event()
        self._awake = asyncio.Event()
        self._awake.set()
        self._mended = asyncio.Event()
        self._news = asyncio.Event()
        self._session: asyncio.Task[None] | None = None
        self._slept_s = 0.0
        self._asked: list[Range] = []
        self.connected, self.attempts = False, 0

    async def run(self) -> None:
        """Measure and talk."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._measure())
            tasks.create_task(self._talk())

    # What happens to it

    def suffer(self, event: str, plight: Plight) -> None:
        """An event begins: nobody is told where power fails; a killed process' kernel hangs up."""
        if plight == "hung":
            if self._runs.is_set():
                self._plight[event] = plight
                self._freeze(True)
            return
        self._plight[event] = plight
        if plight == "dark":
            for tube in self._tubes:
                tube.vanish()
        self._kill_agent()

    def relieve(self, event: str | None) -> None:
        """An event is over; others that last still stand against the agent."""
        ended, left = self._plight.pop(event, None), self._plight.values()
        if ended == "dark" and "dark" not in left:
            self.box.power_on(tube_time())
        if ended == "hung" and "hung" not in left:
            self._freeze(False)
        if ended in ("dark", "dead") and not left:
            self.box.start_agent(tube_time())
            self._runs.set()

    def _kill_agent(self) -> None:
        """The agent's process is gone; the next one does not hang."""
        self._runs.clear()
        self._died.set()
        self._plight = {event: one for event, one in self._plight.items() if one != "hung"}
        self._freeze(False)
        if self._session is not None:
            self._session.cancel()
        self.box.kill_agent()

    def _freeze(self, frozen: bool) -> None:
        """The agent's process hangs, or goes on."""
        if frozen == (not self._awake.is_set()):
            return
        now_s = tube_time()
        if frozen:
            self._awake.clear()
            self._slept_s = now_s
        else:
            self.box.asleep.append((self._slept_s, now_s))
            self._awake.set()
        for tube in list(self._tubes):
            tube.freeze(frozen)

    def mended(self) -> None:
        """Something of the line was mended; whether it passes now, it knows itself."""
        now_s = tube_time()
        if not self.box.link.is_cut(now_s):
            self._mended.set()
            for tube in list(self._tubes):
                tube.mended(now_s)

    # The agent

    async def _measure(self) -> None:
        box = self.box
        while True:
            await self._runs.wait()
            await self._awake.wait()
            current = box.window
            if current is None:
                continue
            await asyncio.sleep(max(0.0, current.complete_s - tube_time()))
            if box.window is not current or not self._awake.is_set():
                continue
            box.finish_window(tube_time(), time.time())
            self._news.set()

    async def _talk(self) -> None:
        attempt = 0
        while True:
            if not self._runs.is_set():
                await self._runs.wait()
                attempt = 0
            began_s = tube_time()
            reached = await self._reaches_broker()
            await self._awake.wait()
            if reached and self._runs.is_set():  # it may have died while it waited
                self._session = asyncio.create_task(self._hold_session())
                try:
                    await asyncio.wait({self._session})
                finally:
                    self._session.cancel()
                if not self._session.cancelled():
                    self._session.result()
                self._session = None
            attempt = 0 if tube_time() - began_s > _STEADY_S else attempt
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(schedule.reconnect_delay(attempt, self._chance)):
                    await self._died.wait()
            attempt = 0 if self._died.is_set() else attempt + 1  # the next process begins anew
            self._died.clear()
            await self._awake.wait()

    async def _reaches_broker(self) -> bool:
        """Whether a connection can come about now or before the agent gives it up."""
        if not self.box.link.is_cut(tube_time()):
            return True
        self._mended.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SYN_S):
                await self._mended.wait()
        return not self.box.link.is_cut(tube_time())

    async def _hold_session(self) -> None:
        """One connection, from its presence to its loss; cancelled, it is cut."""
        box, session = self.box, str(uuid.uuid4())
        self.attempts += 1
        here = Here(
            boot=box.boot,
            uptime_s=lambda: box.uptime_s(tube_time()),
            settings_revision=lambda: None,
            clock=lambda: box.clock(time.time()),
            keepalive_s=self._settings.keepalive_s,
        )
        topic = partial(wire.site_topic, box.site)
        will = Will(topic("presence"), presence(box.site, here, session, "offline", "lost"))
        heard = [topic(leaf) for leaf in ("settings", "commands")]
        with contextlib.suppress(Lost, Refused):
            # Once, as an agent does: thousands of sites would read their files again and again.
            self._secure = self._secure or tls(self._settings)
            async with connect(
                *(self._settings, box.site, will, heard),
                at_most_once=[topic("acks")],
                join=self._join,
                secure=self._secure,
            ) as connection:
                self.connected = True
                try:
                    hello = presence(box.site, here, session, "online")
                    connection.publish(topic("presence"), hello, retain=True)
                    await self._serve(connection, here)
                finally:
                    self.connected = False

    def _join(self, transport: Any, protocol: Any) -> Tube:
        tube = Tube(self.box.link, self._chance, self._tubes.discard).join(transport, protocol)
        self._tubes.add(tube)
        return tube

    async def _serve(self, connection: Connection, here: Here) -> None:
        assert self.box.spool is not None
        pace = Pace(self.box.spool, tube_time(), self._chance.random)
        pace.answered(tube_time())
        listening = asyncio.create_task(self._listen(connection, pace))
        sending = asyncio.create_task(self._send(connection, pace, here))
        try:
            await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, sending):
                task.cancel()
            ended = await asyncio.gather(listening, sending, return_exceptions=True)
        for one in ended:
            if isinstance(one, Exception):
                raise one

    async def _send(self, connection: Connection, pace: Pace, here: Here) -> None:
        """Send what is due, for ever."""
        flying = 0

        def landed(batch: Batch) -> None:
            nonlocal flying
            flying -= 1
            pace.landed(batch.stream, batch.last, tube_time())
            self._news.set()

        while True:
            await self._awake.wait()
            while self._asked:
                pace.resend(self._asked.pop(0))
            now_s = tube_time()
            pace.recover(now_s)
            newest = pace.newest(now_s, flying, MAX_IN_FLIGHT)
            backlog = pace.backlog(now_s, flying + (newest is not None), MAX_IN_FLIGHT)
            for batch in filter(None, (newest, backlog)):
                flying += 1
                self._publish(connection, here, batch, partial(landed, batch))
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pace.wait_s(now_s)):
                    await self._news.wait()

    def _publish(self, connection: Connection, here: Here, batch: Batch, landed: Any) -> None:
        payload = wire.encode_readings(
            site=self.box.site,
            stream=batch.stream,
            sent_boot=here.boot,
            sent_uptime_s=here.uptime_s(),
            oldest=batch.oldest,
            readings=[raw for _, raw in batch.readings],
        )
        connection.publish(wire.site_topic(self.box.site, "readings"), payload, on_published=landed)

    async def _listen(self, connection: Connection, pace: Pace) -> None:
        while True:
            batch = await connection.next_batch(gather_s=0)
            await self._awake.wait()
            for message in batch.messages:
                with contextlib.suppress(wire.Invalid, msgspec.MsgspecError):
                    self._hear(connection, pace, message)
            connection.acknowledge(batch)

    def _hear(self, connection: Connection, pace: Pace, message: Message) -> None:
        leaf, payload = message.topic.rpartition("/")[2], message.payload
        if leaf == "acks" and payload:
            pace.acknowledged(wire.decode(wire.Ack, payload), tube_time(), retained=message.retain)
        elif leaf == "commands":
            command = wire.decode(wire.Command, payload, site=self.box.site)
            spool = self.box.spool
            assert spool is not None
            reply, held = commands.obey(command, spool.streams(), spool.newest)
            if held is not None:
                self._asked.append(held)
            connection.publish(wire.site_topic(self.box.site, "replies"), wire.encode(reply))
        self._news.set()
