"""The sending thread: connect, say that we live, drain the spool, listen, come back.

It alone owns the connection and the place in the spool's streams. Others reach it
through its methods, which only leave a note and wake it.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable

from agent import wire
from agent.config import Config, ConfigError
from agent.publish.connection import Connection, Protocol
from agent.publish.delivery import Delivery
from agent.publish.drain import MAX_BATCH_BYTES, Batch, Range, held_of
from agent.publish.login import BrokerError
from agent.publish.pace import Pace
from agent.publish.patience import Patience, drain
from agent.publish.presence import Here, Reason, presence
from agent.publish.traffic import Traffic
from agent.spool import Spool

log = logging.getLogger(__name__)

GOODBYE_S = 1.8
_LOOKS_A_PING = 14.5
"""A ping goes out at the fifteenth look, 3 % after its time and far within the half that brokers
allow, so that at windows of four keepalives the fourth is spared: the reading takes its place."""
_STEADY_S = 30.0
_MAX_REPLIES = 100
_chance = random.SystemRandom().random


class Publisher:
    """Runs in its own thread between `start` and `stop`.

    Args:
        config: whose broker, whose site.
        spool: what to send, and what to release.
        here: this machine and process.
        control: takes the leaf and payload of settings and commands; must not block.
        traffic: counts what the connections take.
        delivery: follows what the centre confirms.
    """

    def __init__(
        self,
        config: Config,
        spool: Spool,
        here: Here,
        control: Callable[[str, bytes, bool], None],
        traffic: Traffic | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self._traffic, self._delivery = traffic or Traffic(), delivery or Delivery()
        self._site = config.site
        self._mqtt = config.mqtt
        self._spool = spool
        self._here = here
        self._control = control
        self._protocol: Protocol = "3.1.1" if config.mqtt.version == "3.1.1" else "5"
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        metered = config.metered is not None
        self._patience = Patience(config.mqtt, self._wake, self._is_ending, metered=metered)
        self._asked: deque[Range] = deque()
        self._replies: deque[bytes] = deque(maxlen=_MAX_REPLIES)
        self._goodbye: Reason | None = None
        self._state = "not yet connected"
        self._connected = False
        self._progress_s = time.monotonic()
        self._landing: dict[int, tuple[str, int]] = {}
        self._pace = Pace(spool, time.monotonic(), _chance)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    # For other threads

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """There is a new reading."""
        os.eventfd_write(self._wake, 1)

    def reply(self, reply: wire.Reply) -> None:
        """Answer the server, now or when it can be reached again."""
        self._replies.append(wire.encode(reply))
        self.notify()

    def adopt(self, before: Publisher) -> None:
        """Send the replies that another one, which was stopped, could not send."""
        self._replies.extend(before._replies)

    def resend(self, asked: Range) -> Range | None:
        """Send readings again; which of them are held, None when none is."""
        held = held_of(self._spool.streams(), asked)
        if held is not None:
            self._asked.append(held)
            self.notify()
        return held

    def state(self) -> tuple[bool, str]:
        """Whether we are connected and heard, and what to say of it."""
        return self._connected, self._state

    def hurry(self) -> None:
        """Somebody asks: do not wait out a refusal, which may be mended."""
        self._patience.hurry()

    @property
    def progress_s(self) -> float:
        """When last something moved, CLOCK_MONOTONIC: the broker was found to be away, or it
        confirmed a message, or there was none to confirm."""
        return max(self._progress_s, self._patience.progress_s)

    def stop(self, reason: Reason) -> None:
        """Say goodbye and end; takes 2 s at most, and then leaves the thread behind."""
        self._goodbye = reason
        self.notify()
        if self._thread.ident is not None:
            self._thread.join(GOODBYE_S + 0.2)

    # The thread

    def _run(self) -> None:
        while self._goodbye is None:
            refused: bool | None = False
            held = False
            try:
                started_s = time.monotonic()
                self._one_connection()
                held = time.monotonic() - started_s > _STEADY_S
            except (BrokerError, ConfigError) as err:
                self._progress_s = time.monotonic()
                self._disconnected(str(err))
                if isinstance(err, BrokerError):
                    refused = err.refused
                    self._other_protocol(err)
            except Exception:
                log.exception("the connection ended by a fault of ours")
                self._disconnected("the connection ended by a fault of ours")
            self._patience.wait(refused=refused, held=held)

    def _disconnected(self, text: str) -> None:
        if text != self._state:
            log.warning("%s", text)
        self._connected, self._state = False, text

    def _other_protocol(self, err: BrokerError) -> None:
        if err.other_protocol and self._mqtt.version == "auto":
            self._protocol = "3.1.1" if self._protocol == "5" else "5"

    def _is_ending(self) -> bool:
        return self._goodbye is not None

    def _one_connection(self) -> None:
        session = str(uuid.uuid4())
        self._landing.clear()
        self._pace = Pace(self._spool, time.monotonic(), _chance)
        connection = Connection(
            self._site,
            self._mqtt,
            self._protocol,
            will=presence(self._site, self._here, session, "offline", "lost"),
            receive=self._receive,
            stopping=self._is_ending,
            traffic=self._traffic,
        )
        try:
            log.info("connected to %s with MQTT %s", self._mqtt.url, self._protocol)
            self._connected, self._state = True, f"connected with MQTT {self._protocol}"
            most_bytes = min(MAX_BATCH_BYTES, connection.max_packet_bytes - 1024)
            self._pace = Pace(self._spool, time.monotonic(), _chance, most_bytes)
            connection.subscribe()
            connection.publish(
                "presence", presence(self._site, self._here, session, "online"), retain=True
            )
            self._serve(connection)
            if self._goodbye is not None:
                self._say_goodbye(connection, session, self._goodbye)
        finally:
            connection.close()
            self._replies.extendleft(filter(None, reversed(connection.in_flight.values())))
        if self._goodbye is None:
            self._disconnected(connection.refused or f"connection lost: {connection.why_lost}")

    def _serve(self, connection: Connection) -> None:
        """Send and listen until the connection is lost or goodbye is asked for."""
        idle_s = self._mqtt.keepalive_s / _LOOKS_A_PING if self._mqtt.keepalive_s < 16 else 1.1
        told, told_s = "", 0.0
        first: int | None = None
        answered = False
        while connection.alive and self._goodbye is None:
            now_s = time.monotonic()
            if connection.subscribed and not answered:
                answered = True
                self._pace.answered(now_s)
            self._send_small(connection)
            for lost in self._pace.recover(now_s):
                log.warning("seq %d to %d were lost; sending again", lost.first, lost.last)
            batch = self._pace.backlog(now_s, len(connection.in_flight), connection.max_in_flight)
            if batch is not None:
                self._send(connection, batch)
            wait_s = self._pace.wait_s(now_s)
            connection.turn(idle_s if wait_s is None else min(idle_s, wait_s), self._wake)
            drain(self._wake)
            for mid in [mid for mid in self._landing if mid not in connection.in_flight]:
                self._pace.landed(*self._landing.pop(mid), time.monotonic())
            if not connection.in_flight or first not in connection.in_flight:
                first = next(iter(connection.in_flight), None)
                self._progress_s = time.monotonic()
            if connection.refused and connection.refused != told:
                told = connection.refused
                told_s = time.monotonic()
                self._disconnected(told)
            if told and self._patience.anew(told_s):
                return

    def _send_small(self, connection: Connection) -> None:
        """What must not wait behind the backlog: the newest reading, and replies."""
        while self._asked:
            self._pace.resend(self._asked.popleft())
        newest = self._pace.newest(
            time.monotonic(), len(connection.in_flight), connection.max_in_flight
        )
        if newest is not None:
            self._send(connection, newest)
        while self._replies and len(connection.in_flight) < connection.max_in_flight:
            reply = self._replies.popleft()
            if connection.publish("replies", reply) is None:
                self._replies.appendleft(reply)
                return

    def _send(self, connection: Connection, batch: Batch) -> None:
        payload = wire.encode_readings(
            site=self._site,
            stream=batch.stream,
            sent_boot=self._here.boot,
            sent_uptime_s=self._here.uptime_s(),
            oldest=batch.oldest,
            readings=[payload for _, payload in batch.readings],
        )
        mid = connection.publish("readings", payload)
        if mid is not None:
            self._landing[mid] = (batch.stream, batch.last)
        self._delivery.sent(batch.stream, batch.readings[0][0])

    def _say_goodbye(self, connection: Connection, session: str, reason: Reason) -> None:
        """Publish that we end, and give the broker a moment to confirm it."""
        self._send_small(connection)
        until_s = time.monotonic() + GOODBYE_S
        mid = connection.publish(
            "presence", presence(self._site, self._here, session, "offline", reason), retain=True
        )
        while mid in connection.in_flight and connection.alive and time.monotonic() < until_s:
            connection.turn(0.1)

    def _receive(self, leaf: str, payload: bytes, retained: bool) -> None:
        """Take what the server says; called inside `Connection.turn`."""
        if leaf == "acks":
            self._take_ack(payload, retained)
        elif leaf in ("settings", "commands"):
            self._control(leaf, payload, retained)

    def _take_ack(self, payload: bytes, retained: bool) -> None:
        if not payload:
            return  # cleared: nobody confirms anything
        try:
            ack = wire.decode(wire.Ack, payload)
        except wire.Invalid as err:
            log.warning("acks: %s; ignored", err)
            return
        self._delivery.acked(ack.stream, ack.through, retained=retained)
        if self._pace.acknowledged(ack, time.monotonic(), retained=retained):
            log.warning("the server went back to seq %d; sending again", ack.through)
