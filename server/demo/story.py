"""The demo's story and what must come of it. Pure.

The story is the truth: what happens to which simulated site, and when. What
ingest makes of it is judged only by the alerts that arrived over MQTT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from server.demo.picture import Alert, Picture
from server.fleet.story import Event
from server.model import Site

OFFLINE = "site_offline"
DEGRADED = "site_degraded"
BLIP_S = 1.0
"""How long what must raise nothing lasts, far less than an offline is confirmed for."""
LOSS_RATIO = 0.2
"""Enough to be told within few windows; and TCP, which loses as much, seldom waits for long."""


@dataclass(frozen=True)
class Expected:
    """Alerts that a beat must bring, one for each of its sites."""

    kind: str
    status: str
    cause: str | None = None

    def seen_in(self, alert: Alert, site: str) -> bool:
        """Whether `alert` is what was expected of `site`."""
        return (
            site in alert.sites
            and alert.kind == self.kind
            and alert.status == self.status
            and self.cause in (None, alert.cause.verdict)
        )


@dataclass(frozen=True)
class Beat:
    """One thing that happens, and what must come of it.

    Attributes:
        name: its key in the report.
        at_s: seconds after the story's begin.
        sites: whom it concerns.
        text: what the screen says.
        event: what strikes these sites; None: they are switched on.
        edge: whether it begins or ends.
        expected: the alerts that must follow, if any.
        quiet: no alert about its sites may follow, ever.
    """

    name: str
    at_s: float
    sites: tuple[str, ...]
    text: str
    event: Event | None = None
    edge: Literal["begin", "end"] = "begin"
    expected: Expected | None = None
    quiet: bool = False


Telling = tuple[str, str, Expected | None]
"""Of a beat: its name, its text, and what it promises."""


@dataclass(frozen=True)
class Outcome:
    """What came of a beat: seconds until each site's alert, as far as they came.

    Of a quiet beat, these are the alerts that should not have come.
    """

    beat: Beat
    after_s: tuple[float, ...]
    met: bool


def write(sites: Iterable[Site], story_s: float) -> list[Beat]:
    """The story for a registry of simulated sites.

    Args:
        sites: the simulated sites.
        story_s: its length in seconds.
    """
    fleet = sorted(sites, key=lambda site: site.id)
    isp, cut = _area(fleet)
    ids = [site.id for site in cut]
    others = [site.id for site in fleet if site not in cut]
    lossy, dark, blip, killed = (others[len(others) * share // 8] for share in (1, 3, 5, 7))
    where = ", ".join(sorted({_title(site.district) for site in cut}))

    def event(what: str, begin: float, lasts_s: float, *struck: str, value: float = 0.0) -> Event:
        return Event(what, begin * story_s, lasts_s, what, struck, value)

    beats = [
        Beat("start", 0.0, tuple(site.id for site in fleet), "Every site is on"),
        *_told(event("link_lossy", 0.15, 0.33 * story_s, lossy, value=LOSS_RATIO),
            ("lossy", f"{lossy}: its link loses 2 echoes of 10", Expected(DEGRADED, "firing")),
            ("healed", f"{lossy}: its link is clean again", Expected(DEGRADED, "resolved"))),
        *_told(event("cable_cut", 0.19, BLIP_S, blip),
            ("blip", f"{blip}: a cut of {BLIP_S:g} s that must raise nothing", None),
            ("blip_over", f"{blip}: the cut is over", None)),
        *_told(event("agent_killed", 0.22, BLIP_S, killed),
            ("restart", f"{killed}: its agent is killed, and that must raise nothing", None),
            ("restarted", f"{killed}: its agent runs again", None)),
        *_told(event("isp_down", 0.25, 0.38 * story_s, *ids),
            ("isp_cut", f"{_title(isp)}: {len(ids)} sites are cut off in {where}",
             Expected(OFFLINE, "firing")),
            ("isp_back", f"{_title(isp)}: its line is back, its sites follow",
             Expected(OFFLINE, "resolved", "link"))),
        *_told(event("power_off", 0.30, 0.38 * story_s, dark),
            ("power_cut", f"{dark}: a power cut", Expected(OFFLINE, "firing")),
            ("power_back", f"{dark}: power is back, it boots",
             Expected(OFFLINE, "resolved", "power"))),
    ]  # fmt: skip
    return sorted(beats, key=lambda beat: beat.at_s)


def _told(event: Event, begin: Telling, end: Telling) -> list[Beat]:
    """The two beats of an event; one that promises no alert must not bring any."""
    assert event.lasts_s is not None
    name, text, expected = begin
    first = Beat(name, event.at_s, event.sites, text, event, "begin", expected, quiet=not expected)
    name, text, expected = end
    ends_s = event.at_s + event.lasts_s
    return [first, Beat(name, ends_s, event.sites, text, event, "end", expected)]


def _area(fleet: list[Site]) -> tuple[str, list[Site]]:
    """The ISP with most sites, and its sites in the districts where it has most."""
    isp = Counter(site.isp for site in fleet).most_common(1)[0][0]
    mine = [site for site in fleet if site.isp == isp]
    districts = [name for name, _count in Counter(site.district for site in mine).most_common(3)]
    return isp, [site for site in mine if site.district in districts]


def _title(slug: str) -> str:
    return slug.replace("-", " ").title()


def judge(
    beats: Iterable[Beat], picture: Picture, *, began_at: float
) -> tuple[list[Outcome], list[str]]:
    """What came of every beat that promises something, and what should not have come.

    Args:
        beats: the story.
        picture: all that came over MQTT.
        began_at: when the story began, seconds since 1970.

    Returns:
        An outcome a beat, in order; and a line for each alert about a simulated
        site that the story does not explain.
    """
    beats = list(beats)
    outcomes = [
        _outcome(beat, picture.alerts, began_at=began_at)
        for beat in beats
        if beat.expected or beat.quiet
    ]
    planned = {(site, beat.expected.kind) for beat in beats if beat.expected for site in beat.sites}
    simulated = {site for beat in beats for site in beat.sites}
    surprises = {
        f"{alert.kind} of {site}: {alert.title}"
        for alert in picture.alerts
        for site in alert.sites
        if site in simulated and (site, alert.kind) not in planned
    }
    return outcomes, sorted(surprises)


def _outcome(beat: Beat, alerts: Iterable[Alert], *, began_at: float) -> Outcome:
    acted_at = began_at + beat.at_s
    after_s: dict[str, float] = {}
    for alert in alerts:
        for site in beat.sites:
            if alert.seen_at >= acted_at and site not in after_s and _seen(beat, alert, site):
                after_s[site] = round(alert.seen_at - acted_at, 1)
    met = not after_s if beat.quiet else len(after_s) == len(beat.sites)
    return Outcome(beat, tuple(sorted(after_s.values())), met)


def _seen(beat: Beat, alert: Alert, site: str) -> bool:
    if beat.expected is None:
        return site in alert.sites
    return beat.expected.seen_in(alert, site)
