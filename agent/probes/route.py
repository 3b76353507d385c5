"""The default routes, as the kernel lists them in ``/proc/net/route`` and ``ipv6_route``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import NamedTuple

_RTF_UP = 0x1
_RTF_REJECT = 0x200
_TABLE = Path("/proc/thread-self/net/route")
_TABLE6 = Path("/proc/thread-self/net/ipv6_route")
_ADDRESSES6 = Path("/proc/thread-self/net/if_inet6")
_NOT_USABLE = 0x08 | 0x40  # IFA_F_DADFAILED, IFA_F_TENTATIVE


class Route(NamedTuple):
    """The default route; ``gateway`` is None on a point-to-point interface."""

    interface: str
    gateway: str | None


def parse(text: str) -> Route | None:
    """The default route of lowest metric in the text of ``/proc/net/route``, or None.

    Addresses stand there as the machine's own 32-bit numbers in hexadecimal.
    """
    best: tuple[int, Route] | None = None
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        interface, destination, gateway, flags, metric, mask = (
            fields[i] for i in (0, 1, 2, 3, 6, 7)
        )
        if int(destination, 16) or int(mask, 16) or not int(flags, 16) & _RTF_UP:
            continue
        if interface == "*":  # unreachable, prohibit or blackhole: it leads nowhere
            continue
        if best is None or int(metric) < best[0]:
            best = int(metric), Route(interface, _address(gateway))
    return best[1] if best else None


def _address(number: str) -> str | None:
    raw = int(number, 16).to_bytes(4, sys.byteorder)
    return socket.inet_ntoa(raw) if any(raw) else None


def default_route() -> Route | None:
    """The default route now, in the network namespace of the thread that asks."""
    return parse(_TABLE.read_text())


def parse6(text: str) -> Route | None:
    """The same in the text of ``/proc/net/ipv6_route``; a link-local gateway bears its scope."""
    best: tuple[int, Route] | None = None
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or fields[1] != "00" or int(fields[0], 16):
            continue
        metric, flags, interface = int(fields[5], 16), int(fields[8], 16), fields[9]
        if not flags & _RTF_UP or flags & _RTF_REJECT or interface == "lo":
            continue
        if best is None or metric < best[0]:
            best = metric, Route(interface, _address6(fields[4], interface))
    return best[1] if best else None


def _address6(number: str, interface: str) -> str | None:
    raw = bytes.fromhex(number)
    if not any(raw):
        return None
    address = socket.inet_ntop(socket.AF_INET6, raw)
    return f"{address}%{interface}" if address.startswith("fe8") else address


def default_route6() -> Route | None:
    """The IPv6 default route now; None without one, or without IPv6."""
    try:
        return parse6(_TABLE6.read_text())
    except FileNotFoundError:
        return None


def has_address6(text: str) -> bool:
    """Whether the text of ``/proc/net/if_inet6`` has a usable address of global scope."""
    lines = (line.split() for line in text.splitlines())
    return any(
        len(fields) == 6 and fields[3] == "00" and not int(fields[4], 16) & _NOT_USABLE
        for fields in lines
    )


def speaks_ipv6() -> bool:
    """Whether this machine has an IPv6 address that others can answer to."""
    try:
        return has_address6(_ADDRESSES6.read_text())
    except FileNotFoundError:
        return False
