"""Modelled sites in one event loop: made alike, switched on, and struck by events.

`pantau simulate` plays one in each of its processes, `pantau demo` one beside its screen.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.config import Mqtt
from server.fleet.box import SPOOL_BYTES, Box
from server.fleet.link import Link, What
from server.fleet.site import BEGINNING, Plight, Site
from server.fleet.story import Event
from server.fleet.tube import tube_time

_CUTS = ("cable_cut", "isp_down", "backhaul_down")
_PLIGHTS: dict[str, Plight] = {
    "power_off": "dark",
    "district_power_down": "dark",
    "agent_killed": "dead",
    "agent_hung": "hung",
}
_LINES: dict[str, What] = {"link_lossy": "lossy", "link_slow": "slow"}
_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it

Context = dict[str, Any]
"""What an event loop tells of a fault."""
Made = Callable[[str, str, int, float, float], None]
"""Told of each reading as soon as it is stored: site, stream, seq, true times of begin and end."""


class Fleet:
    """Sites by id, each without power until `switch_on`.

    Args:
        points: the access points of each site.
        settings: how they reach the broker; each logs in as itself.
        window_s: seconds of one reading.
        spools: each site has a folder of its own in this one.
        made: writes the journal.
        certificates: holds SITE.crt and SITE.key of each; None: none.
        running: those whose device runs already; `switch_on` starts only their agent.
        spool_bytes: room for the spool of one site.
    """

    def __init__(
        self,
        points: Mapping[str, tuple[str, ...]],
        settings: Mqtt,
        *,
        window_s: float,
        spools: Path,
        made: Made,
        certificates: Path | None = None,
        running: Collection[str] = (),
        spool_bytes: int = SPOOL_BYTES,
    ) -> None:
        self.sites = {
            site: Site(
                Box(site, Link(site), spools / site, window_s, has, _of(site, made), spool_bytes),
                _as_itself(site, settings, certificates),
                "dead" if site in running else "dark",
            )
            for site, has in points.items()
        }

    async def run(self) -> None:
        """Let every site live until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for site in self.sites.values():
                tasks.create_task(site.run())

    def switch_on(self, sites: Iterable[str]) -> None:
        """Start these for the first time.

        Raises:
            SpoolError: the spool of one cannot be used.
        """
        for site in sites:
            self.sites[site].relieve(BEGINNING)

    def begin(self, event: Event) -> None:
        """It strikes those of its sites that are here, now; an event of the centre nobody."""
        for site in self._struck(event):
            _begin(site, event, tube_time())

    def end(self, event: Event) -> None:
        """It is over at those of its sites that are here.

        Raises:
            SpoolError: the spool of one cannot be used.
        """
        for site in self._struck(event):
            _end(site, event, tube_time())

    def _struck(self, event: Event) -> list[Site]:
        return [self.sites[site] for site in event.sites if site in self.sites]

    @property
    def connected(self) -> int:
        """How many sites have a connection to the broker, as far as they know."""
        return sum(site.connected for site in self.sites.values())

    @property
    def attempts(self) -> int:
        """How often a site has begun a connection since it was made."""
        return sum(site.attempts for site in self.sites.values())

    @property
    def unreleased(self) -> int:
        """Readings that agents which run hold, and that the server has not confirmed."""
        spools = [site.box.spool for site in self.sites.values()]
        return sum(spool.unreleased for spool in spools if spool is not None)


def in_memory() -> tempfile.TemporaryDirectory[str]:
    """A new folder for spools, in memory where there is such: a disk is slow for so many.

    It is removed when it is left as a context manager, or by `cleanup`.
    """
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    return tempfile.TemporaryDirectory(
        prefix="pantau-fleet-", dir=place, ignore_cleanup_errors=True
    )


def _of(site: str, made: Made) -> Callable[[str, int, float, float], None]:
    return lambda stream, seq, begin, end: made(site, stream, seq, begin, end)


def _as_itself(site: str, settings: Mqtt, certificates: Path | None) -> Mqtt:
    if certificates is None:
        return settings
    own = certificates / site
    return replace(settings, cert_file=Path(f"{own}.crt"), key_file=Path(f"{own}.key"))


def _begin(site: Site, event: Event, now_s: float) -> None:
    box = site.box
    if event.what in _CUTS:
        box.link.begin(event.id, "cut", now_s)
    elif event.what in _LINES:
        box.link.begin(event.id, _LINES[event.what], now_s, event.value)
    elif event.what in _PLIGHTS:
        site.suffer(event.id, _PLIGHTS[event.what])
    elif event.what == "clock_wrong":
        box.clock_off_s[event.id] = event.value
    elif event.what == "access_point_off":
        box.points_off[event.id] = frozenset(event.points or box.points[:1])


def _end(site: Site, event: Event, now_s: float) -> None:
    box = site.box
    if event.what in _CUTS or event.what in _LINES:
        box.link.end(event.id, now_s)
        site.mended()
    elif event.what in _PLIGHTS:
        site.relieve(event.id)
    elif event.what == "clock_wrong":
        box.clock_off_s.pop(event.id, None)
    elif event.what == "access_point_off":
        box.points_off.pop(event.id, None)


def passing_over(over: asyncio.Event) -> Callable[[asyncio.AbstractEventLoop, Context], None]:
    """An event loop's exception handler, for one in which sites live.

    It passes over what gmqtt stumbles over when a connection ends under it, since the site
    hears of that, and over everything once `over` is set.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: Context) -> None:
        whose = repr([context.get(name) for name in ("handle", "task", "future", "protocol")])
        if not (over.is_set() or "gmqtt" in whose or "MQTTProtocol" in whose):
            loop.default_exception_handler(context)

    return handle
