"""The default route, as the kernel lists it in ``/proc/net/route``."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import NamedTuple

_RTF_UP = 0x1
_TABLE = Path("/proc/thread-self/net/route")


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
        if best is None or int(metric) < best[0]:
            best = int(metric), Route(interface, _address(gateway))
    return best[1] if best else None


def _address(number: str) -> str | None:
    raw = int(number, 16).to_bytes(4, sys.byteorder)
    return socket.inet_ntoa(raw) if any(raw) else None


def default_route() -> Route | None:
    """The default route now, in the network namespace of the thread that asks."""
    return parse(_TABLE.read_text())
