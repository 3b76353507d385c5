"""Echoes to the rungs of the ladder, all the time: what is lost, and how long the rest takes.

About one echo an interval and target, each at a random moment within 0.2 intervals of its
place on a grid (RFC 3432, section 4.2: a random start alone would let two periodic things
stay in step). The send stamp is taken right before the socket call, the receive stamp by
the kernel when the packet arrives; both are CLOCK_REALTIME. When that clock steps in
between, CLOCK_MONOTONIC of this thread tells the time instead.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import time
from collections import deque
from dataclasses import dataclass

from agent.measured import Sample
from agent.probes.addresses import Addresses, Key, Targets
from agent.probes.echo import COOKIE_BYTES, Reply, open_echo_socket, packet
from agent.schedule import ECHO_TIMEOUT_S

_JITTER = 0.2
_CLOCK_STEP_NS = 500_000
"""More than two clocks drift apart within the echo timeout; less than would matter."""
_MAX_WAITING = 200_000
"""Echoes that nobody took; hours of them. The oldest are dropped then."""
_IDLE_S = 1.0


@dataclass(slots=True)
class _Target:
    """One target's place on the grid, and when its next echo is due."""

    key: Key
    slot_s: float
    due_s: float


@dataclass(slots=True)
class _Echo:
    """One echo from its sending to its fate."""

    key: Key
    address: str
    cookie: bytes
    sent_ns: int
    sent_wall_ns: int
    rtt_ms: float | None = None


class Prober:
    """Sends and times echoes in a thread of its own between `start` and `stop`.

    ``interval_s`` may be changed while it runs.
    """

    def __init__(
        self, targets: Targets, *, interval_s: float = 1.0, rng: random.Random | None = None
    ) -> None:
        """Opens the socket.

        Args:
            targets: addresses, names or ``auto`` by rung; a rung left out is not measured.
            interval_s: mean time between two echoes to one target, see
                `agent.schedule.echo_interval_s`.
            rng: for the moments and the payloads.

        Raises:
            ProbeError: ICMP is not permitted.
        """
        self.interval_s = interval_s
        self._rng = rng or random.Random()  # noqa: S311  # moments in time, no secrets
        self._addresses = Addresses(targets)
        self._socket = open_echo_socket()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._sent: deque[_Echo] = deque(maxlen=_MAX_WAITING)
        self._in_flight: dict[int, _Echo] = {}
        self._seq = self._rng.randrange(0x10000)
        self._failed: str | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="echoes", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._addresses.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends, within a second; what was sent can still be taken."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._addresses.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.sock.close()
        os.close(self._wake)

    def errors(self) -> dict[str, str]:
        """What could not be measured, by rung; ``icmp`` when nothing can."""
        found = self._addresses.errors()
        if self._failed:
            found["icmp"] = self._failed
        return found

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        """The echoes sent within ``[start_s, end_s)``, CLOCK_MONOTONIC; forgets all before.

        To be called when the last of them is answered or lost, `ECHO_TIMEOUT_S` after
        ``end_s``: one that is still under way then counts as lost.
        """
        samples: list[Sample] = []
        while self._sent and self._sent[0].sent_ns < end_s * 1e9:
            echo = self._sent.popleft()
            if echo.sent_ns >= start_s * 1e9:
                samples.append(Sample(*echo.key, echo.sent_ns / 1e9, echo.rtt_ms))
        return samples

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as err:  # a thread that dies must be seen in the readings
            self._failed = f"echoes ended: {type(err).__name__}: {err}"

    def _loop(self) -> None:
        now_s = time.monotonic()
        keys = self._addresses.keys
        targets = [
            _Target(key, now_s + i / len(keys) * self.interval_s, 0.0) for i, key in enumerate(keys)
        ]
        for target in targets:
            self._set_due(target)
        poller = select.poll()
        poller.register(self._socket.sock, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not self._stopping:
            now_s = time.monotonic()
            for target in targets:
                if target.due_s <= now_s:
                    self._send(target.key)
                    # after a standstill the missed places are left out, not caught up
                    target.slot_s = max(target.slot_s, now_s - self.interval_s) + self.interval_s
                    self._set_due(target)
            next_s = min((target.due_s for target in targets), default=now_s + _IDLE_S)
            for fd, _ in poller.poll(max(0.0, next_s - time.monotonic()) * 1000):
                if fd == self._socket.sock.fileno():
                    self._receive()

    def _set_due(self, target: _Target) -> None:
        target.due_s = target.slot_s + self._rng.uniform(-_JITTER, _JITTER) * self.interval_s

    def _send(self, key: Key) -> None:
        address = self._addresses.get(key)
        if address is None:
            return
        self._seq = (self._seq + 1) % 0x10000
        cookie = self._rng.randbytes(COOKIE_BYTES)
        data = packet(self._socket.ident, self._seq, cookie)
        self._forget(time.monotonic_ns())
        sent_ns, sent_wall_ns = time.monotonic_ns(), time.time_ns()
        # no route, no buffer, not allowed: sent and lost, that is what is measured
        with contextlib.suppress(OSError):
            self._socket.sock.sendto(data, (address, 0))
        echo = _Echo(key, address, cookie, sent_ns, sent_wall_ns)
        self._in_flight[self._seq] = echo
        self._sent.append(echo)

    def _forget(self, now_ns: int) -> None:
        """Drops what is lost by now: no answer to it counts any more."""
        for seq, echo in list(self._in_flight.items()):
            if now_ns - echo.sent_ns <= ECHO_TIMEOUT_S * 1e9:
                break  # the rest is younger
            del self._in_flight[seq]

    def _receive(self) -> None:
        try:
            reply = self._socket.receive()
        except OSError:
            return  # an error of an earlier echo, or nothing there after all
        now_ns, now_wall_ns = time.monotonic_ns(), time.time_ns()
        echo = self._in_flight.get(reply.seq) if reply else None
        if reply is None or echo is None or not self._answers(reply, echo):
            return
        del self._in_flight[reply.seq]
        rtt_ns = round_trip_ns(echo.sent_ns, echo.sent_wall_ns, now_ns, now_wall_ns, reply.stamp_ns)
        if rtt_ns <= ECHO_TIMEOUT_S * 1e9:
            echo.rtt_ms = rtt_ns / 1e6

    def _answers(self, reply: Reply, echo: _Echo) -> bool:
        return (reply.ident, reply.source, reply.cookie) == (
            self._socket.ident,
            echo.address,
            echo.cookie,
        )


def round_trip_ns(
    sent_ns: int, sent_wall_ns: int, now_ns: int, now_wall_ns: int, stamp_ns: int | None
) -> int:
    """The round trip by the kernel's stamp, or by the monotonic clock where that is no use.

    Args:
        sent_ns, sent_wall_ns: both clocks when the echo was sent.
        now_ns, now_wall_ns: both clocks when the reply was read.
        stamp_ns: the wall clock when the kernel took the reply in, None without a stamp.
    """
    monotonic_ns = now_ns - sent_ns
    stepped = abs((now_wall_ns - sent_wall_ns) - monotonic_ns) > _CLOCK_STEP_NS
    if stamp_ns is None or stepped or not 0 <= stamp_ns - sent_wall_ns <= monotonic_ns:
        return monotonic_ns
    return stamp_ns - sent_wall_ns
