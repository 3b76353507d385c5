"""Which sites went together, and which only went at the same time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import groups
from server.groups import Gone, Group
from server.model import UNREGISTERED, GroupRules, Site

RULES = GroupRules()
NOW = 1000.0


def site(name: str, isp: str = "telkom", district: str = "maesa", **more: Any) -> Site:
    """A registered site."""
    return Site(name, name, district, isp, **more)


def gone(sites: Iterable[Site], at: float = 940.0, *, pending: bool = False) -> list[Gone]:
    """Sites that went at `at`, and were confirmed just now unless they are pending."""
    return [Gone(one, at, None if pending else NOW - 1) for one in sites]


def sites(count: int, isp: str, district: str, **more: Any) -> list[Site]:
    """So many sites of one ISP and district."""
    return [site(f"{isp}-{district}-{n}", isp, district, **more) for n in range(count)]


def found(went: Iterable[Gone], living: Iterable[Site]) -> dict[str, set[str]]:
    """Dimension to members."""
    groups_found = groups.find(went, list(living), NOW, RULES)
    return {group.dimension: set(group.sites) for group in groups_found}


def ids(some: Iterable[Site]) -> set[str]:
    """Their names."""
    return {one.id for one in some}


CITY = [*sites(20, "telkom", "maesa"), *sites(20, "icon", "girian"), *sites(20, "icon", "ranowulu")]


def test_the_sites_of_an_isp_that_go_together_are_one_group() -> None:
    lost = [one for d in "abcde" for one in sites(1, "biznet", d)]

    assert found(gone(lost), CITY) == {"isp biznet": ids(lost)}


@pytest.mark.parametrize("name", ["backhaul", "power_area"])
def test_other_things_that_sites_share_explain_as_well(name: str) -> None:
    lost = [replace(one, **{name: "x-2"}) for one in (*CITY[:3], *CITY[20:23])]

    assert found(gone(lost), CITY[3:20] + CITY[23:]) == {f"{name} x-2": ids(lost)}


def test_two_sites_are_no_group() -> None:
    assert found(gone(sites(2, "biznet", "maesa")), CITY) == {}


def test_less_than_half_of_a_value_is_no_group() -> None:
    lost = [one for d in "abcd" for one in sites(1, "biznet", d)]
    alive = sites(5, "biznet", "e")

    assert found(gone(lost), CITY + alive) == {}
    assert found(gone(lost), CITY + alive[:4]) == {"isp biznet": ids(lost)}


def test_sites_that_were_down_long_before_are_not_asked_of_a_group() -> None:
    lost = [one for d in "abc" for one in sites(1, "biznet", d)]
    before = [Gone(one, 100.0, 140.0) for one in sites(9, "biznet", "x")]

    assert found([*gone(lost), *before], CITY) == {"isp biznet": ids(lost)}


def test_an_isp_and_a_district_that_go_at_once_are_told_apart() -> None:
    isp = [one for d in ("girian", "ranowulu", "x", "y", "z") for one in sites(1, "biznet", d)]
    district = [*sites(3, "telkom", "lembeh"), *sites(2, "icon", "lembeh")]

    assert found(gone(isp, 930.0) + gone(district, 950.0), CITY) == {
        "isp biznet": ids(isp),
        "district lembeh": ids(district),
    }


def test_a_site_that_both_explain_is_in_one_of_them() -> None:
    isp = [one for d in ("girian", "lembeh", "x", "y", "z") for one in sites(1, "biznet", d)]
    district = [*sites(3, "telkom", "lembeh"), *sites(1, "icon", "lembeh")]

    assert found(gone(isp + district), CITY) == {
        "isp biznet": ids(isp),
        "district lembeh": ids(district),
    }


def test_a_district_that_is_half_of_an_isp_is_not_that_isps_outage() -> None:
    lost = sites(6, "biznet", "lembeh")

    assert found(gone(lost), CITY + sites(5, "biznet", "maesa")) == {"district lembeh": ids(lost)}


def test_one_site_that_lives_on_does_not_break_an_isp_into_its_backhauls() -> None:
    lost = [*sites(3, "biznet", "a", backhaul="ring-1"), *sites(2, "biznet", "b")]

    assert found(gone(lost), [*CITY, site("lucky", "biznet", "c")]) == {"isp biznet": ids(lost)}


def test_what_is_not_known_of_sites_does_not_join_them() -> None:
    lost = [site(f"s-{n}", f"isp-{n}", f"district-{n}", backhaul="") for n in range(5)]

    assert found(gone(lost), CITY) == {}


def test_pending_sites_make_up_a_group_with_three_that_are_confirmed_who_alone_are_in_it() -> None:
    lost = [one for d in "abcdef" for one in sites(1, "biznet", d)]
    living = [*CITY, *sites(4, "biznet", "x")]

    def so_far(count: int) -> list[Gone]:
        return [*gone(lost[:count]), *gone(lost[count:], pending=True)]

    assert found(so_far(0), living) == {}
    assert found(so_far(2), living) == {}
    assert found(so_far(3), living) == {"isp biznet": ids(lost[:3])}
    assert found(so_far(3)[:3], living) == {}, "three of seven that lived until then"


def test_a_blip_of_an_isp_while_one_of_its_sites_is_away_is_no_group() -> None:
    """A cut of 25 s brings wills of most sites, and nobody is confirmed."""
    away, *others = sites(40, "biznet", "x")

    assert found([*gone([away]), *gone(others, 960.0, pending=True)], CITY) == {}


def test_an_outage_that_was_told_long_ago_is_not_told_again_as_a_group() -> None:
    lost = [Gone(one, 100.0, 140.0) for one in sites(5, "biznet", "x")]

    assert found(lost, CITY) == {}


def test_a_slow_trickle_is_no_group() -> None:
    lost = [one for d in "abcdef" for one in sites(1, "biznet", d)]
    for n in range(len(lost)):
        went = [Gone(one, NOW - 35.0 * (n - m), NOW) for m, one in enumerate(lost[: n + 1])]
        assert found(went, CITY + lost[n + 1 :]) == {}


def test_everything_at_once_is_one_group_that_waits_for_proof() -> None:
    (group,) = groups.find(gone(CITY[:57]), CITY[57:], NOW, RULES)

    assert group == Group("everything", tuple(sorted(ids(CITY[:57]))), NOW - 1 + RULES.hold_s)


def test_a_fleet_of_one_isp_alone_that_goes_as_a_whole_does_not_blame_the_isp() -> None:
    fleet = sites(12, "telkom", "maesa")

    assert set(found(gone(fleet), [])) == {"everything"}


def test_somebody_else_who_lives_on_proves_that_we_hear() -> None:
    fleet = [one for d in "abcdef" for one in sites(3, "telkom", d)]

    assert set(found(gone(fleet), [site("other", "biznet", "a")])) == {"isp telkom"}


@pytest.mark.parametrize("count", range(3, 10))
def test_a_small_fleet_that_goes_as_a_whole_is_explained_like_any_other(count: int) -> None:
    fleet = [site(f"s-{n}", "telkom", f"district-{n}") for n in range(count)]

    assert found(gone(fleet), []) == {"isp telkom": ids(fleet)}


@pytest.mark.parametrize("count", range(1, 3))
def test_in_a_fleet_of_one_or_two_each_site_speaks_for_itself(count: int) -> None:
    assert found(gone(sites(count, "telkom", "maesa")), []) == {}


def test_unregistered_and_retired_sites_are_in_no_group() -> None:
    strangers = [site(f"u-{n}", UNREGISTERED, UNREGISTERED) for n in range(20)]
    retired = [replace(one, retired=True) for one in sites(20, "biznet", "x")]
    lost = sites(3, "biznet", "y")

    assert found(gone(strangers + retired), CITY) == {}
    assert found(gone(strangers + retired + lost), CITY) == {"isp biznet": ids(lost)}


def test_nine_thousand_sites_fall_into_their_groups() -> None:
    dice = random.Random(1)  # noqa: S311  # no secret
    fleet = [
        site(
            f"s-{n}",
            f"isp-{n % 7}",
            f"district-{n % 40}",
            backhaul=f"ring-{n % 7}-{n % 11}",
            power_area=f"area-{n // 30}",
        )
        for n in range(9000)
    ]
    lost = [one for one in fleet if one.isp == "isp-3" or one.power_area in ("area-5", "area-7")]
    odd = dice.sample([one for one in fleet if one not in lost], 40)
    went = [Gone(one, dice.uniform(900, 923), NOW - dice.uniform(0, 20)) for one in lost + odd]
    names = ids(lost + odd)

    told = found(went, [one for one in fleet if one.id not in names])
    assert set(told) == {"isp isp-3", "power_area area-5", "power_area area-7"}
    assert ids(lost) <= set.union(*told.values())


VALUE = st.sampled_from(["a", "b", "c"])
SITES = st.lists(
    st.builds(
        Site,
        id=st.integers(0, 40).map(str),
        name=st.just("x"),
        district=VALUE,
        isp=VALUE,
        backhaul=st.sampled_from(["", "r"]),
        power_area=st.sampled_from(["", "p", "q"]),
        retired=st.booleans(),
    ),
    unique_by=lambda one: one.id,
    max_size=30,
)
WENT = st.tuples(
    st.integers(880, 1000).map(float),
    st.none() | st.integers(900, 1000).map(float),
    st.booleans(),
)


@given(SITES, st.lists(WENT, min_size=30, max_size=30), st.randoms())
def test_the_order_of_sites_says_nothing_and_no_site_is_in_two_groups(
    some: list[Site], went: list[tuple[float, float | None, bool]], dice: random.Random
) -> None:
    away = [
        Gone(one, at, since) for one, (at, since, here) in zip(some, went, strict=False) if not here
    ]
    living = [one for one, (*_, here) in zip(some, went, strict=False) if here]
    told = groups.find(away, living, NOW, RULES)
    dice.shuffle(away)
    dice.shuffle(living)

    assert groups.find(away, living, NOW, RULES) == told
    members = [name for group in told for name in group.sites]
    assert len(members) == len(set(members))
    assert set(members) <= {one.site.id for one in away if one.site.registered}
    assert all(len(group.sites) >= RULES.min_sites for group in told)
    assert all(
        groups.shares(one.site, group.dimension)
        for group in told
        for one in away
        if one.site.id in group.sites
    )


def test_a_late_one_joins_if_it_went_with_a_member() -> None:
    late = Gone(site("late", "biznet", "q"), 980.0, None)

    assert groups.joins(late, "isp biznet", [900.0, 925.0], set(), RULES)
    assert groups.joins(late, "isp biznet", [1020.0], set(), RULES)
    assert not groups.joins(late, "isp biznet", [900.0, 915.0, 1045.0], set(), RULES)
    assert not groups.joins(late, "isp telkom", [925.0], set(), RULES)
    assert groups.joins(late, "everything", [925.0], set(), RULES)


def test_a_former_member_that_goes_again_joins_whenever_that_is() -> None:
    again = Gone(site("again", "biznet", "q"), 5000.0, None)

    assert groups.joins(again, "isp biznet", [900.0], {"again"}, RULES)


def test_a_stranger_never_joins() -> None:
    stranger = Gone(site("u", UNREGISTERED, UNREGISTERED), 900.0, None)

    assert not groups.joins(stranger, "everything", [900.0], {"u"}, RULES)


def test_few_are_away_when_half_of_the_members_are_back() -> None:
    assert [groups.few(away, 5) for away in (5, 3, 2, 0)] == [False, False, True, True]
    assert [groups.few(away, 4) for away in (3, 2)] == [False, True]


def test_a_group_ends_with_its_last_member_or_when_few_were_away_for_the_window() -> None:
    assert groups.ended(0, 900.0, 900.0, RULES)
    assert [groups.ended(2, 900.0, now, RULES) for now in (959.0, 960.0)] == [False, True]


def test_a_site_went_at_the_first_sign_of_it() -> None:
    assert groups.went_at(900.0, 60.0, None) == 960.0
    assert groups.went_at(900.0, 60.0, 920.0) == 920.0
    assert groups.went_at(900.0, 60.0, 975.0) == 960.0


def held(went: list[Gone], living: list[Site], now: float = NOW) -> set[str]:
    return groups.waiting(went, living, now, RULES)


def pending(sites: Iterable[Site], at: float = NOW - 2) -> list[Gone]:
    """Sites that went of late, and are being confirmed."""
    return gone(sites, at, pending=True)


def test_an_alert_waits_only_while_a_group_may_still_come_of_it() -> None:
    one, two, three, four = sites(4, "biznet", "x")
    confirmed = gone([one], NOW - 31)

    assert held(confirmed + pending([two]), [three, four]) == {one.id}
    assert held(confirmed, [two, three, four]) == set()
    assert held(confirmed + gone([two]), [three, four]) == set()
    assert held(confirmed + pending([two]), []) == set()
    assert held(confirmed + pending([site("z", "icon", "y")]), [two, three]) == set()
    assert held(confirmed + pending([two]), [three, four, *sites(9, "biznet", "x")[4:]]) == set()


def test_an_alert_waits_while_only_confirmations_are_missing_for_its_group() -> None:
    lost = sites(4, "biznet", "x")
    others = [*CITY, *sites(4, "biznet", "y")]
    one, two, *_ = gone(lost, NOW - 31)
    pending_since = [some._replace(confirmed_at=None) for some in gone(lost[2:], NOW - 28)]

    assert held([one, two, *pending_since], others) == ids(lost[:2])
    assert held([one, two, *pending_since], others, NOW + 9) == set()
    assert held([one, two], [*others, *lost[2:]]) == set(), "the others came back"


def test_an_alert_does_not_wait_once_nobody_else_goes() -> None:
    one, two, three, four = sites(4, "biznet", "x")
    confirmed = gone([one], NOW - 31)

    assert held(confirmed + pending([two], NOW - 9.9), [three, four]) == {one.id}
    assert held(confirmed + pending([two], NOW - 10), [three, four]) == set()


def test_an_alert_does_not_wait_for_sites_that_cannot_be_in_a_group_with_its_own() -> None:
    one, two, three, four = sites(4, "biznet", "x")

    assert held(gone([one], NOW - 61) + pending([two]), [three, four]) == set()
    long_ago = [Gone(some, 100.0, 140.0) for some in sites(4, "biznet", "y")]
    assert held(gone([one], NOW - 31) + pending([two]) + long_ago, sites(9, "biznet", "z")) == set()


def test_an_alert_does_not_wait_for_the_sites_of_another_ones_group() -> None:
    """A killed agent of one ISP, in the seconds in which another ISP fails in its district."""
    killed = site("lone", "icon", "x")
    failing = pending(sites(20, "biznet", "x"), NOW - 4)

    assert held([*gone([killed], NOW - 30), *failing], sites(20, "icon", "x")) == set()
    assert held([*gone([killed], NOW - 30), *failing[:10]], sites(20, "icon", "x")) == set()
    living = [*sites(20, "biznet", "x")[9:], *sites(10, "icon", "x")]
    assert held([*gone([killed], NOW - 30), *failing[:9]], living) == {"lone"}


def test_an_alert_waits_ten_seconds_at_most() -> None:
    one, two, three, four = sites(4, "biznet", "x")
    went = gone([one], NOW - 31) + pending([two], NOW)

    assert held(went, [three, four], NOW + 8.9) == {one.id}
    assert held(went, [three, four], NOW + 9) == set()


def test_a_few_neighbours_are_no_group_while_a_greater_one_is_being_confirmed() -> None:
    """One site is confirmed by chance when an ISP fails, of whom three share its feeder."""
    lone = Gone(Site("lone", "lone", "p", "icon", power_area="f-1"), 880.0, 910.0)
    biznet = [
        Gone(Site(f"b-{n}", f"b-{n}", f"d-{n}", "biznet", power_area=f"f-{n % 7}"), 900.0, None)
        for n in range(21)
    ]
    living = [
        Site(f"i-{n}", f"i-{n}", f"d-{n}", "icon", power_area=f"f-{n % 7}") for n in range(14)
    ]

    assert groups.find([lone, *biznet], living, 911.0, RULES) == []
    near = [one for one in biznet if one.site.power_area == "f-1"]
    others = [one.site for one in biznet if one not in near]
    told = [one._replace(confirmed_at=910.0) for one in near]
    alone = groups.find([lone, *told], [*living, *others[:14]], 911.0, RULES)
    assert [one.dimension for one in alone] == ["power_area f-1"]

    confirmed = [one._replace(confirmed_at=930.0) for one in biznet]
    assert groups.find([lone, *confirmed[:2], *biznet[2:]], living, 930.0, RULES) == []
    (group,) = groups.find([lone, *confirmed], living, 930.0, RULES)
    assert group.dimension == "isp biznet"
    assert len(group.sites) == 21
