"""The demo's simulated sites, and the journal of what they made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from server.config import Mqtt
from server.demo.house import KEEPALIVE_S, WINDOW_S
from server.demo.report import Name, digest
from server.demo.story import Beat
from server.fleet.fleet import Fleet
from server.fleet.story import points_of
from server.model import Site

_SPOOL_BYTES = 4 << 20
"""Of each: some 100 minutes of readings, in memory."""


class Sites:
    """Sites that the story is told with, each without power at first.

    Args:
        simulated: their rows of the registry.
        settings: how they reach the broker.
        spools: an empty folder for their spools.
    """

    def __init__(self, simulated: Iterable[Site], settings: Mqtt, spools: Path) -> None:
        self._fleet = Fleet(
            {site.id: points_of(site) for site in simulated},
            replace(settings, keepalive_s=KEEPALIVE_S),
            window_s=WINDOW_S,
            spools=spools,
            made=self._made,
            spool_bytes=_SPOOL_BYTES,
        )
        self._journal: dict[str, dict[Name, bytes]] = {site: {} for site in self._fleet.sites}

    async def run(self) -> None:
        """Let them live until cancelled."""
        await self._fleet.run()

    def act(self, beat: Beat) -> None:
        """What the story tells happens to them, now."""
        if beat.event is None:
            self._fleet.switch_on(beat.sites)
        elif beat.edge == "begin":
            self._fleet.begin(beat.event)
        else:
            self._fleet.end(beat.event)

    def journal(self) -> Mapping[str, Mapping[Name, bytes]]:
        """By site, each reading that was made so far, with the digest of its text."""
        return {site: dict(made) for site, made in self._journal.items()}

    def released(self, site: str) -> Mapping[str, int]:
        """Of each stream in a site's spool, up to which seq it knows that all is stored."""
        spool = self._fleet.sites[site].box.spool
        return {} if spool is None else {one.stream: one.through for one in spool.streams()}

    def _made(self, site: str, stream: str, seq: int, _begin: float, _end: float) -> None:
        """Note a reading as it lies in the spool, before anybody has sent it."""
        spool = self._fleet.sites[site].box.spool
        assert spool is not None
        ((_, body),) = spool.read(stream, seq, 1, 0)
        self._journal[site][stream, seq] = digest(body)
