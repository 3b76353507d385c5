"""The story and its judge, with alerts and times made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from agent import wire
from server.demo import MIN_STORY_S
from server.demo.house import CONFIRM_S, KEEPALIVE_S, WINDOW_S
from server.demo.picture import Picture
from server.demo.report import Ledger, Name, Verdict, compare, digest
from server.demo.story import DEGRADED, OFFLINE, Beat, Outcome, judge, write
from server.fleet.story import EVENTS
from server.model import Site, Status

BEGAN_AT = 1_800_000_000.0
STORY_S = 60.0
DISTRICTS = ("aertembaga", "girian", "maesa", "matuari")
ISPS = ("telkom", "biznet", "telkom")
SITES = [
    Site(f"site-{n:02d}", f"Place {n}", DISTRICTS[n % 4], ISPS[n % 3], timezone="Asia/Makassar")
    for n in range(24)
]
OWN = Site("this-machine", "This machine", "maesa", "local")


def story() -> dict[str, Beat]:
    return {beat.name: beat for beat in write(SITES, STORY_S)}


def picture() -> Picture:
    return Picture([*SITES, OWN], watched=OWN.id)


def tell(city: Picture, after_s: float, kind: str, site: str, status: str, **more: Any) -> None:
    """One alert message about one site, so long after the story's begin."""
    alert = {
        "v": 1,
        "id": f"{kind}-{site}",
        "revision": 1 if status == "firing" else 2,
        "status": status,
        "kind": kind,
        "severity": "critical",
        "title": f"{site} has something",
        "district": "maesa",
        "isp": "telkom",
        "sites": [site],
        "cause": {"verdict": "unknown", "confidence": 0.0, "evidence": []},
    }
    topic = wire.alert_topic("maesa", "telkom", str(alert["id"]))
    city.hear(BEGAN_AT + after_s, topic, json.dumps(alert | more).encode())


def outcomes(city: Picture) -> dict[str, Outcome]:
    return {one.beat.name: one for one in judge(story().values(), city, began_at=BEGAN_AT)[0]}


def surprises(city: Picture) -> list[str]:
    return judge(story().values(), city, began_at=BEGAN_AT)[1]


def cause(verdict: str) -> dict[str, object]:
    return {"verdict": verdict, "confidence": 0.9, "evidence": []}


def test_the_story_is_told_in_order_and_within_its_time() -> None:
    times = [beat.at_s for beat in write(SITES, STORY_S)]
    assert times == sorted(times)
    assert times[-1] < STORY_S * 0.75


def test_each_fault_has_sites_of_its_own() -> None:
    beats = story()
    faults = [beats[name].sites for name in ("lossy", "blip", "restart", "isp_cut", "power_cut")]
    hit = [site for sites in faults for site in sites]
    assert len(hit) == len(set(hit))


def test_what_breaks_is_mended_on_the_same_sites() -> None:
    beats = story()
    for broken, mended in (
        ("lossy", "healed"),
        ("blip", "blip_over"),
        ("restart", "restarted"),
        ("isp_cut", "isp_back"),
        ("power_cut", "power_back"),
    ):
        begin, end = beats[broken], beats[mended]
        assert begin.event is end.event is not None
        assert (begin.edge, end.edge) == ("begin", "end")
        assert begin.sites == end.sites == begin.event.sites
        assert begin.event.what in EVENTS
        assert begin.at_s < end.at_s


def test_what_must_be_told_lasts_longer_than_telling_it_takes_also_in_the_shortest_story() -> None:
    beats = {beat.name: beat for beat in write(SITES, MIN_STORY_S)}
    given_up_s, confirmed_s, first_s = 1.5 * KEEPALIVE_S, CONFIRM_S, 3 * WINDOW_S + 2.0
    for broken, told_s in (
        ("isp_cut", given_up_s + confirmed_s),
        ("power_cut", given_up_s + confirmed_s),
        ("lossy", WINDOW_S + first_s),
    ):
        event = beats[broken].event
        assert event is not None
        assert event.lasts_s is not None
        assert event.lasts_s > told_s + 3.0, broken


def test_one_isp_is_cut_off_in_a_part_of_the_city() -> None:
    by_id = {site.id: site for site in SITES}
    cut = [by_id[site] for site in story()["isp_cut"].sites]
    assert {site.isp for site in cut} == {"telkom"}
    assert 3 <= len(cut) < sum(site.isp == "telkom" for site in SITES)
    assert len({site.district for site in cut}) <= 3


def test_an_expected_alert_for_every_site_meets_the_promise() -> None:
    city, cut = picture(), story()["isp_cut"]
    for number, site in enumerate(cut.sites):
        tell(city, cut.at_s + 4 + number / 10, OFFLINE, site, "firing")
    seen = outcomes(city)["isp_cut"]
    assert seen.met
    assert seen.after_s[0] == 4.0
    assert len(seen.after_s) == len(cut.sites)
    assert surprises(city) == []


def test_a_missing_alert_of_one_site_breaks_the_promise() -> None:
    city, cut = picture(), story()["isp_cut"]
    for site in cut.sites[1:]:
        tell(city, cut.at_s + 4, OFFLINE, site, "firing")
    assert not outcomes(city)["isp_cut"].met


def test_an_alert_from_before_the_fault_does_not_count() -> None:
    city, lossy = picture(), story()["lossy"]
    tell(city, lossy.at_s - 1, DEGRADED, lossy.sites[0], "firing")
    assert not outcomes(city)["lossy"].met


def test_a_recovery_counts_only_with_its_true_cause() -> None:
    city, back = picture(), story()["power_back"]
    tell(city, back.at_s + 2, OFFLINE, back.sites[0], "resolved")
    tell(city, back.at_s + 3, OFFLINE, back.sites[0], "resolved", revision=3, cause=cause("link"))
    assert not outcomes(city)["power_back"].met
    tell(city, back.at_s + 4, OFFLINE, back.sites[0], "resolved", revision=4, cause=cause("power"))
    assert outcomes(city)["power_back"].after_s == (4.0,)


@pytest.mark.parametrize("name", ["blip", "restart"])
def test_what_is_over_soon_must_stay_without_any_alert(name: str) -> None:
    city, beat = picture(), story()[name]
    assert outcomes(city)[name].met
    tell(city, beat.at_s + 5, OFFLINE, beat.sites[0], "firing")
    assert not outcomes(city)[name].met


def test_an_alert_that_nothing_explains_is_a_surprise() -> None:
    city, lossy = picture(), story()["lossy"]
    tell(city, lossy.at_s + 5, OFFLINE, lossy.sites[0], "firing")
    assert surprises(city) == [f"site_offline of {lossy.sites[0]}: {lossy.sites[0]} has something"]


def test_what_happens_to_the_real_machine_is_no_surprise() -> None:
    city = picture()
    tell(city, 5, DEGRADED, OWN.id, "firing")
    assert surprises(city) == []


def test_an_alert_that_is_published_again_is_heard_once() -> None:
    city = picture()
    for _ in range(2):
        tell(city, 5, OFFLINE, "site-01", "firing")
    assert len(city.alerts) == 1


def test_states_are_counted_and_the_worst_come_first() -> None:
    city = picture()
    for number, status in enumerate(("online", "degraded", "offline", "offline")):
        state = {
            "v": 1,
            "site": f"site-{number:02d}",
            "status": status,
            "since": wire.iso(BEGAN_AT - number),
            "reasons": [],
        }
        city.hear(BEGAN_AT, wire.state_topic("maesa", "telkom", "x"), json.dumps(state).encode())
    assert city.counts() == {
        Status.ONLINE: 1,
        Status.DEGRADED: 1,
        Status.OFFLINE: 2,
        Status.UNKNOWN: 21,
    }
    assert [state.site for state in city.worst()][:3] == ["site-03", "site-02", "site-01"]
    assert {state.status for state in city.worst()[3:]} == {Status.UNKNOWN}


def test_a_message_that_is_no_alert_is_remembered_as_malformed() -> None:
    city = picture()
    city.hear(BEGAN_AT, wire.alert_topic("maesa", "telkom", "x"), b'{"id": 7}')
    city.hear(BEGAN_AT, wire.alert_topic("maesa", "telkom", "x"), b"")
    assert len(city.malformed) == 1
    assert "alerts/maesa/telkom/x" in city.malformed[0]


OLD, NEW = "the stream before the power cut", "the stream after it"
BODIES = {(OLD, 1): b"a", (OLD, 2): b"b", (NEW, 1): b"c", (NEW, 2): b"d"}
"""What a site made: its seqs begin anew with its second stream."""


def ledger(
    rows: list[tuple[str, int, bytes]], released: Mapping[str, int], made: Mapping[Name, bytes]
) -> Ledger:
    """Of one site."""
    journal = {"site-01": {name: digest(body) for name, body in made.items()}}
    return compare(journal, {"site-01": released}.__getitem__, {"site-01": rows}.__getitem__)


def as_stored(made: Mapping[Name, bytes]) -> list[tuple[str, int, bytes]]:
    return [(*name, body) for name, body in made.items()]


def test_the_ledger_is_exact_when_all_is_acknowledged_and_stored_once() -> None:
    exact = ledger(as_stored(BODIES), {OLD: 2, NEW: 2}, BODIES)
    assert exact == Ledger(4, 4, 4, missing=0, doubled=0, altered=0)
    assert exact.exact


def test_the_ledger_counts_what_is_missing_doubled_altered_and_invented() -> None:
    first, second, *_ = as_stored(BODIES)
    invented = ("another stream", 4, b"{}")
    rows = [first, first, (*second[:2], b"{}"), invented]
    found = ledger(rows, {OLD: 2, NEW: 1}, BODIES)
    assert found == Ledger(4, 3, 2, missing=1, doubled=1, altered=2)
    assert not found.exact


def test_what_an_ack_has_not_released_is_not_acknowledged_though_it_is_stored() -> None:
    found = ledger(as_stored(BODIES), {NEW: 2}, BODIES)
    assert found == Ledger(4, 2, 4, missing=0, doubled=0, altered=0)
    assert not found.exact


def test_readings_that_were_made_later_are_left_alone() -> None:
    rows = [*as_stored(BODIES), (NEW, 3, b"e")]
    later = ledger(rows, {OLD: 2, NEW: 3}, BODIES)
    assert later == Ledger(4, 4, 4, missing=0, doubled=0, altered=0)


def test_a_verdict_without_any_promise_kept_names_every_one() -> None:
    city = picture()
    judged, unexpected = judge(story().values(), city, began_at=BEGAN_AT)
    verdict = Verdict(STORY_S, None, city, judged, unexpected, Ledger(2, 1, 1, 0, 0, 0))
    failures = verdict.failures()
    assert failures[0] == "not every simulated site came online"
    assert sum("alerts came" in line for line in failures) == 6
    assert f"no reading of {OWN.id} came, the real agent" in failures
    assert failures[-1].startswith("readings do not agree: {'journalled': 2")
    assert verdict.as_json()["ok"] is False
    assert verdict.headline() == "2 of 8 as promised, 2 readings NOT exact"
