"""What becomes of incidents when sites go together, told as a story of ticks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from server import grouping
from server.grouping import Away, View
from server.model import Cause, GroupRules, Incident, Kind, Site

RULES = GroupRules()
FLEET = [Site(f"t-{n}", f"t-{n}", "maesa", "telkom") for n in range(30)]
BIZNET = [Site(f"b-{n}", f"b-{n}", f"d-{n}", "biznet") for n in range(5)]
AREA = [Site(f"p-{n}", f"p-{n}", "lembeh", f"isp-{n % 3}", power_area="l-1") for n in range(5)]
EVERYBODY = {one.id: one for one in (*FLEET, *BIZNET, *AREA)}


class Centre:
    """What ingest does with the decisions, and nothing else."""

    def __init__(self) -> None:
        self.away: dict[str, float] = {}
        self.outages: dict[str, Incident] = {}
        self.groups: dict[str, Incident] = {}
        self.ended: list[Incident] = []
        self.held: dict[str, float] = {}
        self.few_since: dict[str, float] = {}
        self._ids = map(str, itertools.count(1))

    def goes(self, sites: Iterable[Site], at: float) -> None:
        """Their wills came; they are pending."""
        self.away.update({one.id: at for one in sites})

    def confirms(self, sites: Iterable[Site], at: float) -> None:
        for one in sites:
            self.outages[one.id] = Incident(
                f"o-{one.id}", Kind.SITE_OFFLINE, one.id, one.district, one.isp, "",
                opened_at=self.away[one.id] - 10, detected_at=at,
            )  # fmt: skip

    def returns(self, sites: Iterable[Site], at: float, verdict: str = "link") -> None:
        for one in sites:
            del self.away[one.id]
            if outage := self.outages.pop(one.id, None):
                self.ended.append(outage.resolved(at, Cause(verdict, 0.9)))

    def ticks(self, now: float) -> list[Incident]:
        """One decision."""
        view = View(
            {
                name: Away(EVERYBODY[name], at, self.outages.get(name))
                for name, at in self.away.items()
            },
            [one for name, one in EVERYBODY.items() if name not in self.away],
            list(self.groups.values()),
            lambda group: [one.cause for one in self.ended if one.group == group.id],
            self.few_since,
        )
        decided = grouping.decide(view, now, RULES, lambda: next(self._ids))
        for one in decided.incidents:
            if one.kind is Kind.GROUP_OUTAGE:
                self.groups[one.id] = one
                if not one.firing:
                    self.ended.append(self.groups.pop(one.id))
            else:
                self.outages[one.site] = one
        self.held, self.few_since = decided.held, decided.few_since
        return decided.incidents

    def covered(self) -> dict[str, str | None]:
        return {name: outage.group for name, outage in self.outages.items()}


def test_two_groups_at_once_are_two_incidents_whose_members_are_covered() -> None:
    centre = Centre()
    centre.goes(BIZNET, 1000)
    centre.goes(AREA, 1010)
    assert centre.ticks(1020) == []
    centre.confirms(BIZNET[:2], 1030)
    assert centre.ticks(1030) == []
    assert centre.held == {"b-0": 1040, "b-1": 1040}
    centre.confirms(BIZNET[2:3], 1033)
    (isp, *covered) = centre.ticks(1033)
    centre.confirms([*BIZNET[3:], *AREA], 1040)
    centre.ticks(1040)

    assert (isp.dimension, isp.sites, isp.site) == ("isp biznet", ("b-0", "b-1", "b-2"), isp.id)
    assert (isp.opened_at, isp.detected_at, isp.cause.verdict) == (990, 1033, "isp")
    assert [one.group for one in covered] == [isp.id] * 3
    assert centre.groups[isp.id].sites == tuple(one.id for one in BIZNET)
    assert centre.groups[isp.id].title == "isp biznet: 5 sites are offline"
    power = next(one for one in centre.groups.values() if one.id != isp.id)
    assert (power.dimension, power.cause.verdict) == ("power_area l-1", "power")
    assert centre.covered() == {
        **{one.id: isp.id for one in BIZNET},
        **{one.id: power.id for one in AREA},
    }
    assert centre.ticks(1041) == []


def lost(centre: Centre) -> Incident:
    """BIZNET is away as a group."""
    centre.goes(BIZNET[:4], 1000)
    centre.confirms(BIZNET[:4], 1030)
    centre.ticks(1030)
    (group,) = centre.groups.values()
    return group


def test_a_late_one_joins_and_is_covered_once_it_is_confirmed() -> None:
    centre = Centre()
    group = lost(centre)
    centre.goes(BIZNET[4:], 1045)
    assert centre.ticks(1050) == []
    centre.confirms(BIZNET[4:], 1075)
    (joined, covered) = centre.ticks(1075)

    assert (joined.revision, joined.sites[-1], joined.why) == (2, "b-4", "b-4 went, too")
    assert joined.title == "isp biznet: 5 sites are offline"
    assert (covered.site, covered.group) == ("b-4", group.id)


def test_one_that_only_blinks_is_never_in_the_group() -> None:
    centre = Centre()
    group = lost(centre)
    centre.goes(BIZNET[4:], 1045)
    centre.ticks(1050)
    centre.returns(BIZNET[4:], 1060)

    assert centre.ticks(1061) == []
    assert "b-4" not in centre.groups[group.id].sites


def test_a_site_that_goes_much_later_speaks_for_itself() -> None:
    centre = Centre()
    lost(centre)
    centre.goes(BIZNET[4:], 2000)
    centre.confirms(BIZNET[4:], 2030)

    assert centre.ticks(2030) == []
    assert centre.covered()["b-4"] is None


def test_a_minute_after_half_are_back_the_group_ends_and_the_others_are_taken_over() -> None:
    centre = Centre()
    group = lost(centre)
    centre.returns(BIZNET[:1], 1500)
    centre.ticks(1500)
    centre.returns(BIZNET[1:2], 1510)
    assert not [one for one in centre.ticks(1510) if not one.firing]
    assert centre.ticks(1569) == []
    (ended, *taken) = centre.ticks(1570)

    assert (ended.id, ended.resolved_at, ended.cause.verdict) == (group.id, 1570, "isp")
    assert [(one.site, one.group) for one in taken] == [("b-2", None), ("b-3", None)]
    assert {one.why for one in taken} == {"its group has ended, and it is still away"}
    assert centre.ticks(1571) == []


def test_who_comes_a_little_after_the_others_was_of_the_group_to_its_end() -> None:
    centre = Centre()
    group = lost(centre)
    centre.returns(BIZNET[:3], 1500)
    centre.ticks(1500)
    centre.returns(BIZNET[3:4], 1532)
    (ended,) = centre.ticks(1532)

    assert (ended.id, ended.firing, ended.resolved_at) == (group.id, False, 1532)


def test_a_group_of_whom_many_go_again_begins_its_last_minute_anew() -> None:
    centre = Centre()
    lost(centre)
    centre.returns(BIZNET[:2], 1500)
    centre.ticks(1500)
    centre.goes(BIZNET[:2], 1530)
    centre.ticks(1530)
    centre.returns(BIZNET[:2], 1550)

    assert not [one for one in centre.ticks(1565) if not one.firing]
    assert not [one for one in centre.ticks(1624) if not one.firing]
    (ended, *_) = centre.ticks(1625)
    assert ended.resolved_at == 1625


def test_a_clock_set_back_lengthens_the_last_minute_of_a_group_by_a_minute_at_most() -> None:
    centre = Centre()
    lost(centre)
    centre.returns(BIZNET[:2], 1500)
    centre.ticks(1500)
    centre.ticks(1200)

    (ended, *_) = centre.ticks(1260)
    assert ended.resolved_at == 1260


def test_what_members_show_when_they_return_revises_the_cause() -> None:
    centre = Centre()
    lost(centre)
    centre.returns(BIZNET[:1], 1500, "power")
    (revised,) = centre.ticks(1500)

    assert (revised.cause.verdict, revised.why) == (
        "power",
        "what its members show: isp became power",
    )
    centre.returns(BIZNET[1:4], 1510, "power")
    (ended,) = centre.ticks(1510)
    assert (ended.cause.verdict, ended.resolved_at) == ("power", 1510)


def test_a_member_that_goes_again_is_covered_again() -> None:
    centre = Centre()
    group = lost(centre)
    centre.returns(BIZNET[:1], 1500)
    centre.ticks(1500)
    centre.goes(BIZNET[:1], 1600)
    centre.confirms(BIZNET[:1], 1630)

    (again,) = centre.ticks(1630)
    assert (again.site, again.group) == ("b-0", group.id)
    assert list(centre.groups) == [group.id]


def test_everything_at_once_is_held_and_then_one_group_without_a_culprit() -> None:
    centre = Centre()
    centre.goes(EVERYBODY.values(), 1000)
    centre.confirms(EVERYBODY.values(), 1030)
    assert centre.ticks(1030) == []
    assert set(centre.held) == set(EVERYBODY)
    assert set(centre.held.values()) == {1040}
    (group, *covered) = centre.ticks(1040)

    assert (group.dimension, group.cause.verdict) == ("everything", "unknown")
    assert len(covered) == len(EVERYBODY)
    assert centre.held == {}


def test_a_blindness_that_passes_while_it_is_held_is_never_told() -> None:
    centre = Centre()
    centre.goes(EVERYBODY.values(), 1000)
    centre.confirms(FLEET[:1], 1030)
    assert centre.ticks(1030) == []
    centre.returns(EVERYBODY.values(), 1035)

    assert centre.ticks(1040) == []
    assert centre.held == {}


def test_an_alert_waits_for_its_neighbours_ten_seconds_at_most() -> None:
    centre = Centre()
    centre.goes(BIZNET[:1], 1000)
    centre.goes(BIZNET[1:2], 1029)
    centre.confirms(BIZNET[:1], 1030)
    assert centre.ticks(1030) == []
    assert centre.held == {"b-0": 1040}
    centre.ticks(1039)
    assert centre.held == {}


def test_an_alert_does_not_wait_for_a_neighbour_that_went_long_before_it_was_told() -> None:
    centre = Centre()
    centre.goes(BIZNET[:2], 1000)
    centre.confirms(BIZNET[:1], 1030)
    assert centre.ticks(1030) == []
    assert centre.held == {}


def test_a_group_is_published_once_for_each_district_and_isp_with_its_own_sites() -> None:
    centre = Centre()
    centre.goes(AREA, 1000)
    centre.confirms(AREA, 1030)
    centre.ticks(1030)
    (group,) = centre.groups.values()

    assert (group.district, group.isp) == ("lembeh", "-")
    assert [(one.district, one.isp, one.sites) for one in grouping.copies(group)] == [
        ("lembeh", "isp-0", ("p-0", "p-3")),
        ("lembeh", "isp-1", ("p-1", "p-4")),
        ("lembeh", "isp-2", ("p-2",)),
    ]
