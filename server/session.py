"""One connection of ingest to the broker, from login to loss.

Messages are committed, then acknowledged, then answered, in that order. Three
loops share the connection: what arrives, what time brings, and what must be
published. Everything that touches the store runs on one worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from agent import wire
from server import notify, payloads, urgency
from server.alerts import Publisher
from server.ingest import Ingest
from server.intake import Progress, Taken
from server.mqtt import Connection, Message
from server.resend import Holes
from server.store import StoreError

BATCH = 500
"""Messages in one transaction, or a few more; the broker fills the next meanwhile."""
_TICK_S = 0.25
_FEW_ACKS = 100
_ACK_S = 1.0
"""More acks than a few wait so long: in a flood they would be a flood of their own."""
_PROOF_S = 5.0
"""A marker is sent at least so often, so that our own absence has an edge."""
_SERVICE_S = 30.0
_STALL_S = 5.0
"""Our own loop standing still for longer counts as absence."""
_MARKER_S = 30.0
"""A first marker that takes longer is worth a line in the log."""
_RETRY_S = 1.0
_COMMAND_S = 60.0

T = TypeVar("T")
log = logging.getLogger(__name__)


class Session:
    """The work on one connection.

    Args:
        link: the connection.
        ingest: what commits.
        worker: the thread that the store belongs to.
        holes: what is missing, and when it was asked for; outlives the connection.
        blind_since: our own absence began then.
    """

    def __init__(
        self,
        link: Connection,
        ingest: Ingest,
        worker: Executor,
        holes: Holes,
        blind_since: float,
    ) -> None:
        self._link = link
        self._ingest = ingest
        self._worker = worker
        self._blind_since = blind_since
        self._publisher = Publisher(link, ingest)
        self._holes = holes
        self._acks: dict[tuple[str, str], Progress] = {}
        self._markers: dict[str, tuple[float, float]] = {}  # when sent, by both clocks
        self._caught_up = False
        self._failing = 0  # loops that wait for the store
        self._failures: set[str] = set()  # told of it
        self._stood: list[str] = []
        self.proven_at = 0.0
        """Everything that reached the broker until then has been taken in."""
        self._proven_s = -math.inf  # the same by the monotonic clock
        self.ticked_at = 0.0
        """When, by the monotonic clock, a tick last went through: caught up, the store works."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop.

        Raises:
            mqtt.Lost: the connection is gone.
        """
        self._link.glance(payloads.OURS)
        await self._look(caught_up=False)
        self._send_marker()  # comes back behind all that stands
        self._say_online()
        await self._retried(self._publisher.begin)
        self._publisher.send()  # before any newer ack or state, which must come behind
        loops = (self._receive(), self._keep_time(), self._stay_known(), stop.wait())
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _off(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _retried(self, work: Callable[[], T]) -> T:
        """Do `work` on the store, again until it succeeds: nothing is lost meanwhile.

        Several loops may wait for it; what fails is told once, and so is that it is over.
        """
        fails = False
        while True:
            try:
                done = await self._off(work)
            except StoreError as err:
                text = str(err)
                self._failing += not fails
                fails = True
                if text not in self._failures:
                    self._failures.add(text)
                    log.error("%s; trying again every %.0f s, nothing is lost", text, _RETRY_S)
                notify.systemd(f"STATUS={text}")
                await asyncio.sleep(_RETRY_S)
            else:
                self._failing -= fails
                if fails and not self._failing:
                    self._failures.clear()
                    log.warning("the store works again")
                return done

    async def _receive(self) -> None:
        while True:
            # In order until we are caught up: what waited for us is told by what came before it.
            choose = urgency.choose if self._caught_up else None
            batch = await self._link.next_batch(BATCH, choose=choose)
            await self._commit(batch.messages)
            self._link.acknowledge(batch)

    async def _commit(self, messages: list[Message]) -> None:
        """Commit in this order; a marker is an edge in it."""
        run: list[Message] = []
        for message in messages:
            if payloads.is_ours(message.topic):
                self._stood += [message.topic] if message.retain else []
                continue
            if message.topic != payloads.MARKER:
                run.append(message)
                continue
            await self._take(run)
            run = []
            await self._proven(message)
        await self._take(run)

    async def _take(self, messages: list[Message]) -> None:
        if not messages:
            return
        caught_up = self._caught_up
        taken = await self._retried(
            lambda: self._ingest.take(messages, time.time(), caught_up=caught_up)
        )
        self._answer(taken)
        if taken.posts:
            await self._retried(self._publisher.load)
            self._publisher.send()

    def _answer(self, taken: Taken) -> None:
        now_s = time.monotonic()
        for key, progress in taken.progress.items():
            self._acks[key] = progress
            self._holes.note(progress.site, progress.stream, progress.gap, now_s)
        for site, identity in taken.echoes:
            self._command(site, identity, "echo", {})

    async def _proven(self, message: Message) -> None:
        sent = self._markers.pop(payloads.marker_id(message.payload) or "", None)
        if sent is None:
            return  # of an earlier connection
        self.proven_at, self._proven_s = sent
        now_s = time.monotonic()
        if self._stood:
            stood, self._stood = self._stood, []
            if await self._retried(lambda: self._ingest.sweep(stood)):
                await self._retried(self._publisher.load)
                self._publisher.send()
        self._holes.took(now_s - self._proven_s, now_s)
        if not self._caught_up:
            await self._catch_up(time.time(), "broker or ingest was away")

    async def _catch_up(self, now: float, reason: str) -> None:
        since = self._blind_since
        await self._retried(lambda: self._ingest.absent(since, now, reason))
        log.info("caught up after %.1f s", now - since)
        await self._look(caught_up=True)

    async def _look(self, *, caught_up: bool) -> None:
        self._caught_up = caught_up
        await self._off(lambda: self._ingest.sees(caught_up=caught_up))

    def _send_marker(self) -> None:
        identity = uuid.uuid4().hex
        self._markers[identity] = time.time(), time.monotonic()
        self._link.publish(payloads.MARKER, payloads.marker(identity))

    async def _keep_time(self) -> None:
        marked_at = time.time()
        acked_at = 0.0
        warned = False
        while True:
            slept_at = time.time()
            await asyncio.sleep(_TICK_S)
            now = time.time()
            if len(self._acks) <= _FEW_ACKS or not 0 <= now - acked_at < _ACK_S:
                acked_at = now
                self._flush_acks()
            self._ask()
            if not self._caught_up:
                if not warned and now - marked_at > _MARKER_S:
                    warned = True
                    log.error(
                        "%s does not come back: the broker must let us read and write it",
                        payloads.MARKER,
                    )
                continue
            if now - slept_at > _STALL_S:
                await self._look(caught_up=False)
                self._blind_since = slept_at
                self._markers.clear()  # only one sent from now on proves anything
                self._send_marker()
                continue
            unproven = await self._tick(now)
            if (unproven and not self._markers) or now - marked_at >= _PROOF_S:
                marked_at = now
                self._send_marker()

    async def _tick(self, now: float) -> bool:
        posted = self._publisher.take_posted()
        proven_at = self.proven_at
        registered = await self._retried(lambda: self._ingest.refresh_registry(now))
        ticked = await self._retried(lambda: self._ingest.tick(now, proven_at, posted))
        if ticked.posts or registered:
            await self._retried(self._publisher.load)
        self._publisher.send()
        notify.systemd("WATCHDOG=1")
        self.ticked_at = time.monotonic()
        return ticked.unproven

    async def _stay_known(self) -> None:
        while True:
            await asyncio.sleep(_SERVICE_S)
            self._say_online()

    def _say_online(self) -> None:
        topic, payload = payloads.service(payloads.INGEST, "online", time.time())
        self._link.publish(topic, payload, retain=True)

    def _flush_acks(self) -> None:
        for progress in self._acks.values():
            ack = wire.Ack(v=wire.VERSION, stream=progress.stream, through=progress.through)
            topic = wire.site_topic(progress.site, "acks")
            self._link.publish(topic, wire.encode(ack), retain=progress.newest)
        self._acks.clear()

    def _ask(self) -> None:
        for ask in self._holes.due(time.monotonic(), self._proven_s):
            log.info("asking %s for seq %d to %d", ask.site, ask.low, ask.high)
            args = {"stream": ask.stream, "from": ask.low, "to": ask.high}
            self._command(ask.site, str(uuid.uuid4()), "resend", args)

    def _command(self, site: str, identity: str, do: str, args: dict[str, object]) -> None:
        payload = payloads.command(site, identity, do, time.time() + _COMMAND_S, args)
        self._link.publish(wire.site_topic(site, "commands"), payload)
