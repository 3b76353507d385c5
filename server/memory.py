"""What ingest remembers of the store, and by what it judges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from server.clock import Anchors
from server.health import Health
from server.inforce import InForce
from server.model import Incident, Kind, Rules, Site, unregistered
from server.past import Runs
from server.store import StreamRow

_STREAMS_OF_A_SITE = 4
"""A device has one stream that grows, and perhaps older ones with a backlog. Over the years it has
many, and the store tells of each."""


@dataclass(slots=True)
class Memory:
    """So that a reading costs no query."""

    in_force: InForce
    registry: dict[str, Site] = field(default_factory=dict)
    healths: dict[str, Health] = field(default_factory=dict)
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    streams: dict[str, dict[str, StreamRow]] = field(default_factory=dict)
    """Of each site by name, those that were written to last."""
    firing: dict[tuple[str, Kind], Incident] = field(default_factory=dict)
    anchors: dict[str, Anchors] = field(default_factory=dict)
    runs: Runs = field(default_factory=dict)
    dues: dict[str, float | None] = field(default_factory=dict)
    """When time alone may change each site, as stored."""
    judged_by: dict[str, Rules] = field(default_factory=dict)
    worked_on: frozenset[str] = frozenset()
    """Sites at which announced work goes on."""

    def take_over(self, registry: dict[str, Site], in_force: InForce) -> set[str]:
        """Go by another registry, and by other rules, from now on.

        Gives the sites whose state reads otherwise by it, though they stay where they are.
        """
        before, worked_on = self.registry, self.worked_on
        self.registry, self.in_force = registry, in_force
        self.judged_by = {}
        self.worked_on = frozenset(
            site.id for site in registry.values() if not site.retired and in_force.work(site)
        )
        relisted = {
            name
            for name, site in registry.items()
            if name in before and before[name].access_points != site.access_points
        }
        return relisted | (worked_on ^ self.worked_on)

    def rules(self, site: str) -> Rules:
        """The rules that judge a site."""
        found = self.judged_by.get(site)
        if found is None:
            found = self.judged_by[site] = self.in_force.rules(self.site(site))
        return found

    def keep(self, streams: Iterable[StreamRow]) -> None:
        """Remember how streams stand; forget those of their sites that were used longest ago."""
        for row in streams:
            known = self.streams.setdefault(row.site, {})
            known.pop(row.stream, None)
            known[row.stream] = row
            if len(known) > _STREAMS_OF_A_SITE:
                del known[next(iter(known))]

    def in_work(self, incident: Incident) -> bool:
        """Whether announced work covers all sites of an incident."""
        return self.worked_on.issuperset(incident.sites or (incident.site,))

    def site(self, site: str) -> Site:
        """The site of the registry, or a stand-in for one it does not know."""
        known = self.registry.get(site)
        return known if known is not None and not known.retired else unregistered(site)
