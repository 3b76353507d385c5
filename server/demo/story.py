"""The demo's story and what must come of it. Pure.

The story is the truth: what happens to which simulated site, and when. What
ingest makes of it is judged only by the alerts that arrived over MQTT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from server.demo.picture import Alert, Picture
from server.model import Site
from server.simulate_site import Act

OFFLINE = "site_offline"
DEGRADED = "site_degraded"
BLIP_S = 1.0
"""How long the blip lasts, far less than an offline is confirmed for."""


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
        text: what the screen says.
        expected: the alerts that must follow, if any.
        quiet: no alert about its sites may follow, ever.
    """

    name: str
    at_s: float
    act: Act
    sites: tuple[str, ...]
    text: str
    expected: Expected | None = None
    quiet: bool = False


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
    others = [site for site in fleet if site not in cut]
    lossy, dark, blip = (others[len(others) * share // 6] for share in (1, 3, 5))
    ids = tuple(site.id for site in cut)
    where = ", ".join(sorted({_title(site.district) for site in cut}))
    plan = [
        (0.15, "lossy", Act.LOSE, (lossy.id,), f"{lossy.id}: its link loses 3 echoes of 10",
         Expected(DEGRADED, "firing")),
        (0.30, "isp_cut", Act.CUT, ids, f"{_title(isp)}: {len(ids)} sites are cut off in {where}",
         Expected(OFFLINE, "firing")),
        (0.36, "power_cut", Act.POWER_OFF, (dark.id,), f"{dark.id}: a power cut",
         Expected(OFFLINE, "firing")),
        (0.50, "healed", Act.HEAL, (lossy.id,), f"{lossy.id}: its link is clean again",
         Expected(DEGRADED, "resolved")),
        (0.62, "isp_back", Act.MEND, ids, f"{_title(isp)}: its sites are back, backlogs follow",
         Expected(OFFLINE, "resolved", "link")),
        (0.68, "power_back", Act.POWER_ON, (dark.id,), f"{dark.id}: power is back, it boots",
         Expected(OFFLINE, "resolved", "power")),
    ]  # fmt: skip
    blip_at_s, short = 0.21 * story_s, f"{blip.id}: a cut of {BLIP_S:g} s that must raise nothing"
    beats = [
        Beat("start", 0.0, Act.POWER_ON, tuple(site.id for site in fleet), "Every site is on"),
        Beat("blip", blip_at_s, Act.CUT, (blip.id,), short, quiet=True),
        Beat("blip_over", blip_at_s + BLIP_S, Act.MEND, (blip.id,), f"{blip.id}: the cut is over"),
        *(
            Beat(name, share * story_s, act, who, text, expected)
            for share, name, act, who, text, expected in plan
        ),
    ]
    return sorted(beats, key=lambda beat: beat.at_s)


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
