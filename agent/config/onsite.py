"""The tables of the hotspot: [clients], [access_points], [wifi], [walk]."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Literal

from agent.config import values
from agent.config.table import Table
from agent.hotspot import AccessPoints, Clients, Walk, Wifi

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")
_BSSID = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_INTERFACE = re.compile(r"[^\s/:]{1,15}\Z")
_SCAN_EVERY_S, _WALK_EVERY_S, _DAY_S = 300, 3600, 86_400


def clients(table: Table) -> Clients:
    path = values.path_from(table.file.parent)
    default = Clients()
    found = Clients(
        leases=table.take("leases", path) or default.leases,
        hostapd=table.take("hostapd", path) or default.hostapd,
    )
    table.done()
    return found


def access_points(table: Table) -> AccessPoints:
    found = AccessPoints(
        addresses=table.need("addresses", _named(_address), '{ ap-1 = "192.168.1.2" }'),
        by=table.take("by", _by) or "icmp",
    )
    table.done()
    return found


def wifi(table: Table) -> Wifi:
    found = Wifi(
        ssid=table.need("ssid", _ssid, '"Bitung-WiFi"'),
        bssids=table.take("bssids", _named(_bssid)) or {},
        interface=table.take("interface", _interface),
        every_s=table.take("every_s", values.whole_from(1, _DAY_S, "seconds")) or _SCAN_EVERY_S,
    )
    table.done()
    return found


def walk(table: Table, wifi: Wifi | None) -> Walk:
    found = Walk(
        interface=table.need("interface", _interface, '"wlan1"'),
        url=table.need("url", _plain_url, '"http://connectivity.example/generate_204"'),
        pass_url=table.take("pass_url", _plain_url),
        password_file=table.take("password_file", values.file_from(table.file.parent)),
        every_s=table.take("every_s", values.whole_from(60, _DAY_S, "seconds")) or _WALK_EVERY_S,
    )
    table.done()
    if wifi is None:
        raise table.error("interface", "walks onto the SSID of [wifi]; add that table")
    if wifi.interface == found.interface:
        raise table.error("interface", "scans in [wifi] already; a walk needs a radio of its own")
    return found


def _named(check: Callable[[object], str]) -> Callable[[object], dict[str, str]]:
    def checked(value: object) -> dict[str, str]:
        if not isinstance(value, dict) or not value:
            raise ValueError(f'{values.shown(value)} names nobody; write {{ ap-1 = "…" }}')
        for name in value:
            if not _NAME.match(name):
                raise ValueError(f"{name!r} is no name; use 1 to 32 of A-Z, a-z, 0-9, - and _")
        found = {name: check(item) for name, item in value.items()}
        if len(set(found.values())) != len(found):
            raise ValueError("two names have the same address; keep each address once")
        return found

    return checked


def _address(value: object) -> str:
    given = values.text(value)
    try:
        return str(ipaddress.IPv4Address(given))
    except ValueError:
        raise ValueError(f"{given!r} is no IPv4 address; mend it") from None


def _bssid(value: object) -> str:
    given = values.text(value).lower().replace("-", ":")
    if not _BSSID.match(given):
        raise ValueError(f"{given!r} is no BSSID; write it as 02:00:5e:00:53:01")
    return given


def _ssid(value: object) -> str:
    given = values.text(value)
    if len(given.encode()) > 32:
        raise ValueError(f"{given!r} is too long; an SSID has at most 32 bytes")
    return given


def _interface(value: object) -> str:
    given = values.text(value)
    if not _INTERFACE.match(given):
        raise ValueError(f"{given!r} names no interface; write one of those that `ip link` shows")
    return given


def _plain_url(value: object) -> str:
    given = values.web_url(value)
    if not given.startswith("http:"):
        raise ValueError(f"{given!r} is not http; a portal can only show itself on http://")
    return given


def _by(value: object) -> Literal["icmp", "arp"]:
    known: dict[object, Literal["icmp", "arp"]] = {"icmp": "icmp", "arp": "arp"}
    if isinstance(value, str) and value in known:
        return known[value]
    raise ValueError(f'{values.shown(value)} is not possible; give "icmp" or "arp"')
