"""From a real cut to a real alert: one story of four sites, and what an operator saw of it.

One link is cut for long, one blinks for 5 s, one agent dies, one device loses its power, all
at the same time. Then all come back. The story is played once; each test asks one question.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pytest

from agent import clock
from agent.wire import iso
from tests.lab.city import Agent, City
from tests.lab.journal import Readings, assert_settles
from tests.lab.observer import Observer, Seen
from tests.lab.pki import Authority
from tests.wait import until

pytestmark = pytest.mark.needs_root

CUT, BLINK, KILLED, POWERLESS = "maesa-0001", "girian-0002", "lembeh-0003", "maesa-0004"
AWAY = (CUT, KILLED, POWERLESS)
KEEPALIVE_S, CONFIRM_S = 2, 10
WILL_BOUND_S = 1.5 * KEEPALIVE_S + 7
"""The broker looks every 6 s for who is silent, and knows whole seconds alone."""
DECISION_BOUND_S = 5.0
RESOLVED_BOUND_S = 5.0
CAUSE_BOUND_S = 15.0
STATE_BOUND_S = 2.0
BLIP_S = 5.0
OTHER_BOOT = "99999999-9999-4999-8999-999999999999"


class Story(NamedTuple):
    """What happened, when, and what was seen. Times are seconds since 1970."""

    observer: Observer
    gone_at: float
    back_at: float
    blink_will_at: float
    readings: dict[str, Readings]
    incidents: list[dict[str, Any]]
    status: dict[str, str]
    report: dict[str, Any]

    def seconds(self, site: str) -> dict[str, float]:
        """What the report charges to a site, from before the cut on."""
        (row,) = [one for one in self.report["rows"] if one["site"] == site]
        return {
            what: 60 * float(row[f"{what}_min"]) for what in ("down", "unmeasured", "numerator")
        }

    def will_at(self, site: str) -> float:
        """When the broker told that a site is gone."""
        said = self.observer.site(site, "presence", since=self.gone_at)
        return next(s.at for s in said if s.body["state"] == "offline")

    def alert(self, site: str, status: str) -> Seen:
        """The first alert of a site that was `firing` or `resolved`; later ones are revisions of
        the same incident."""
        alerts = [s for s in self.observer.alerts(site) if s.body["status"] == status]
        assert len({s.body["id"] for s in alerts}) == 1
        return alerts[0]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Story:
    folder = tmp_path_factory.mktemp("outage")
    # Windows of 1 s: a few bad ones in a row are this story's blink, and no trouble to tell of.
    health = {"offline_confirm_s": CONFIRM_S, "silence_windows": 60, "raise_windows": 600}
    sites = [CUT, BLINK, KILLED, POWERLESS]
    with (
        City(folder / "city", authority, sites, apart=True, health=health) as city,
        Observer(city.broker, city.namespace) as observer,
    ):
        for agent in city.agents.values():
            agent.tables["targets"] = {"domestic": [city.broker.host]}
            agent.start()
        for site in sites:
            until(lambda s=site: observer.live_readings(s), 30, f"a reading of {site}")
        gone_at = time.time()
        for site in (CUT, BLINK, POWERLESS):
            city.agents[site].cut()
        for site in (POWERLESS, KILLED):
            city.agents[site].kill9()
        blink_will_at = _blink(city.agents[BLINK], observer, gone_at)
        for site in AWAY:
            until(lambda s=site: observer.alerts(s), 60, f"the alert of {site}")
        blink_over_at = blink_will_at + CONFIRM_S + 1
        until(lambda: time.time() > blink_over_at, 20, "the time for a false alert")
        back_at = time.time()
        for site in (CUT, POWERLESS):
            city.agents[site].mend()
        city.agents[KILLED].start()
        city.agents[POWERLESS].boot_anew(OTHER_BOOT)
        for site in AWAY:
            until(lambda s=site: len(observer.alerts(s)) > 1, 90, f"the end of {site}'s outage")
        settled = {site: assert_settles(city, observer, one) for site, one in city.agents.items()}
        since = iso(gone_at - 2)
        until_then = iso(time.time())
        report = city.rows(
            *("report", "availability", "--by", "site", "--recompute"),
            *("--from", since, "--to", until_then),
        )
        return Story(
            observer,
            gone_at,
            back_at,
            blink_will_at,
            settled,
            list(city.rows("incidents")),
            city.status(),
            next(iter(report)),
        )


def _blink(agent: Agent, observer: Observer, gone_at: float) -> float:
    """Mend the link 5 s after the cut, or once the will has come; gives its time."""

    def will() -> Seen | None:
        said = observer.site(agent.site, "presence", since=gone_at)
        return next((s for s in said if s.body["state"] == "offline"), None)

    seen = until(will, 20, "the will of the blinking site")
    until(lambda: time.time() >= gone_at + BLIP_S, 2 * BLIP_S, "the end of the blip")
    agent.mend()
    return seen.at


@pytest.mark.parametrize("site", AWAY)
def test_a_site_that_vanishes_is_offline_within_the_bound(story: Story, site: str) -> None:
    firing = story.alert(site, "firing")
    assert story.will_at(site) - story.gone_at <= WILL_BOUND_S
    assert firing.at - story.will_at(site) <= CONFIRM_S + DECISION_BOUND_S
    assert (firing.body["kind"], firing.body["severity"]) == ("site_offline", "critical")
    assert firing.body["sites"] == [site]


@pytest.mark.parametrize("site", AWAY)
def test_nothing_is_called_offline_before_the_confirmation_is_over(story: Story, site: str) -> None:
    assert story.alert(site, "firing").at - story.gone_at >= CONFIRM_S


@pytest.mark.parametrize("site", AWAY)
def test_the_state_topic_follows_within_two_seconds_of_a_decision(story: Story, site: str) -> None:
    for status, state in (("firing", "offline"), ("resolved", "online")):
        decided_at = story.alert(site, status).at
        states = [s for s in story.observer.states(site) if s.body["status"] == state]
        assert any(abs(s.at - decided_at) <= STATE_BOUND_S for s in states)


@pytest.mark.parametrize("site", AWAY)
def test_an_outage_is_resolved_within_five_seconds_of_the_first_live_reading(
    story: Story, site: str
) -> None:
    first_live = story.observer.live_readings(site, since=story.back_at)[0]
    assert story.alert(site, "resolved").at - first_live.at <= RESOLVED_BOUND_S


@pytest.mark.parametrize(
    ("site", "cause"), [(CUT, "link"), (KILLED, "agent"), (POWERLESS, "power")]
)
def test_the_cause_is_told_within_fifteen_seconds_of_the_first_live_reading(
    story: Story, site: str, cause: str
) -> None:
    first_live = story.observer.live_readings(site, since=story.back_at)[0]
    told = [s for s in story.observer.alerts(site) if s.body["cause"]["verdict"] == cause]
    assert told, [s.body["cause"] for s in story.observer.alerts(site)]
    assert told[0].at - first_live.at <= CAUSE_BOUND_S
    assert told[0].body["cause"]["evidence"]


def test_a_blip_of_five_seconds_raises_no_alert_though_the_will_came(story: Story) -> None:
    assert story.blink_will_at - story.gone_at < CONFIRM_S
    assert story.back_at > story.blink_will_at + CONFIRM_S, "the story ended too early to tell"
    assert story.observer.alerts(BLINK) == []
    assert {s.body["status"] for s in story.observer.states(BLINK)} <= {"unknown", "online"}


def test_the_backlog_of_a_cut_link_is_stored_without_a_gap(story: Story) -> None:
    seqs = sorted(seq for _, seq in story.readings[CUT])
    assert seqs == list(range(1, seqs[-1] + 1))
    assert len({stream for stream, _ in story.readings[CUT]}) == 1
    away = [r for r in story.readings[CUT].values() if r["ladder"].get("domestic") == "fail"]
    assert len(away) >= CONFIRM_S, "windows measured while the link was cut"


def test_readings_from_before_a_power_cut_stand_beside_those_after_it(story: Story) -> None:
    boots = {reading["boot"] for reading in story.readings[POWERLESS].values()}
    assert boots == {clock.boot_id(), OTHER_BOOT}
    assert len({stream for stream, _ in story.readings[POWERLESS]}) == 2


def test_the_ledger_holds_each_outage_once_and_ends_with_everyone_online(story: Story) -> None:
    assert sorted(site for i in story.incidents for site in i["sites"]) == sorted(AWAY)
    assert {i["kind"] for i in story.incidents} == {"site_offline"}
    assert all(i["status"] == "resolved" for i in story.incidents)
    assert set(story.status.values()) == {"online"}


def test_the_cut_link_is_charged_from_the_cut_to_the_mend_by_its_own_account(story: Story) -> None:
    away_s = story.back_at - story.gone_at
    assert away_s - 3 <= story.seconds(CUT)["down"] <= away_s + 6


def test_the_power_cut_is_down_though_nobody_measured(story: Story) -> None:
    away_s = story.back_at - story.gone_at
    assert away_s - 3 <= story.seconds(POWERLESS)["down"] <= away_s + 20


def test_the_dead_agent_is_charged_to_nobody(story: Story) -> None:
    charged = story.seconds(KILLED)
    assert charged["down"] == 0
    assert charged["unmeasured"] >= story.back_at - story.gone_at - 3


def test_a_blip_that_was_no_alert_is_still_in_the_figures(story: Story) -> None:
    charged = story.seconds(BLINK)
    assert 2 <= charged["down"] <= story.back_at - story.gone_at - CONFIRM_S + BLIP_S


def test_the_stored_readings_give_the_same_availability_as_the_ledger(story: Story) -> None:
    assert story.report["same_as_ledger"] is True
