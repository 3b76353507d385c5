"""The access points on the LAN, by ICMP echo on a plain socket, or by ARP in a helper."""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Mapping

from msgspec import UNSET

from agent import wire
from agent.measured import AccessPoints
from agent.probes.echo import COOKIE_BYTES, EchoSocket, Reply, open_echo_socket, packet
from agent.probes.runner import Context
from agent.probes.wifi import NowAndThen
from agent.probes.wifi_helper import Helper

_AGAIN_S = 0.5
_SHARE = 0.9
_ARP_LIMIT_S = 20.0
Found = Mapping[str, float | None]
"""Round trip in milliseconds by name; None for who is silent."""


class AccessPointsProbe:
    """Asks each configured access point once a window; ARP's answer may come a window later."""

    def __init__(self) -> None:
        self._arp = NowAndThen(Helper("arp", dict[str, float | None], _ARP_LIMIT_S))

    def __call__(self, context: Context) -> AccessPoints | None:
        """None where none is configured, or while the helper asks.

        Raises:
            ProbeError: ICMP or ARP is not permitted.
        """
        given = context.hotspot.access_points
        if given is None:
            return None
        within_s = _SHARE * context.deadline_s
        others = {name: at for name, at in given.addresses.items() if not is_ours(at)}
        own = frozenset(given.addresses.keys() - others.keys())
        found: Found | None
        if given.by == "icmp" or not others:
            found = ask(others, within_s) if others else {}
        else:
            found = self._arp.step({"addresses": others}, 0.0, within_s)
        return None if found is None else told(found, own)


def is_ours(address: str) -> bool:
    """Whether an IPv4 address is one of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def told(found: Found, own: frozenset[str] = frozenset()) -> AccessPoints:
    """As it stands in a reading: who was silent is not reachable, this machine always is."""
    return AccessPoints(
        {
            name: wire.AccessPoint(
                reachable=rtt_ms is not None, rtt_ms=UNSET if rtt_ms is None else round(rtt_ms, 3)
            )
            for name, rtt_ms in found.items()
        }
        | dict.fromkeys(own, wire.AccessPoint(reachable=True)),
        own,
    )


def ask(addresses: Mapping[str, str], within_s: float) -> Found:
    """Echoes to all at once, again after 0.5 s to those who are silent.

    Raises:
        ProbeError: ICMP is not permitted.
    """
    found: dict[str, float | None] = dict.fromkeys(addresses)
    cookie = secrets.token_bytes(COOKIE_BYTES)
    sent_ns: dict[int, tuple[str, int]] = {}
    end_s = time.monotonic() + within_s
    with open_echo_socket() as echo:
        poller = select.poll()
        poller.register(echo.sock, select.POLLIN)
        while None in found.values() and (now_s := time.monotonic()) < end_s:
            for name in [name for name, rtt_ms in found.items() if rtt_ms is None]:
                seq = len(sent_ns) + 1
                sent_ns[seq] = name, time.time_ns()
                _send(echo, addresses[name], seq, cookie)
            again_s = min(end_s, now_s + _AGAIN_S)
            while None in found.values() and (left_s := again_s - time.monotonic()) > 0:
                poller.poll(left_s * 1000)
                for reply in _replies(echo):
                    name, stamp_ns = sent_ns.get(reply.seq, ("", 0))
                    if (reply.source, reply.cookie) == (addresses.get(name), cookie):
                        found[name] = max(0, reply.stamp_ns - stamp_ns) / 1e6
    return found


def _send(echo: EchoSocket, address: str, seq: int, cookie: bytes) -> None:
    try:
        echo.sock.sendto(packet(echo.ident, seq, cookie), (address, 0))
    except OSError:
        return  # no route, no neighbour: it stays silent, and that is what is told


def _replies(echo: EchoSocket) -> list[Reply]:
    """All that wait; an error that the socket reports is cleared by being told."""
    replies: list[Reply] = []
    while True:
        try:
            reply = echo.receive()
        except OSError:
            return replies
        if reply is not None:
            replies.append(reply)
