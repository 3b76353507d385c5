"""What is configured of the hotspot: `agent.config` makes it, the probes read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Clients:
    """Where others keep account of the users: dnsmasq's leases, hostapd's control sockets."""

    leases: Path = Path("/var/lib/misc/dnsmasq.leases")
    hostapd: Path = Path("/run/hostapd")


@dataclass(frozen=True)
class AccessPoints:
    """The access points on the LAN: IPv4 addresses by name, and how they are asked."""

    addresses: Mapping[str, str]
    by: Literal["icmp", "arp"]


@dataclass(frozen=True)
class Wifi:
    """The hotspot's SSID, its own BSSIDs by name, and who looks for it how often.

    Without an interface: the first radio in station mode.
    """

    ssid: str
    bssids: Mapping[str, str]
    interface: str | None
    every_s: int


@dataclass(frozen=True)
class Walk:
    """A user's walk on a radio that nothing else uses.

    ``url`` answers 204 to who is logged in, ``pass_url`` logs in; a hotspot without a
    portal has none, one without a password no ``password_file``.
    """

    interface: str
    url: str
    pass_url: str | None
    password_file: Path | None
    every_s: int


@dataclass(frozen=True)
class Hotspot:
    """All of it; what is None is not measured."""

    clients: Clients = Clients()
    access_points: AccessPoints | None = None
    wifi: Wifi | None = None
    walk: Walk | None = None
