"""People on the hotspot, as counts. No address of any device leaves this module."""

from __future__ import annotations

import socket
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from agent import wire
from agent.probes.route import default_route
from agent.probes.runner import Context

_INTERFACES = Path("/sys/class/net")
_AP_MODES = (3, 4)  # NL80211_IFTYPE_AP, NL80211_IFTYPE_AP_VLAN
_REACHABLE, _STALE, _DELAY, _PROBE = 0x02, 0x04, 0x08, 0x10  # NUD_* of linux/neighbour.h
_STALE_MAX_S = 300.0
_TICKS_A_SECOND = 100  # USER_HZ, the unit of NDA_CACHEINFO


class Count(NamedTuple):
    """How many devices are there, and how many of them were heard lately."""

    associated: int
    active: int


def clients(context: Context) -> wire.Clients | None:
    """Stations of this machine's access points, else neighbours on its local networks.

    None without either: no radio in AP mode, and no neighbour on an interface other than
    the default route's. Without a default route nobody knows which networks are local.

    Raises:
        OSError: the kernel refuses to tell.
    """
    names = [path.name for path in _INTERFACES.iterdir()]
    if any((_INTERFACES / name / "phy80211").exists() for name in names):
        count = _stations(context.window_s)
        if count is not None:
            return wire.Clients(source="nl80211", associated=count.associated, active=count.active)
    route = default_route()
    if route is None:
        return None
    local = [name for name in names if name not in ("lo", route.interface) and _is_up(name)]
    count = _neighbours(local) if local else Count(0, 0)
    if not count.associated:
        return None
    return wire.Clients(source="neighbours", associated=count.associated, active=count.active)


def _is_up(name: str) -> bool:
    try:
        return (_INTERFACES / name / "operstate").read_text().strip() != "down"
    except OSError:
        return False  # gone since it was listed


def _stations(window_s: float) -> Count | None:
    """Over all radios in AP mode; None when there is no such radio."""
    # pyroute2 costs 14 MiB: only a machine with a radio or a local network pays for it
    from pyroute2 import IW  # type: ignore[import-untyped]  # it ships no types

    with IW() as nl80211:
        access_points = [
            radio.get_attr("NL80211_ATTR_IFINDEX")
            for radio in nl80211.get_interfaces_dump()
            if radio.get_attr("NL80211_ATTR_IFTYPE") in _AP_MODES
        ]
        if not access_points:
            return None
        counts = [count_stations(nl80211.get_stations(i), window_s) for i in access_points]
    return Count(sum(c.associated for c in counts), sum(c.active for c in counts))


def count_stations(messages: Iterable[Any], window_s: float) -> Count:
    """Stations of a decoded station dump; active are those heard within the window."""
    idle_ms = [
        message.get_attr("NL80211_ATTR_STA_INFO").get_attr("NL80211_STA_INFO_INACTIVE_TIME")
        for message in messages
    ]
    active = sum(ms is not None and ms <= window_s * 1000 for ms in idle_ms)
    return Count(len(idle_ms), active)


def _neighbours(interfaces: Iterable[str]) -> Count:
    from pyroute2 import IPRoute  # see above

    indexes = {socket.if_nametoindex(name) for name in interfaces}
    with IPRoute() as netlink:
        return count_neighbours(netlink.get_neighbours(), indexes)


def count_neighbours(messages: Iterable[Any], indexes: Container[int]) -> Count:
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
            active.add(address)
        elif message["state"] & _STALE and _confirmed_s(message) <= _STALE_MAX_S:
            there.add(address)
    return Count(len(there | active), len(active))


def _confirmed_s(message: Any) -> float:
    cache: Any = message.get_attr("NDA_CACHEINFO")
    return float("inf") if cache is None else float(cache["ndm_confirmed"]) / _TICKS_A_SECOND
