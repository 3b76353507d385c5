"""How wrong the clock is: a burst of questions to each time server (RFC 5905).

Of all exchanges the one with the smallest delay counts: the longer one took, the more of it
may have been waiting on one way only, and half of that would stand in the offset.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from agent import wire
from agent.probes.ntp_packet import Refused, Sample, Unusable, bears, request, sample
from agent.probes.runner import Context, ProbeError

PORT = 123
BURST = 4
APART_S = 0.2
_CLOCK_STEP_NS = 2_000_000
_SLOWER_S = 64.0
_SLOWEST_S = 86_400.0
_NEVER = ("DENY", "RSTR")
_SO_TIMESTAMPNS = 64  # SO_TIMESTAMPNS_NEW
_TIMESPEC = struct.Struct("=qq")


_Found = tuple[Any, ...]
"""Family, kind, protocol and address, as ``getaddrinfo`` tells them."""


@dataclass(slots=True)
class _Question:
    """One question under way."""

    sent_ns: int
    sent_wall_ns: int


@dataclass(slots=True)
class _Asked:
    """One server, and what came of asking it."""

    name: str
    sock: socket.socket
    sent: dict[int, _Question] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    count: int = 0
    failure: str | None = None
    refused: str | None = None


@dataclass(slots=True)
class _Rest:
    """A server that asked us to slow down, or to stay away."""

    until_s: float
    pause_s: float
    code: str


class NtpProbe:
    """Asks every server at once; remembers those that sent a kiss-o'-death.

    RATE lets a server rest 64 s, and twice as long each time it says so again; DENY and
    RSTR until the agent starts anew.
    """

    def __init__(self, apart_s: float = APART_S) -> None:
        """Sends the questions of a burst `apart_s` after each other."""
        self._apart_s = apart_s
        self._resting: dict[str, _Rest] = {}

    def __call__(self, context: Context) -> wire.Ntp | None:
        """Offset and delay of the nearest sample.

        Raises:
            ProbeError: no server gave a usable answer; each with its reason.
            TimeoutError: all of them are silent.
        """
        if not context.time_servers:
            return None
        now_s = time.monotonic()
        end_s = now_s + context.deadline_s
        failures: list[str] = []
        asked: list[_Asked] = []
        try:
            for name, found in _resolved(self._awake(context, now_s, failures), end_s).items():
                try:
                    asked.append(_Asked(name, _open(found)))
                except OSError as err:
                    failures.append(f"{name}: {err.strerror or err}")
            _exchange(asked, end_s, self._apart_s)
        finally:
            for one in asked:
                one.sock.close()
        return self._judge(asked, failures, now_s)

    def _awake(self, context: Context, now_s: float, failures: list[str]) -> list[str]:
        """The servers that do not rest; what is said of the others goes to `failures`."""
        awake = []
        for name in context.time_servers:
            rest = self._resting.get(name)
            if rest is None or now_s >= rest.until_s:
                awake.append(name)
            else:
                failures.append(f"{name} said {rest.code}; not asked for now")
        return awake

    def _judge(self, asked: list[_Asked], failures: list[str], now_s: float) -> wire.Ntp:
        for one in asked:
            if one.refused:
                self._let_rest(one.name, one.refused, now_s)
            elif one.samples:
                self._resting.pop(one.name, None)
            if one.failure and not one.samples:
                failures.append(f"{one.name} {one.failure}")
        samples = [taken for one in asked for taken in one.samples]
        if not samples:
            if asked and not failures:
                raise TimeoutError
            silent = [f"{one.name} is silent" for one in asked if not one.failure]
            raise ProbeError("; ".join([*failures, *silent]))
        best = min(samples, key=lambda taken: taken.delay_ms)
        return wire.Ntp(
            offset_ms=round(best.offset_ms, 3),
            delay_ms=round(best.delay_ms, 3),
            server=best.server,
            stratum=best.stratum,
            samples=len(samples),
        )

    def _let_rest(self, name: str, code: str, now_s: float) -> None:
        before = self._resting.get(name)
        pause_s = _SLOWER_S if before is None else min(before.pause_s * 2, _SLOWEST_S)
        until_s = float("inf") if code in _NEVER else now_s + pause_s
        self._resting[name] = _Rest(until_s, pause_s, code)


def _resolved(servers: list[str], end_s: float) -> dict[str, _Found | OSError]:
    """Where each server is, or why nobody knows; waits for half of the time at most.

    Each in a thread of its own: one name that hangs must not cost the other servers.
    """
    found: dict[str, _Found | OSError] = {}

    def resolve(server: str) -> None:
        host, colon, port = server.partition(":")
        try:
            found[server] = socket.getaddrinfo(
                host, port if colon else PORT, type=socket.SOCK_DGRAM
            )[0]
        except OSError as err:
            found[server] = err

    threads = [threading.Thread(target=resolve, args=(one,), daemon=True) for one in servers]
    for thread in threads:
        thread.start()
    half_s = (time.monotonic() + end_s) / 2
    for thread in threads:
        thread.join(max(0.0, half_s - time.monotonic()))
    return {one: found.get(one, OSError("does not resolve in time")) for one in servers}


def _open(found: _Found | OSError) -> socket.socket:
    """A socket that hears this server alone."""
    if isinstance(found, OSError):
        raise found
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        sock.connect(address)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _exchange(asked: list[_Asked], end_s: float, apart_s: float) -> None:
    """A burst to each server, until all is answered or the time is over."""
    poller = select.poll()
    by_fd = {one.sock.fileno(): one for one in asked}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    due_s = time.monotonic()
    while (now_s := time.monotonic()) < end_s and not all(map(_is_done, asked)):
        if now_s >= due_s:
            for one in asked:
                _send(one)
            due_s = now_s + apart_s
        for fd, _ in poller.poll((min(due_s, end_s) - now_s) * 1000):
            _receive(by_fd[fd])


def _is_done(one: _Asked) -> bool:
    return one.refused is not None or (one.count == BURST and not one.sent)


def _send(one: _Asked) -> None:
    if one.count == BURST or one.refused is not None:
        return
    one.count += 1
    nonce = secrets.randbits(64)
    sent_ns, sent_wall_ns = time.monotonic_ns(), time.time_ns()
    try:
        one.sock.send(request(nonce))
    except OSError as err:
        one.failure = f"cannot be asked: {err.strerror}"
    else:
        one.sent[nonce] = _Question(sent_ns, sent_wall_ns)


def _receive(one: _Asked) -> None:
    try:
        answer, ancillary, _, _ = one.sock.recvmsg(1024, 64)
    except OSError as err:  # nothing there after all, or a refusal by ICMP
        one.failure = f"cannot be asked: {err.strerror}"
        one.sent.clear()
        return
    nonce = next((nonce for nonce in one.sent if bears(answer, nonce)), None)
    if nonce is None:
        one.failure = "answers something that is no answer to our question"
        return
    question = one.sent.pop(nonce)
    now_ns, now_wall_ns = time.monotonic_ns(), time.time_ns()
    step_ns = (now_wall_ns - question.sent_wall_ns) - (now_ns - question.sent_ns)
    if abs(step_ns) > _CLOCK_STEP_NS:
        one.failure = "answered while our clock was set"
        return
    try:
        came_ns = _stamp(ancillary, now_wall_ns)
        one.samples.append(sample(answer, one.name, question.sent_wall_ns, came_ns))
    except Unusable as err:
        one.failure = str(err)
    except Refused as err:
        one.failure, one.refused = f"says {err}", err.code


def _stamp(ancillary: list[tuple[int, int, bytes]], otherwise_ns: int) -> int:
    """The kernel's stamp of arrival, CLOCK_REALTIME."""
    for level, what, value in ancillary:
        if (level, what) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, ns = _TIMESPEC.unpack(value)
            return int(seconds * 1_000_000_000 + ns)
    return otherwise_ns
