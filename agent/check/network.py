"""The rows between this device and the internet: cables, address, and the rungs of echoes."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from agent import wire
from agent.check.rows import Row, absent, failed, passed, skipped
from agent.config import Targets
from agent.probes.link import has_carrier
from agent.probes.route import Route, default_route, default_route6, speaks_ipv6

_INTERFACES = Path("/sys/class/net")
_IFF_UP = 0x1
_SIOCGIFADDR = 0x8915
_SELF_ASSIGNED = "169.254."
"""Given by a machine to itself when no DHCP server answered (RFC 3927)."""


class Interface(NamedTuple):
    """One network interface; ``on`` is whether it was switched on, ``radio`` whether it is WiFi."""

    name: str
    on: bool
    carrier: bool
    address: str | None
    radio: bool = False


class Machine(NamedTuple):
    """The interfaces but loopback, the default route, and whether IPv6 gave an address."""

    interfaces: list[Interface]
    route: Route | None
    ipv6: bool


def machine() -> Machine:
    """How it stands now."""
    names = sorted(path.name for path in _INTERFACES.iterdir() if (path / "flags").exists())
    found = [_interface(name) for name in names if name != "lo"]
    ipv6 = speaks_ipv6()
    return Machine(found, default_route() or (default_route6() if ipv6 else None), ipv6)


def _interface(name: str) -> Interface:
    flags = 0
    with contextlib.suppress(OSError):  # gone since it was listed
        flags = int((_INTERFACES / name / "flags").read_text(), 16)
    return Interface(
        name,
        bool(flags & _IFF_UP),
        has_carrier(_INTERFACES / name),
        _address(name),
        (_INTERFACES / name / "phy80211").exists(),
    )


def _address(name: str) -> str | None:
    """Its IPv4 address (netdevice(7))."""
    request = struct.pack("16s24x", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def links(found: Machine, *, reached: bool) -> list[Row]:
    """Interfaces and address. Pure.

    Args:
        found: how the machine stands.
        reached: whether the centre answered all the same: then no default route is needed.
    """
    route = found.route
    if route is None and not reached:
        return _without_route(found)
    used = route.interface if route else None
    shown = [one for one in found.interfaces if one.on or one.name == used]
    rows = [_link(one, used=one.name == used) for one in shown]
    if route is None:
        return [*rows, absent("address", "no_route_needed")]
    address = next((one.address for one in found.interfaces if one.name == route.interface), None)
    if not _is_given(address) and not found.ipv6:
        return [*rows, failed("address", "no_address", interface=route.interface)]
    given = address if address and _is_given(address) else "IPv6"
    gateway = route.gateway or "-"
    row = passed(
        "address", "address_given", interface=route.interface, address=given, gateway=gateway
    )
    return [*rows, row]


def _link(one: Interface, *, used: bool) -> Row:
    if one.carrier:
        return passed("link", "link_up", interface=one.name)
    if not used:
        return absent("link", "link_unused", interface=one.name)
    told = ("radio_lost" if one.radio else "cable_out") if one.on else "link_off"
    return failed("link", told, interface=one.name)


def _without_route(found: Machine) -> list[Row]:
    """Nothing leads out of this machine: at which step does it fail?"""
    live = [one for one in found.interfaces if one.carrier]
    if live:
        rows = [_link(one, used=False) for one in found.interfaces if one.on]
        given = [one for one in live if _is_given(one.address)]
        if not given:
            return [*rows, failed("address", "no_address", interface=live[0].name)]
        one = given[0]
        return [*rows, failed("address", "no_route", interface=one.name, address=one.address or "")]
    if not found.interfaces:
        return [failed("link", "no_interface"), skipped("address", "needs_link")]
    switched_on = [one for one in found.interfaces if one.on]
    rows = [_link(one, used=True) for one in switched_on or found.interfaces[:1]]
    return [*rows, skipped("address", "needs_link")]


def _is_given(address: str | None) -> bool:
    return address is not None and not address.startswith(_SELF_ASSIGNED)


def rungs(
    targets: Targets | None, reading: wire.Reading, errors: Mapping[str, str]
) -> Iterable[Row]:
    """Each rung of echoes, over IPv4 and IPv6. Pure."""
    unmeasured = reading.ping is UNSET and reading.ping6 is UNSET
    if "icmp" in errors and unmeasured and targets is not None:
        yield failed("gateway", "icmp_forbidden", detail=errors["icmp"])
        for rung in wire.ECHO_RUNGS[1:]:
            yield skipped(rung, "needs_icmp")
        return
    for rung in wire.ECHO_RUNGS:
        if getattr(targets, rung, None) is None:
            yield absent(rung)
        else:
            yield _rung(rung, [reading.ping, reading.ping6], errors.get(rung))


def _rung(rung: wire.EchoRung, pings: Iterable[wire.Ping | UnsetType], error: str | None) -> Row:
    tried = [getattr(ping, rung) for ping in pings if ping is not UNSET]
    echoes: list[wire.Echoes] = [one for one in tried if one is not UNSET]
    if not echoes:
        return failed(rung, "rung_unmeasured", detail=error or "-")
    best = max(echoes, key=lambda one: one.received or 0)
    sent = best.sent or 0
    if not best.received:
        return failed(rung, f"{rung}_silent", sent=sent)
    p50_ms = best.rtt_p50_ms or 0.0
    return passed(rung, "rung_answers", sent=sent, received=best.received, p50_ms=round(p50_ms, 1))
