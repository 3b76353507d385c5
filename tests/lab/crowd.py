"""Many light sites: each has its own connection, session and will, and speaks the wire format.

One thread serves them all, so that forty cost no more than one real agent. They measure
nothing and keep nothing: they are there to be judged online or offline.
"""

from __future__ import annotations

import random
import select
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent import clock, wire
from tests.lab.broker import Broker

_TURN_S = 0.05
_FIRST_RECONNECT_S = 3.0
_KEEPALIVE_S = 10


class Member:
    """One light site; all its methods are called in the crowd's thread."""

    def __init__(self, broker: Broker, site: str, window_s: float, away_s: float | None) -> None:
        self.site = site
        self.seq = 0
        self.stream = str(uuid.uuid4())
        self.away_s = away_s
        self.back_at: float | None = 0.0
        self._broker, self._window_s = broker, window_s
        self._next_at = 0.0
        self._client: mqtt.Client | None = None

    @property
    def socket(self) -> object | None:
        """What to wait on; None while not connected."""
        return self._client.socket() if self._client else None

    def turn(self, now: float) -> None:
        """Do what is due: connect, send, listen, notice a loss."""
        client = self._client
        if client is None:
            if self.back_at is not None and now >= self.back_at:
                self._connect(now)
            return
        client.loop_read()
        client.loop_write()
        client.loop_misc()
        if client.socket() is None:
            self._lost(now)
        elif client.is_connected() and now >= self._next_at:
            self._next_at = now + self._window_s
            self._send_reading()

    def _connect(self, now: float) -> None:
        session = str(uuid.uuid4())
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=self.site, reconnect_on_failure=False
        )
        client.will_set(*self._presence(session, "offline"), qos=1, retain=True)
        client.on_connect = lambda *_: client.publish(
            *self._presence(session, "online"), qos=1, retain=True
        )
        try:
            client.connect(self._broker.host, self._broker.port, _KEEPALIVE_S)
        except OSError:
            self._lost(now)
            return
        self._client = client
        self._next_at = now

    def _lost(self, now: float) -> None:
        """Come back after `away_s`, or as agents do: within 3 s, each at its own moment."""
        self._client = None
        delay_s = random.uniform(0, _FIRST_RECONNECT_S) if self.away_s is None else self.away_s  # noqa: S311  # spreads reconnects
        self.back_at = None if delay_s == float("inf") else now + delay_s

    def _presence(self, session: str, state: str) -> tuple[str, bytes]:
        presence = wire.Presence(
            v=1,
            site=self.site,
            state="online" if state == "online" else "offline",
            session=session,
            at=wire.iso(time.time()),
            boot=clock.boot_id(),
            reason="lost" if state == "offline" else wire.Presence.__struct_defaults__[-1],
        )
        return wire.site_topic(self.site, "presence"), wire.encode(presence)

    def _send_reading(self) -> None:
        assert self._client is not None
        self.seq += 1
        reading = wire.Reading(
            seq=self.seq,
            boot=clock.boot_id(),
            taken_at=wire.iso(time.time()),
            uptime_s=clock.uptime_s(),
            clock=wire.Clock(synced=True),
            window_s=self._window_s,
            agent="0.1.0",
            ladder=wire.Ladder(domestic="ok", world="ok"),
        )
        payload = wire.encode_readings(
            site=self.site,
            stream=self.stream,
            sent_boot=clock.boot_id(),
            sent_uptime_s=clock.uptime_s(),
            oldest=1,
            readings=[wire.encode(reading)],
        )
        self._client.publish(wire.site_topic(self.site, "readings"), payload, qos=1)

    def close(self) -> None:
        """Go without a word: the will speaks."""
        if self._client is not None and (sock := self._client.socket()) is not None:
            sock.close()


class Crowd:
    """Connected while the context lasts.

    Args:
        broker: a broker without TLS.
        sites: their ids.
        window_s: each says that its readings span so much, and sends one as often.
        late: those who take `late_s` to come back after a loss.
        gone: those who never come back after a loss.
    """

    def __init__(
        self,
        broker: Broker,
        sites: Sequence[str],
        *,
        window_s: float,
        late: Collection[str] = (),
        late_s: float = 10.0,
        gone: Collection[str] = (),
    ) -> None:
        away = {**dict.fromkeys(late, late_s), **dict.fromkeys(gone, float("inf"))}
        self._members = [Member(broker, site, window_s, away.get(site)) for site in sites]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def skip(self, site: str, count: int) -> None:
        """Leave `count` seqs out, for ever: the server will ask in vain."""
        next(member for member in self._members if member.site == site).seq += count

    def _run(self) -> None:
        while not self._ending.is_set():
            sockets = [sock for member in self._members if (sock := member.socket) is not None]
            select.select(sockets, [], [], _TURN_S)
            now = time.monotonic()
            for member in self._members:
                member.turn(now)
        for member in self._members:
            member.close()
