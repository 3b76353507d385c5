"""What befalls the real sites, one deed for each edge of an event.

| event | deed |
|---|---|
| cable_cut, isp_down, backhaul_down | nft drops all at the ISP's end of the lines |
| power_off, district_power_down | the same, SIGKILL, the namespaces are removed; then a new boot |
| agent_killed | SIGKILL; started again in the same boot |
| agent_hung | SIGSTOP, SIGCONT |
| link_lossy | nft drops a share of what the site sends beyond its ISP, echoes and TCP alike |
| link_slow | the line's own process lets everything wait, half there and half back |
| access_point_off | the access point's port goes down |
| clock_wrong | the agent's process reads a shifted clock |
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.truth.realagent import RealSite
from bench.truth.realjournal import Journal
from bench.truth.realnet import Net
from bench.truth.story import PARAMETERS, Event

POINT = "ap-1"
"""The access point that each site has."""
SLOW, CLOCK, POINT_OFF = "link_slow", "clock_wrong", "access_point_off"
_LINE = ("cable_cut", "isp_down", "backhaul_down")
_SUPPLY = ("power_off", "district_power_down")
OF_AGENT = (*_SUPPLY, "agent_killed", "agent_hung")
"""Here the agent itself is not at work."""


def point_of(event: Event) -> str:
    """The access point that an event names, or the one that each site has."""
    return event.target.partition("/")[2] or POINT


class Deeds:
    """Does what events ask for, and writes it down when it is done."""

    def __init__(self, net: Net, journal: Journal) -> None:
        self._net = net
        self._journal = journal
        self._still: set[str] = set()  # sites whose agent is not meant to run
        self._hung: set[str] = set()

    def begin(self, event: Event, sites: list[RealSite]) -> None:
        """It begins now."""
        places = [site.place for site in sites]
        if event.what in (*_LINE, *_SUPPLY):
            self._net.cut(event.id, places)
        if event.what in (*_SUPPLY, "agent_killed"):
            self._still |= {site.site for site in sites}
            for site in sites:
                site.kill()
        for site in sites:
            self._begin_at(site, event)
        if event.what == "link_lossy":
            self._net.lose(event.id, places, _parameter(event, "loss_ratio"))
        self._journal.happened(event.id, "begin")
        if event.what in _SUPPLY:
            for place in places:
                place.remove()
        if event.what in (*_SUPPLY, "agent_killed"):
            self._journal.read(sites)

    def _begin_at(self, site: RealSite, event: Event) -> None:
        match event.what:
            case "agent_hung":
                site.hang()
                self._hung.add(site.site)
            case "link_slow":
                site.place.delay(_parameter(event, "delay_ms"))
            case "clock_wrong":
                site.shift_clock(_parameter(event, "offset_s"))
            case "access_point_off":
                site.place.switch_off(point_of(event))

    def end(self, event: Event, sites: list[RealSite]) -> None:
        """It is over now."""
        if event.what in _SUPPLY:
            for site in sites:
                site.boot()
        self._net.mend(event.id)
        for site in sites:
            self._end_at(site, event)
        self._journal.happened(event.id, "end")

    def _end_at(self, site: RealSite, event: Event) -> None:
        match event.what:
            case "agent_killed" | "power_off" | "district_power_down":
                site.start()
                self._still.discard(site.site)
            case "agent_hung":
                site.go_on()
                self._hung.discard(site.site)
            case "link_slow":
                site.place.delay(0)
            case "clock_wrong":
                site.shift_clock(0)
            case "access_point_off":
                site.place.switch_on(point_of(event))

    def hangs(self, site: RealSite) -> bool:
        """Whether its agent stands still, and could not end in order."""
        return site.site in self._hung

    def died(self, sites: Iterable[RealSite]) -> list[str]:
        """Whose agent should run and does not; each is told once."""
        found = [s.site for s in sites if s.site not in self._still and not s.running]
        self._still |= set(found)
        return found


def _parameter(event: Event, name: str) -> float:
    return event.parameters.get(name, PARAMETERS[event.what][name])
