"""People on the hotspot, as counts. No address of any device leaves this process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent import hotspot, wire
from agent.probes import clients_hostapd, clients_leases
from agent.probes.clients_leases import Devices
from agent.probes.clients_stations import Station, band, from_nl80211, radio, total
from agent.probes.route import default_route
from agent.probes.runner import Context, ProbeError

_INTERFACES = Path("/sys/class/net")
_AP_MODES = (3, 4)  # NL80211_IFTYPE_AP, NL80211_IFTYPE_AP_VLAN

Networks = Mapping[str, clients_hostapd.Network]


class ClientsProbe:
    """Counts by the first source that is there: nl80211, hostapd, leases, neighbours.

    Retries are since the last run, so the first has none.
    """

    def __init__(self) -> None:
        self._before: dict[str, dict[str, Station]] = {}

    def __call__(self, context: Context) -> wire.Clients | None:
        """None where nobody can be counted: no access point here, and no local network.

        Raises:
            ProbeError: hostapd's control socket or the lease file may not be used.
            OSError: the kernel refuses to tell.
        """
        given = context.hotspot.clients
        names = [path.name for path in _INTERFACES.iterdir()]
        if any((_INTERFACES / name / "phy80211").exists() for name in names):
            stations = _nl80211()
            if stations:
                return self._radios("nl80211", stations)
        networks = clients_hostapd.networks(given.hostapd)
        if networks:
            return self._radios("hostapd", networks)
        return _on_the_lan(given, names)

    def _radios(self, source: str, networks: Networks) -> wire.Clients:
        radios = {
            name: radio(network.stations, self._before.get(name, {}), band(network.frequency_mhz))
            for name, network in networks.items()
        }
        self._before = {
            name: {station.address: station for station in network.stations}
            for name, network in networks.items()
        }
        return total(source, radios)


def _nl80211() -> dict[str, clients_hostapd.Network]:
    """The stations of each interface in access point mode."""
    # pyroute2 costs 14 MiB: only a machine with a radio or a local network pays for it
    from pyroute2 import IW  # type: ignore[import-untyped]  # it ships no types

    with IW() as nl80211:
        return {
            str(each.get_attr("NL80211_ATTR_IFNAME")): clients_hostapd.Network(
                from_nl80211(nl80211.get_stations(each.get_attr("NL80211_ATTR_IFINDEX"))),
                each.get_attr("NL80211_ATTR_WIPHY_FREQ"),
            )
            for each in list(nl80211.get_interfaces_dump())
            if each.get_attr("NL80211_ATTR_IFTYPE") in _AP_MODES
        }


def _on_the_lan(given: hotspot.Clients, names: Iterable[str]) -> wire.Clients | None:
    """Neighbours on the local networks; those with a lease, where a lease file is there.

    Without a default route nobody knows which networks are local.
    """
    route = default_route()
    if route is None:
        return None
    local = [name for name in names if name not in ("lo", route.interface) and _is_up(name)]
    if not local:
        return None
    there = _neighbours(local)
    try:
        holders = clients_leases.leases(given.leases.read_text(errors="replace"), time.time())
    except FileNotFoundError:
        return _counts("neighbours", there) if there.there else None
    except PermissionError:
        raise ProbeError(
            f"{given.leases}: not permitted; let this user read it, or mend [clients] leases"
        ) from None
    return _counts("leases", there.only(holders))


def _counts(source: str, devices: Devices) -> wire.Clients:
    return wire.Clients(source=source, associated=len(devices.there), active=len(devices.active))


def _is_up(name: str) -> bool:
    try:
        return (_INTERFACES / name / "operstate").read_text().strip() != "down"
    except OSError:
        return False  # gone since it was listed


def _neighbours(interfaces: Iterable[str]) -> Devices:
    from pyroute2 import IPRoute  # see above

    indexes = {socket.if_nametoindex(name) for name in interfaces}
    with IPRoute() as netlink:
        return clients_leases.neighbours(netlink.get_neighbours(), indexes)
