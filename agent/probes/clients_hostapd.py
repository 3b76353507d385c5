"""Stations as hostapd tells them on its control sockets, one socket a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agent.probes.clients_stations import Station, from_hostapd
from agent.probes.runner import ProbeError
from agent.wpactl import ControlSocket

_ADDRESS = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
_MOST_STATIONS = 2007
"""Association ids end there (IEEE 802.11, 9.4.1.8): a list that goes on runs in a circle."""


class _NonsenseError(Exception):
    pass


class Network(NamedTuple):
    """One network of hostapd."""

    stations: list[Station]
    frequency_mhz: float | None


def networks(folder: Path) -> dict[str, Network]:
    """The networks whose control sockets lie in `folder`, by interface; none without it.

    Raises:
        ProbeError: a socket is there and may not be used, or what answers is no hostapd.
    """
    try:
        sockets = [path for path in sorted(folder.iterdir()) if path.is_socket()]
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise _not_permitted(folder) from None
    found = {}
    for path in sockets:
        try:
            with ControlSocket(path) as hostapd:
                found[path.name] = _network(hostapd.ask)
        except PermissionError:
            raise _not_permitted(path) from None
        except _NonsenseError:
            raise ProbeError(f"{path}: hostapd answers something that is no station") from None
        except (ConnectionRefusedError, FileNotFoundError):
            continue  # a socket that a hostapd left behind when it died
    return found


def _not_permitted(path: Path) -> ProbeError:
    return ProbeError(
        f"{path}: not permitted; set ctrl_interface_group of hostapd to a group of this user"
    )


def _network(ask: Callable[[str], str]) -> Network:
    stations: list[Station] = []
    station = from_hostapd(ask("STA-FIRST"))
    while station is not None and len(stations) < _MOST_STATIONS:
        if not _ADDRESS.fullmatch(station.address):
            raise _NonsenseError
        stations.append(station)
        station = from_hostapd(ask(f"STA-NEXT {station.address}"))
    status = dict(line.partition("=")[::2] for line in ask("STATUS").splitlines())
    frequency = status.get("freq", "")
    return Network(stations, float(frequency) if frequency.isdigit() else None)
