"""Relays frames between two TAP devices with delay, jitter and loss. Run by `SoftLink`.

    python -m tests.lab.relay NAMESPACE:TAP NAMESPACE:TAP

Each line of JSON on stdin changes how it behaves, or asks for the counts, and is answered by
one line on stdout. It ends when stdin does.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

from tests.lab.net import inside

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_PR_SET_TIMERSLACK = 29
_IPV4 = b"\x08\x00"
_SPIN_S = 0.0003
_MAX_QUEUED = 2000


def open_tap(end: str) -> int:
    """A TAP device in a namespace; it vanishes when its file is closed."""
    namespace, name = end.split(":")
    with inside(namespace):
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(tap, _TUNSETIFF, request)
    return tap


class Relay:
    """The frames under way, and how they fare."""

    def __init__(self, first: int, second: int) -> None:
        self.other = {first: second, second: first}
        self.counts = {first: [0, 0], second: [0, 0]}  # passed, dropped, by where they came from
        self.queue: list[tuple[float, int, int, bytes]] = []
        self.number = 0
        self.delay_s = self.jitter_s = self.loss_ratio = 0.0
        self.rng = random.Random()  # noqa: S311  # a lossy link, no secret

    def request(self, line: str) -> str:
        """Obeys one line of JSON; the counts are the answer, and begin anew when asked for."""
        wanted = json.loads(line)
        answer = json.dumps(list(self.counts.values()))
        if wanted.get("counts"):
            self.counts = {tap: [0, 0] for tap in self.counts}
            return answer
        self.delay_s = wanted["delay_ms"] / 1000
        self.jitter_s = wanted["jitter_ms"] / 1000
        self.loss_ratio = wanted["loss_ratio"]
        if wanted["seed"] is not None:
            self.rng.seed(wanted["seed"])
        return answer

    def take_in(self, tap: int) -> None:
        """Reads what a device sends, drops some of it, and queues the rest."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = os.read(tap, 65536)
                now_s = time.monotonic()
                if frame[12:14] == _IPV4:
                    lost = self.rng.random() < self.loss_ratio or len(self.queue) >= _MAX_QUEUED
                    self.counts[tap][lost] += 1
                    if lost:
                        continue
                delay_s = max(0.0, self.delay_s + self.rng.uniform(-1, 1) * self.jitter_s)
                self.number += 1
                entry = (now_s + delay_s, self.number, self.other[tap], frame)
                heapq.heappush(self.queue, entry)

    def let_out(self) -> None:
        """Writes what is due."""
        while self.queue and self.queue[0][0] <= time.monotonic():
            _, _, tap, frame = heapq.heappop(self.queue)
            with contextlib.suppress(OSError):  # the other end is down: lost, as on any cable
                os.write(tap, frame)

    def wait_ms(self) -> float | None:
        """How long nothing is due; the last 0.3 ms are waited for busily."""
        if not self.queue:
            return None
        return max(0.0, self.queue[0][0] - time.monotonic() - _SPIN_S) * 1000


def main(ends: list[str]) -> None:
    relay = Relay(*map(open_tap, ends))
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    with contextlib.suppress(OSError):  # better timing where it is allowed
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    poller = select.epoll()
    for fd in (*relay.other, sys.stdin.fileno()):
        poller.register(fd, select.EPOLLIN)
    commands = b""
    while True:
        wait_ms = relay.wait_ms()
        for fd, _ in poller.poll(-1 if wait_ms is None else int(wait_ms) / 1000):
            if fd in relay.other:
                relay.take_in(fd)
                continue
            part = os.read(fd, 65536)
            if not part:
                return
            *lines, commands = (commands + part).split(b"\n")
            for line in lines:
                sys.stdout.write(relay.request(line.decode()) + "\n")
                sys.stdout.flush()
        relay.let_out()


if __name__ == "__main__":
    main(sys.argv[1:])
