"""Outages that last: what can be known of their cause while the site is away."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server import settle
from server.lasting import FIRST_S, Lasting
from server.model import Cause, Incident, Kind, Site, Witnessed
from server.store.sqlite import Database
from tests.server.centre import Centre
from tests.server.made import MINE, SITE, Device, identity, presence, says

SITES = (MINE, *(Site(f"other-{one}", f"Other {one}", "girian", "telkom") for one in range(3)))


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path, *SITES)
    yield made
    made.store.close()


def outage(centre: Centre, site: str = SITE) -> Incident:
    """The newest revision of the site's one outage."""
    (found,) = (
        one
        for one in centre.store.incidents()
        if one.kind is Kind.SITE_OFFLINE and one.site == site
    )
    return found


def away(centre: Centre) -> Incident:
    """The site is heard once, and then no more, while the others live on."""
    centre.hears(Device().live(1000))
    for one in SITES[1:]:
        device = Device(site=one.id, stream=identity(one.id))
        for at in (1000, 1060, 1120):
            centre.hears(device.live(at))
    centre.waits(1150)
    return outage(centre)


def test_echoes_that_are_answered_say_that_the_line_is_up(centre: Centre) -> None:
    went = away(centre)
    assert went.cause.verdict == "unknown"
    with centre.store.transaction():
        centre.store.put_witnessed([Witnessed(SITE, 900.0, math.inf, True)])
        centre.store.set_witness_at(went.detected_at + 60)
    centre.ingest.refresh_registry(went.detected_at + FIRST_S - 1)
    assert outage(centre) == went

    centre.ingest.refresh_registry(went.detected_at + FIRST_S)

    now = outage(centre)
    assert now.firing
    assert (now.cause.verdict, now.why) == ("agent", "while it lasts: unknown became agent")
    assert "the line was up" in now.cause.evidence[0]
    alert = next(one for topic, one in centre.retained().items() if topic.startswith("alerts/"))
    assert (alert["revision"], alert["cause"]["verdict"]) == (now.revision, "agent")


def test_more_of_the_same_is_no_further_revision(centre: Centre) -> None:
    went = away(centre)
    for looked_at in range(60, 3600, 60):
        with centre.store.transaction():
            centre.store.put_witnessed([Witnessed(SITE, 900.0, math.inf, False)])
            centre.store.set_witness_at(went.detected_at + looked_at)
        centre.ingest.refresh_registry(went.detected_at + looked_at)

    now = outage(centre)
    assert now.revision == went.revision + 1
    assert "were not answered" in now.cause.evidence[0]


def test_an_agent_that_ended_in_order_is_said_to_have(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000), says(presence("online", "one"), 1001))
    centre.hears(says(presence("offline", "one", reason="stopped"), 1010))
    centre.waits(1200)

    assert outage(centre).cause == Cause("agent", 0.95, ("the agent had ended in order: stopped",))


def test_a_session_after_the_orderly_end_takes_that_back(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000), says(presence("online", "one"), 1001))
    centre.hears(says(presence("offline", "one", reason="reboot"), 1010))
    centre.hears(says(presence("online", "two"), 1050))
    centre.waits(9000)

    assert outage(centre).cause.verdict == "unknown"


def test_neighbours_are_those_of_the_site_as_it_was_when_it_went(centre: Centre) -> None:
    went = away(centre)
    moved = replace(MINE, isp="biznet")
    centre.enter(moved, valid_from=2000.0)
    told = settle._beside(went, 60.0, centre.store, centre.store.sites())

    assert [one.dimension for one in told] == ["isp telkom", "district girian"]


def test_who_went_is_found_without_reading_the_outages_themselves(centre: Centre) -> None:
    """After a power cut of a whole city each of its outages is looked at so."""
    assert isinstance(centre.store, Database)
    said: list[str] = []
    centre.store._db.set_trace_callback(said.append)
    away(centre)
    said.clear()
    assert centre.store.went(900.0, 1100.0) == {SITE}
    (plan,) = centre.store._db.execute(f"EXPLAIN QUERY PLAN {said[0]}")

    assert "USING COVERING INDEX incidents_went" in plan[-1]


def test_what_neighbours_let_guess_while_it_lasts_is_charged_to_nobody(centre: Centre) -> None:
    guessed = away(centre).revised(cause=Cause("power", 0.6, ("3 of 4 went",)), why="a guess")
    group = replace(guessed, id="g", kind=Kind.GROUP_OUTAGE, cause=Cause("isp", 0.8))
    covered = replace(guessed.revised(why="covered"), group="g")

    def charged(*revisions: Incident) -> list[str]:
        with centre.store.transaction():
            for one in revisions:
                centre.store.put_incident(one, 2000.0)
        return [row.verdict for row in centre.store.outages(0.0, math.inf)]

    assert charged(guessed) == ["unknown"]
    assert charged(covered, group) == ["isp"]
    assert charged(covered.resolved(2000.0, Cause("power", 0.9))) == ["power"]


def test_an_agent_that_did_not_run_is_charged_to_nobody_by_its_group_also_while_it_lasts(
    centre: Centre,
) -> None:
    ended = Cause("agent", 0.95, ("the agent had ended in order: stopped",))
    one = replace(away(centre).revised(cause=ended, why="covered"), group="g")
    group = replace(one, id="g", kind=Kind.GROUP_OUTAGE, cause=Cause("isp", 0.8), group=None)

    def charged(*revisions: Incident) -> list[str]:
        with centre.store.transaction():
            for revision in revisions:
                centre.store.put_incident(revision, 2000.0)
        return [row.verdict for row in centre.store.outages(0.0, math.inf)]

    assert charged(one, group) == ["agent"]
    assert charged(one.resolved(2000.0, ended)) == ["agent"]


def test_a_site_taken_out_while_it_is_away_is_not_charged_by_a_guess(centre: Centre) -> None:
    guessed = away(centre).revised(cause=Cause("power", 0.6, ("3 of 4 went",)), why="a guess")
    with centre.store.transaction():
        centre.store.put_incident(guessed, 2000.0)
    centre.restart()
    centre.enter(replace(MINE, retired=True))
    for at in range(2100, 2200, 10):
        centre.ingest.refresh_registry(at)

    gone = outage(centre)
    assert (gone.firing, gone.cause.verdict) == (False, "unknown")
    assert gone.cause.evidence == ("3 of 4 went", "taken out of service before it was back")
    assert [row.verdict for row in centre.store.outages(0.0, math.inf)] == ["unknown"]


def test_it_is_asked_ever_more_seldom_and_only_a_few_at_once() -> None:
    lasting = Lasting()
    away_now = [
        Incident(f"i{number}", Kind.SITE_OFFLINE, f"s{number}", "d", "i", "t", 0.0, float(number))
        for number in range(6)
    ]
    asked: dict[str, list[float]] = {}
    for now in range(0, 4000, 10):
        due = lasting.due(away_now, float(now))
        assert len(due) <= 4
        lasting.asked(due, float(now))
        for one in due:
            asked.setdefault(one.id, []).append(float(now))

    assert asked["i0"] == [30.0, 150.0, 300.0, 600.0, 1200.0, 2400.0]
    assert all(len(times) == 6 for times in asked.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"group": "g"},
        {"maintenance": True},
        {"kind": Kind.SITE_DEGRADED},
        {"cause": Cause("agent", 0.95)},
    ],
)
def test_what_has_its_cause_elsewhere_is_not_asked_about(changes: dict[str, object]) -> None:
    one = Incident("i", Kind.SITE_OFFLINE, "s", "d", "i", "t", 0.0, 0.0)

    assert Lasting().due([one], 1000.0) == [one]
    assert Lasting().due([replace(one, **changes)], 1000.0) == []  # type: ignore[arg-type]  # named above
