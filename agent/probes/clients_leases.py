"""Devices by DHCP leases and by the kernel's neighbours. Pure; addresses stay within."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

_REACHABLE, _STALE, _DELAY, _PROBE = 0x02, 0x04, 0x08, 0x10  # NUD_* of linux/neighbour.h
_STALE_MAX_S = 300.0
_TICKS_A_SECOND = 100  # USER_HZ, the unit of NDA_CACHEINFO


class Devices(NamedTuple):
    """Link addresses: of who is there, and of who was heard lately among them."""

    there: frozenset[str]
    active: frozenset[str]

    def only(self, addresses: Container[str]) -> Devices:
        """Those among `addresses`."""
        return Devices(
            frozenset(a for a in self.there if a in addresses),
            frozenset(a for a in self.active if a in addresses),
        )


def leases(text: str, now: float) -> frozenset[str]:
    """Who holds a lease, by the text of dnsmasq's lease file.

    A line is: end (seconds since 1970, 0 for never), address, IP, name, client id. Lines of
    another shape (IPv6 leases name no link address) are left out.
    """
    holders = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[0].isdigit() and fields[1].count(":") == 5:
            end = int(fields[0])
            if end == 0 or end > now:
                holders.add(fields[1].lower())
    return frozenset(holders)


def neighbours(messages: Iterable[Any], indexes: Container[int]) -> Devices:
    """Devices in a decoded neighbour dump, by link address, so that IPv4 and IPv6 are one.

    A device is there while the kernel calls it reachable or is asking it, or when it was
    confirmed within 5 minutes (hostapd, too, drops a station after 300 silent seconds);
    the kernel itself keeps stale entries for days. Active are the former.
    """
    there: set[str] = set()
    active: set[str] = set()
    for message in messages:
        address = message.get_attr("NDA_LLADDR")
        if address is None or message["ifindex"] not in indexes:
            continue
        if message["state"] & (_REACHABLE | _DELAY | _PROBE):
            active.add(address.lower())
        elif message["state"] & _STALE and _confirmed_s(message) <= _STALE_MAX_S:
            there.add(address.lower())
    return Devices(frozenset(there | active), frozenset(active))


def _confirmed_s(message: Any) -> float:
    cache: Any = message.get_attr("NDA_CACHEINFO")
    return float("inf") if cache is None else float(cache["ndm_confirmed"]) / _TICKS_A_SECOND
