"""Echoes to the rungs of the ladder, all the time: what is lost, and how long the rest takes.

About once an interval a round is sent: one echo to each target, in random order, at a random
moment within 0.2 intervals of its place on a grid, so that it never keeps step with anything
periodic. The send stamp is taken right before the socket call, the receive stamp by the
kernel when the packet arrives, both CLOCK_REALTIME. Because the kernel stamps, replies can
wait to be read: the thread wakes once a round and not once a packet, which is most of what
probing costs. A wall clock that steps in between is told by CLOCK_MONOTONIC beside it.
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

from agent.measured import Family, Sample
from agent.probes.addresses import Addresses, Key, Targets
from agent.probes.echo import COOKIE_BYTES, Reply, open_echo_socket, packet
from agent.schedule import ECHO_TIMEOUT_S

_JITTER = 0.2
_HEED_S = 5.0
"""An interval that was changed is heeded within this time."""
_CLOCK_STEP_NS = 500_000
"""Less than a step that would matter, more than slewing moves a clock between two rounds."""
_MAX_WAITING = 200_000
"""Echoes that nobody took; hours of them. The oldest are dropped then."""


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
        self,
        targets: Targets,
        *,
        interval_s: float = 1.0,
        rng: random.Random | None = None,
        family: Family = 4,
    ) -> None:
        """Opens the socket.

        Args:
            targets: addresses, names or ``auto`` by rung; a rung left out is not measured.
            interval_s: mean time between two echoes to one target, see
                `agent.schedule.echo_interval_s`.
            rng: for the moments, the order and the payloads.
            family: IPv4 or IPv6; targets that have no such address are left out.

        Raises:
            ProbeError: ICMP is not permitted.
        """
        self.interval_s = interval_s
        self._rng = rng or random.Random()  # noqa: S311  # moments in time, no secrets
        self._family = family
        self._addresses = Addresses(targets, family)
        self._socket = open_echo_socket(family)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._lock = threading.Lock()  # for what follows: the thread and `take` both read replies
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
        """Ends at once; what was sent and answered until now can still be taken."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._addresses.stop()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            self._receive()
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
        with self._lock:
            self._receive()
            while self._sent and self._sent[0].sent_ns < end_s * 1e9:
                echo = self._sent.popleft()
                if echo.sent_ns >= start_s * 1e9:
                    sent_s = echo.sent_ns / 1e9
                    samples.append(Sample(*echo.key, sent_s, echo.rtt_ms, self._family))
        return samples

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as err:  # a thread that dies must be seen in the readings
            self._failed = f"echoes ended: {type(err).__name__}: {err}"

    def _loop(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        slot_s = time.monotonic() + _JITTER * self.interval_s
        while not self._stopping:
            interval_s = self.interval_s
            due_s = slot_s + self._rng.uniform(-_JITTER, _JITTER) * interval_s
            while interval_s == self.interval_s and (left_s := due_s - time.monotonic()) > 0:
                if poller.poll(min(left_s, _HEED_S) * 1000):
                    return
            if interval_s != self.interval_s:  # the old one may have been minutes
                slot_s = min(slot_s, time.monotonic())
            with self._lock:
                self._receive()
                self._forget_lost()
                self._send_round()
            # after a standstill the missed places are left out, not caught up
            slot_s = max(slot_s, time.monotonic() - self.interval_s) + self.interval_s

    def _send_round(self) -> None:
        keys = self._addresses.keys
        self._rng.shuffle(keys)
        cookie = self._rng.randbytes(COOKIE_BYTES)
        for key in keys:
            address = self._addresses.get(key)
            if address is None:
                continue
            self._seq = (self._seq + 1) % 0x10000
            data = packet(self._socket.ident, self._seq, cookie, self._family)
            sent_ns, sent_wall_ns = time.monotonic_ns(), time.time_ns()
            # no route, no buffer, not allowed: sent and lost, that is what is measured
            with contextlib.suppress(OSError):
                self._socket.sock.sendto(data, (address, 0))
            source = address.partition("%")[0]  # a reply tells no scope
            echo = _Echo(key, source, cookie, sent_ns, sent_wall_ns)
            self._in_flight[self._seq] = echo
            self._sent.append(echo)

    def _forget_lost(self) -> None:
        """Drops the echoes to which no answer counts any more; oldest come first."""
        oldest_ns = time.monotonic_ns() - ECHO_TIMEOUT_S * 1e9
        for seq, echo in list(self._in_flight.items()):
            if echo.sent_ns > oldest_ns:
                break
            del self._in_flight[seq]

    def _receive(self) -> None:
        """Reads every reply that waits."""
        while True:
            try:
                reply = self._socket.receive()
            except OSError:
                return  # nothing waits, or an echo's error is told, once: next time goes on
            if reply is not None:
                self._match(reply)

    def _match(self, reply: Reply) -> None:
        echo = self._in_flight.get(reply.seq)
        if echo is None or (reply.ident, reply.source, reply.cookie) != (
            self._socket.ident,
            echo.address,
            echo.cookie,
        ):
            return
        del self._in_flight[reply.seq]
        now_ns, now_wall_ns = time.monotonic_ns(), time.time_ns()
        rtt_ns = round_trip_ns(echo.sent_ns, echo.sent_wall_ns, now_ns, now_wall_ns, reply.stamp_ns)
        if rtt_ns <= ECHO_TIMEOUT_S * 1e9:
            echo.rtt_ms = rtt_ns / 1e6


def round_trip_ns(
    sent_ns: int, sent_wall_ns: int, now_ns: int, now_wall_ns: int, stamp_ns: int
) -> int:
    """The round trip of one echo.

    Where the wall clock stepped since the sending, the step fell before the stamp or after
    it: the one that fits between sending and reading is taken, the likelier "after" where
    both do, and the time until the reading where neither does.

    Args:
        sent_ns: the monotonic clock when the echo was sent.
        sent_wall_ns: the wall clock then.
        now_ns: the monotonic clock when the reply was read.
        now_wall_ns: the wall clock then.
        stamp_ns: the wall clock when the kernel took the reply in.
    """
    until_read_ns = now_ns - sent_ns
    step_ns = now_wall_ns - sent_wall_ns - until_read_ns
    by_stamp_ns = stamp_ns - sent_wall_ns
    if abs(step_ns) <= _CLOCK_STEP_NS:
        return max(0, by_stamp_ns)
    for rtt_ns in (by_stamp_ns, by_stamp_ns - step_ns):
        if 0 <= rtt_ns <= until_read_ns:
            return rtt_ns
    return until_read_ns
