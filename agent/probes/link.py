"""Network interfaces: carrier, speed, what passed since the last window, and the day's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from agent import wire
from agent.measured import Links
from agent.probes import throughput
from agent.probes.route import Route, default_route
from agent.probes.runner import Context

_INTERFACES = Path("/sys/class/net")
_DAY_S = 86_400
_WRAP = 2**32
"""Where the byte counters of some drivers on 32-bit machines begin anew."""


class Counters(Protocol):
    """What psutil counts for an interface."""

    @property
    def bytes_recv(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def packets_recv(self) -> int: ...
    @property
    def packets_sent(self) -> int: ...
    @property
    def errin(self) -> int: ...
    @property
    def dropin(self) -> int: ...


class Snapshot(NamedTuple):
    """All counters at one moment (CLOCK_MONOTONIC)."""

    at_s: float
    by_name: Mapping[str, Counters]


class Peaks(NamedTuple):
    """The highest rates of one day by interface, (received, sent) in Mbit/s.

    ``day`` counts days of UTC since 1970: a device need not know its time zone.
    """

    day: int = 0
    by_name: Mapping[str, tuple[float, float]] = {}


class LinkProbe:
    """Carrier and speed of each interface but loopback, rates since the last run.

    The first run has no rates: nothing is known about the time before it. A window with a
    throughput test of ours makes no peak: it shows no use of the link.
    """

    def __init__(
        self,
        interfaces: Path = _INTERFACES,
        route: Callable[[], Route | None] = default_route,
    ) -> None:
        self._interfaces = interfaces
        self._route = route
        self._before: Snapshot | None = None
        self._peaks = Peaks()
        self._default: str | None = None

    def __call__(self, _context: Context) -> Links:
        now = Snapshot(time.monotonic(), psutil.net_io_counters(pernic=True, nowrap=False))
        before, self._before = self._before, now
        speeds = {name: stats.speed for name, stats in psutil.net_if_stats().items()}
        by_name = {
            name: link(name, has_carrier(self._interfaces / name), speeds.get(name, 0), now, before)
            for name in now.by_name
            if name != "lo"
        }
        ours = before is not None and throughput.ran_since(before.at_s)
        self._peaks = peaks(self._peaks, int(time.time() // _DAY_S), {} if ours else by_name)
        return Links(with_peaks(by_name, self._peaks), self._carrier())

    def _carrier(self) -> wire.Verdict | None:
        # A cable that is pulled can take the default route with it: the interface that had
        # it last stays the one that is judged.
        route = self._route()
        if route is not None:
            self._default = route.interface
        if self._default is None:
            return None
        return "ok" if has_carrier(self._interfaces / self._default) else "fail"


def has_carrier(interface: Path) -> bool:
    """Whether the interface is up and has its carrier.

    An interface that is down refuses to be read, one that is gone has no file: neither has.
    """
    try:
        return (interface / "carrier").read_text().strip() == "1"
    except OSError:
        return False


def link(name: str, up: bool, speed_mbps: int, now: Snapshot, before: Snapshot | None) -> wire.Link:
    """One interface; without rates where its counters began anew or are seen first."""
    state = wire.Link(up=up, speed_mbps=speed_mbps or UNSET)
    old = before.by_name.get(name) if before else None
    if before is None or old is None:
        return state
    new, took_s = now.by_name[name], now.at_s - before.at_s
    errors, drops = new.errin - old.errin, new.dropin - old.dropin
    began_anew = new.packets_recv < old.packets_recv or new.packets_sent < old.packets_sent
    received = _passed(old.bytes_recv, new.bytes_recv)
    sent = _passed(old.bytes_sent, new.bytes_sent)
    if began_anew or took_s <= 0 or min(received, sent, errors, drops) < 0:
        return state
    return wire.Link(
        up=up,
        speed_mbps=state.speed_mbps,
        rx_mbps=_mbps(received, took_s),
        tx_mbps=_mbps(sent, took_s),
        rx_errors=errors,
        rx_drops=drops,
    )


def _passed(old: int, new: int) -> int:
    """Bytes between two counts; a count that fell may have passed 32 bits, once."""
    return new - old + (_WRAP if new < old < _WRAP else 0)


def _mbps(count_bytes: int, took_s: float) -> float:
    return round(count_bytes * 8 / took_s / 1e6, 6)


def peaks(before: Peaks, day: int, links: Mapping[str, wire.Link]) -> Peaks:
    """The peaks of `day` with one more window; those of another day are over."""
    highest = dict(before.by_name) if before.day == day else {}
    for name, found in links.items():
        if isinstance(found.rx_mbps, UnsetType) or isinstance(found.tx_mbps, UnsetType):
            continue
        received, sent = highest.get(name, (0.0, 0.0))
        highest[name] = max(received, found.rx_mbps), max(sent, found.tx_mbps)
    return Peaks(day, highest)


def with_peaks(links: Mapping[str, wire.Link], highest: Peaks) -> dict[str, wire.Link]:
    """The interfaces with their peaks, where they have one."""
    found = dict(links)
    for name, (received, sent) in highest.by_name.items():
        if name in found:
            found[name] = replace(found[name], rx_peak_mbps=received, tx_peak_mbps=sent)
    return found
