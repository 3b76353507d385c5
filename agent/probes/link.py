"""Network interfaces: carrier, speed, and what passed since the last window."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil
from msgspec import UNSET

from agent import wire
from agent.measured import Links
from agent.probes.route import Route, default_route
from agent.probes.runner import Context

_INTERFACES = Path("/sys/class/net")


class Counters(Protocol):
    """What psutil counts for an interface."""

    @property
    def bytes_recv(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    @property
    def errin(self) -> int: ...
    @property
    def dropin(self) -> int: ...


class Snapshot(NamedTuple):
    """All counters at one moment (CLOCK_MONOTONIC)."""

    at_s: float
    by_name: Mapping[str, Counters]


class LinkProbe:
    """Carrier and speed of each interface but loopback, rates since the last run.

    The first run has no rates: nothing is known about the time before it.
    """

    def __init__(
        self,
        interfaces: Path = _INTERFACES,
        route: Callable[[], Route | None] = default_route,
    ) -> None:
        self._interfaces = interfaces
        self._route = route
        self._before: Snapshot | None = None
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
        return Links(by_name, self._carrier())

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
    received, sent = new.bytes_recv - old.bytes_recv, new.bytes_sent - old.bytes_sent
    errors, drops = new.errin - old.errin, new.dropin - old.dropin
    if took_s <= 0 or min(received, sent, errors, drops) < 0:
        return state
    return wire.Link(
        up=up,
        speed_mbps=state.speed_mbps,
        rx_mbps=_mbps(received, took_s),
        tx_mbps=_mbps(sent, took_s),
        rx_errors=errors,
        rx_drops=drops,
    )


def _mbps(count_bytes: int, took_s: float) -> float:
    return round(count_bytes * 8 / took_s / 1e6, 6)
