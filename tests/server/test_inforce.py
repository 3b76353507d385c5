"""What is in force at a site at one moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server import rules
from server.inforce import InForce, of_default
from server.model import Contract, Maintenance, Rules, Site

ONE = Site("aa-1", "One", "maesa", "telkom", contract="t-24")
TWO = replace(ONE, id="aa-2", district="girian", contract="")
OLD = Contract("t-24", 0.0, 1000.0, floor_down_mbps=5.0)
NEW = Contract("t-24", 1000.0, floor_down_mbps=20.0, floor_rtt_ms=300.0)


def at(now: float, *works: Maintenance, text: str = "") -> InForce:
    return InForce(rules.parse(text), {"t-24": (OLD, NEW)}, works, now)


def test_the_default_holds_where_nothing_else_does() -> None:
    default = Rules(raise_windows=7)

    assert of_default(default).rules(ONE) == default
    assert at(0.0).rules(TWO) == Rules()


@pytest.mark.parametrize(("now", "floor"), [(999.9, 5.0), (1000.0, 20.0)])
def test_the_floors_are_those_of_the_terms_that_are_valid_now(now: float, floor: float) -> None:
    assert at(now).rules(ONE).floor_down_mbps == floor
    assert at(now).rules(TWO).floor_down_mbps == 0.0


def test_sites_that_share_everything_still_differ_by_a_table_of_their_own() -> None:
    known = at(2000.0, text="[isp.telkom]\nrtt_raise_ms = 400\n[site.aa-1]\nmin_echoes = 3\n")
    third = replace(ONE, id="aa-3")

    assert [known.rules(one).min_echoes for one in (ONE, third, TWO)] == [3, 10, 10]
    assert [known.rules(one).rtt_raise_ms for one in (ONE, third, TWO)] == [400.0] * 3


def test_work_stands_from_its_begin_to_its_end_or_cancellation_at_the_sites_concerned() -> None:
    work = Maintenance("m1", "district", "maesa", 100.0, 200.0)
    shorter = Maintenance("m2", "site", "aa-1", 0.0, 150.0)
    cancelled = replace(work, cancelled_at=120.0)

    def on(now: float, *works: Maintenance, site: Site = ONE) -> str | None:
        found = at(now, *works).work(site)
        return found.id if found else None

    assert [on(now, work) for now in (99.9, 100.0, 199.9, 200.0)] == [None, "m1", "m1", None]
    assert [on(now, cancelled) for now in (119.9, 120.0)] == ["m1", None]
    assert on(140.0, shorter, work) == "m1"
    assert on(140.0, work, site=TWO) is None
