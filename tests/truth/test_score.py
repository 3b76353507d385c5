"""The judge finds nothing in a faultless run, and each deliberate fault in a spoilt one."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bench.truth import books
from bench.truth.ending import Heard
from bench.truth.score import availability, percentile, table
from bench.truth.truth import unseen
from tests.truth.recorded import RUN_S, T0, Recorded, faultless


def _availability(run: Recorded) -> dict[str, float]:
    return availability(run.expected, run.down_s, 0.0, RUN_S)


def test_a_faultless_run_is_found_faultless() -> None:
    run = faultless()
    found = run.score()
    assert (found.faults, found.cause_wrong) == ([], [])
    assert found.cause_right_ratio == 1
    assert set(found.group_precision) == set(found.group_recall) == {1.0}
    assert run.books() == []
    assert not any(_availability(run).values())
    assert {s for samples in found.detection_s.values() for s in samples} == {40.5}
    assert "missed 0, false 0, late 0" in table(found)


def test_acknowledged_before_the_commit_and_killed_is_a_loss() -> None:
    """What was acknowledged is never sent again: the last batch of some sites is gone."""
    run = faultless()
    for name in [n for n in run.kept if n[2] in (30, 31) and n[0] < "sim-0020"]:
        del run.kept[name]
    assert any("38 readings lost" in line for line in run.books())


def test_a_seq_used_again_is_seen() -> None:
    run = faultless()
    run.made["sim-0001", "stream-sim-0001", 60] += 1
    assert any("made twice under one name" in line for line in run.books())


def test_a_late_will_of_an_older_session_is_a_false_outage() -> None:
    """Who ignores sessions takes a site for lost that is long back."""
    run = faultless()
    one = next(e for e in run.expected if e.what == "cable_cut" and not e.incident)
    alert = copy.deepcopy(next(i for i in run.ledger if i["kind"] == "site_offline"))
    alert |= {"id": "late-will", "sites": list(one.sites)}
    run.ledger.append(alert)
    run.heard.append(Heard(T0 + 100, alert))
    assert [line for line in run.score().false if "late-will" in line]


@pytest.mark.parametrize(
    ("calm", "after_s", "late"), [(False, 40.0, True), (False, 70.0, False), (True, 40.0, False)]
)
def test_told_after_its_end_is_late_where_the_centre_was_broken_and_else_false(
    calm: bool, after_s: float, late: bool
) -> None:
    run = faultless()
    at, one = next(
        (n, e) for n, e in enumerate(run.expected) if e.incident == "site_offline" and e.to_s
    )
    assert one.to_s is not None
    run.expected[at] = replace(one, calm=calm, sure=calm)
    (mine,) = (i for i in run.ledger if i["id"] == f"a-{one.event}")
    mine["detected_at"] = _iso(T0 + one.to_s + after_s)
    run.heard = [h for h in run.heard if h.alert["id"] != mine["id"]]
    found = run.score()
    named = [line for line in found.late if mine["id"] in line]
    assert (len(named), any(mine["id"] in line for line in found.false)) == (late, not late)


def test_an_alert_for_a_blip_is_false() -> None:
    run = faultless()
    one = next(e for e in run.expected if e.incident is None and e.what != "clock_wrong")
    began, _ = run.played[one.event]
    incident = {"id": "blip", "kind": "site_offline", "sites": list(one.sites)}
    run.ledger.append(run.ledger[0] | incident | {"detected_at": _iso(began + 5)})
    assert [line for line in run.score().false if "blip" in line]


def test_our_own_absence_charged_to_the_sites_is_an_error_in_minutes() -> None:
    run = faultless()
    run.down_s = {site: down + 45.0 for site, down in run.down_s.items()}
    assert set(_availability(run).values()) == {45.0}


def test_one_reading_dropped_in_ten_thousand_is_seen() -> None:
    run = faultless()
    assert sum(run.kept.values()) == 12_000
    del run.kept["sim-0100", "stream-sim-0100", 17]
    assert books.readings(run.made, run.kept, set()) == [
        "1 readings lost, such as ('sim-0100', 'stream-sim-0100', 17)"
    ]


def test_link_for_every_cause_is_seen_for_each_other_cause() -> None:
    run = faultless()
    for incident in run.ledger:
        incident["cause"] = {"verdict": "link"}
    found = run.score()
    assert found.cause_right_ratio is not None
    assert found.cause_right_ratio < 0.95
    for true in ("power", "agent", "isp", "access_point"):
        assert found.causes[true] == {"link": sum(found.causes[true].values())}


def test_unknown_is_wrong_where_evidence_remains_and_only_there() -> None:
    run = faultless()
    for incident in run.ledger:
        incident["cause"] = {"verdict": "unknown"}
    judged = [e for e in run.expected if e.cause_judged]
    assert any(not e.evidence for e in judged)
    assert len(run.score().cause_wrong) == sum(e.evidence for e in judged)


def test_an_outage_that_nobody_told_is_missed() -> None:
    run = faultless()
    gone = run.ledger.pop(0)
    assert len(run.score().missed) == 1
    run.heard = [h for h in run.heard if h.alert["id"] != gone["id"]]
    assert len(run.score().missed) == 1


def test_an_event_that_was_never_played_is_said() -> None:
    run = faultless()
    del run.played["e0001"]
    assert run.score().not_played == ["e0001"]


def test_a_group_that_took_half_its_sites_and_a_stranger_is_measured() -> None:
    run = faultless()
    group = next(i for i in run.ledger if i["kind"] == "group_outage")
    true = len(group["sites"])
    group["sites"] = group["sites"][: true // 2]
    assert min(run.score().group_recall) == pytest.approx((true // 2) / true)
    group["sites"] = [*group["sites"], *(f"stranger-{n}" for n in range(true // 2))]
    assert min(run.score().group_precision) == pytest.approx(0.5)


def test_an_alert_that_the_ledger_does_not_have_is_seen() -> None:
    run = faultless()
    run.heard.append(Heard(T0, run.heard[0].alert | {"revision": 9}))
    run.heard.append(Heard(T0, run.heard[0].alert | {"id": "phantom"}))
    run.heard.append(Heard(T0, run.heard[0].alert | {"kind": "agent_problem"}))
    said = "\n".join(run.books())
    assert "the ledger ends before it" in said
    assert "phantom was published and is not in the ledger" in said
    assert "2 different contents" in said


def test_a_final_state_unlike_that_without_chaos_is_named() -> None:
    one = {"sites": [{"site": "a", "status": "online"}, {"site": "b", "status": "offline"}]}
    other = {"sites": [{"site": "a", "status": "online"}, {"site": "b", "status": "online"}]}
    assert books.unlike(one, other) == ["b is offline with chaos and online without"]


def test_percentiles_are_samples() -> None:
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95.0


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def test_only_what_was_hidden_by_our_absence_and_told_by_nobody_is_charged_to_nobody() -> None:
    run = faultless()
    lost = next(one for one in run.expected if one.what == "power_off" and one.down)
    assert unseen([lost], {lost.event}) == [], "we were there: not charging it is an error"
    hidden = replace(lost, sure=False)
    assert unseen([hidden], set()) == [], "it was told, and has to be charged"
    assert unseen([hidden], {lost.event}) == [hidden]
    cut = replace(hidden, what="cable_cut")
    assert unseen([cut], {cut.event}) == [], "its readings come from the spool"
