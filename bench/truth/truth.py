"""What must come of each event, said before the run. Pure.

Rules, from the contract and from physics alone:

1. Whoever is cut off, without power, killed or hung for `MUST_S` or longer has an
   outage; for less than `NEVER_S` and 1.5 windows, none: the last reading may be a window
   old, and silence takes 2.5. What lies between is not drawn by the
   generator, and counts as "must" in stories written by hand.
2. Lossy, slow, or an access point off, for five windows or longer: a trouble.
3. A wrong clock is nobody's trouble.
4. What strikes an ISP, a backhaul or a power area is one group, with one alert.
5. An outage that does not end leaves no evidence of its cause: nothing can come
   from there. That of a group does: the neighbours are the evidence.
6. What strikes while the centre itself is away, or has not yet given every site its 2.5
   windows since, may be over before anybody can tell: such an outage is not `sure`.
   Where the centre is broken is planned before the run as well.
7. Down, by the contract, is a dead line or a lost supply that left evidence. The
   agent's own absence is unmeasured, and so is a supply that came back before
   anybody could call it an outage: no reading tells of it. Where that is because the
   centre was away (rule 6), its minutes are scored apart, see `unseen`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from bench.truth.story import OF_CENTRE, Event, Story, sites_of

MUST_S = 58.5
"""1.5 keepalives of 15 s, the confirmation of 30 s, and 6 s."""
NEVER_S = 30.0
"""By its will no outage is confirmed earlier."""
CAUGHT_UP_S = 20.0
"""By then what was killed runs again, and has taken in what waited."""
_CAUSES = {
    "cable_cut": "link",
    "power_off": "power",
    "agent_killed": "agent",
    "agent_hung": "agent",
    "isp_down": "isp",
    "backhaul_down": "isp",
    "district_power_down": "power",
    "link_lossy": "link",
    "link_slow": "link",
    "access_point_off": "access_point",
}
_OUTAGES = ("cable_cut", "power_off", "agent_killed", "agent_hung")
_LINE = ("cable_cut", "isp_down", "backhaul_down")
_SUPPLY = ("power_off", "district_power_down")


@dataclass(frozen=True)
class Expected:
    """What must come of one event.

    Attributes:
        incident: its kind in the ledger; None: no incident may come of it.
        from_s, to_s: story time; `to_s` None: for good.
        cause: the true one.
        cause_judged: whether Pantau claims to tell it (troubles of a link have none).
        evidence: False: nothing remains that could tell, and "unknown" is right.
        down: whether the time is down by the contract.
        sure: False: our own absence may hide it; told or not, both are right.
        calm: whether no absence of ours may delay it; detection is scored apart.
    """

    event: str
    what: str
    incident: str | None
    sites: tuple[str, ...]
    from_s: float
    to_s: float | None
    cause: str | None
    cause_judged: bool
    evidence: bool
    down: bool
    sure: bool = True
    calm: bool = True


Absences = Sequence[tuple[float, float]]
"""From when to when the centre is broken, story time, in order."""


def expect(
    story: Story, window_s: float, absences: Absences = (), ends_s: float = float("inf")
) -> list[Expected]:
    """The truth of every event that strikes a site, in the story's order.

    Args:
        absences: when the centre is broken.
        ends_s: when nobody looks any more.
    """
    return [
        _expected(event, tuple(sites_of(event, story.sites)), window_s, absences, ends_s)
        for event in story.events
        if event.what not in OF_CENTRE
    ]


def told_by_s(from_s: float, window_s: float, absences: Absences) -> float:
    """By when an outage that begins at `from_s` has to be told."""
    patience_s = CAUGHT_UP_S + 2.5 * window_s
    by_s = from_s + MUST_S
    for began_s, over_s in absences:
        if began_s <= by_s and over_s + patience_s >= from_s:
            by_s = max(by_s, over_s + patience_s + MUST_S)
    return by_s


def _expected(
    event: Event, sites: tuple[str, ...], window_s: float, absences: Absences, ends_s: float
) -> Expected:
    for_good = event.lasts_s is None
    lasts_s = float("inf") if event.lasts_s is None else event.lasts_s
    never_s = min(NEVER_S, 1.5 * window_s)
    group = event.by not in ("site", "access_point")
    incident: str | None = None
    if group:
        incident = "group_outage"
    elif event.what in _OUTAGES:
        incident = "site_offline" if lasts_s >= never_s else None
    elif event.what == "access_point_off":
        incident = "access_point_offline" if lasts_s >= 5 * window_s else None
    elif event.what != "clock_wrong":
        incident = "site_degraded" if lasts_s >= 5 * window_s else None
    evidence = group or not for_good
    return Expected(
        event=event.id,
        what=event.what,
        incident=incident,
        sites=sites,
        from_s=event.at_s,
        to_s=None if event.lasts_s is None else event.at_s + event.lasts_s,
        cause=_CAUSES.get(event.what),
        cause_judged=incident is not None and incident != "site_degraded",
        evidence=evidence,
        down=(event.what in _LINE and not for_good)
        or (event.what in _SUPPLY and not for_good and lasts_s >= never_s),
        sure=incident not in ("site_offline", "group_outage")
        or told_by_s(event.at_s, window_s, absences) <= min(ends_s, event.at_s + lasts_s)
        or not absences,
        calm=told_by_s(event.at_s, window_s, absences) == event.at_s + MUST_S,
    )


def down_s(expected: list[Expected], begin_s: float, end_s: float) -> dict[str, float]:
    """How long each site that an event struck was truly down between the two story times."""
    total = {site: 0.0 for one in expected for site in one.sites}
    for one in expected:
        if one.down:
            to_s = end_s if one.to_s is None else min(end_s, one.to_s)
            for site in one.sites:
                total[site] += max(0.0, to_s - max(begin_s, one.from_s))
    return total


def unseen(expected: list[Expected], hidden: Collection[str]) -> list[Expected]:
    """The lost supplies of rule 7 that nobody told since the centre was away (`hidden`)."""
    return [
        one
        for one in expected
        if one.down and one.what in _SUPPLY and not one.sure and one.event in hidden
    ]


def as_json(expected: list[Expected]) -> list[dict[str, object]]:
    """The truth file, written before anything starts."""
    return [asdict(one) for one in expected]
