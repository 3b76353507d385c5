"""Asking one resolver, over UDP, for the addresses of names (RFC 1035).

Not ``getaddrinfo``: that answers from caches and files, asks servers of its own choice,
and cannot be held to a deadline.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from agent.probes.dns_packet import Answer, judge, question
from agent.probes.runner import ProbeError

PORT = 53
SYSTEM = "system"
_AGAIN_S = 0.6
_RESOLV_CONF = Path("/etc/resolv.conf")


class Heard(NamedTuple):
    """The answer to one name, and when it came, counted from the first question."""

    name: str
    answer: Answer
    time_ms: float


def ask(
    resolver: str | None, names: Collection[str], end_s: float, *, until_good: bool
) -> list[Heard]:
    """The answers that came until `end_s`, in their order; all names are asked at once.

    A lost question is asked again after 0.6 s.

    Args:
        resolver: its address, with or without port; the system's without it.
        names: what to ask for.
        end_s: CLOCK_MONOTONIC.
        until_good: whether one answer with an address is enough.

    Raises:
        ProbeError: no resolver, or a name that is none.
        OSError: the resolver refuses or cannot be reached.
    """
    address = endpoint(resolver if resolver not in (None, SYSTEM) else system_address())
    open_: dict[int, tuple[str, bytes]] = {}
    for name in names:
        ident = secrets.randbelow(0x10000)
        try:
            open_[ident] = name, question(ident, name)
        except ValueError as err:
            raise ProbeError(str(err)) from None
    with socket.socket(_family(address[0]), socket.SOCK_DGRAM) as sock:
        sock.connect(address)  # from here on only this resolver is heard, and refusals too
        return _listen(sock, open_, end_s, until_good)


def _listen(
    sock: socket.socket, open_: dict[int, tuple[str, bytes]], end_s: float, until_good: bool
) -> list[Heard]:
    begun_s = again_s = time.monotonic()
    heard: list[Heard] = []
    while open_ and (now_s := time.monotonic()) < end_s:
        if now_s >= again_s:
            for _, packet in open_.values():
                sock.send(packet)
            again_s = now_s + _AGAIN_S
        sock.settimeout(max(0.001, min(again_s, end_s) - now_s))
        try:
            data = sock.recv(4096)
        except TimeoutError:
            continue
        time_ms = round((time.monotonic() - begun_s) * 1000, 3)
        ident = int.from_bytes(data[:2], "big")
        if ident not in open_:
            continue  # not ours, or late: as if it had not come
        name, packet = open_.pop(ident)
        heard.append(Heard(name, judge(data, packet), time_ms))
        if until_good and heard[-1].answer.outcome == "answer":
            break
    return heard


def system_address(file: Path = _RESOLV_CONF) -> str:
    """The system's first resolver; people write comments there, in whatever encoding.

    Raises:
        ProbeError: none is named.
        OSError: ``resolv.conf`` cannot be read.
    """
    return system_resolver(file.read_text(encoding="utf-8", errors="replace"))


def system_resolver(text: str) -> str:
    """The first name server in the text of ``resolv.conf``.

    Raises:
        ProbeError: it names none.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            return words[1]
    raise ProbeError("no nameserver in /etc/resolv.conf; set resolver in [dns]")


def endpoint(resolver: str) -> tuple[str, int]:
    """Address and port of ``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[…]:5353``.

    Raises:
        ProbeError: it is none of these.
    """
    host, port = resolver, str(PORT)
    if resolver.startswith("["):
        host, _, port = resolver[1:].partition("]:")
    elif resolver.count(":") == 1:
        host, _, port = resolver.partition(":")
    try:
        ipaddress.ip_address(host)
        return host, int(port)
    except ValueError:
        raise ProbeError(f"resolver {resolver!r} is no IP address") from None


def shown(resolver: str | None) -> str:
    """A resolver as errors name it: by its address."""
    return endpoint(resolver if resolver not in (None, SYSTEM) else system_address())[0]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
