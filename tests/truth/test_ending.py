"""The judge sees what was told for too long, too briefly or too often, in a spoilt record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bench.truth.ending import Heard, over_by, patience_s, seconds
from bench.truth.run import Outcome
from bench.truth.truth import Expected
from tests.truth.recorded import RUN_S, SETTLE_S, T0, WINDOW_S, Recorded, faultless

ENDS = T0 + RUN_S + SETTLE_S
OUTAGE_S = 60.0 + 2.5 * WINDOW_S


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _outcome(run: Recorded) -> Outcome:
    return Outcome(run.score(), None, run.books(), 0, [], {}, run.played)


def _first(run: Recorded, incident: str) -> tuple[Expected, dict[str, Any]]:
    """An event that ends early enough to be judged, and what came of it."""
    one = next(
        e for e in run.expected if e.incident == incident and e.to_s and e.to_s < RUN_S - 300
    )
    return one, next(i for i in run.ledger if i["id"] == f"a-{one.event}")


def _never_resolved(run: Recorded, incident: dict[str, Any]) -> None:
    incident |= {"status": "firing", "revision": 1, "resolved_at": None}
    run.heard = [
        h for h in run.heard if (h.alert["id"], h.alert["revision"]) != (incident["id"], 2)
    ]


def _also(run: Recorded, at: float, incident: dict[str, Any], **other: object) -> None:
    run.ledger.append(incident | other)
    run.heard.append(Heard(at, incident | other))


def test_nothing_ever_resolved_is_found_for_each_event_that_ended() -> None:
    run = faultless()
    for incident in run.ledger:
        _never_resolved(run, incident)
    found = run.score()
    ended = [
        e
        for e in run.expected
        if e.incident and e.to_s and e.to_s + patience_s(e.incident, WINDOW_S) < RUN_S + SETTLE_S
    ]
    assert len(ended) > 20
    assert len(found.unresolved) == len(ended)
    assert (found.missed, found.false, found.early) == ([], [], [])
    assert _outcome(run).faults


@pytest.mark.parametrize("kind", ["site_offline", "group_outage", "site_degraded"])
def test_what_lasts_on_is_unresolved_once_its_kind_had_its_time(kind: str) -> None:
    run = faultless()
    one, incident = _first(run, kind)
    _never_resolved(run, incident)
    began, _ = run.played[one.event]
    patience = patience_s(kind, WINDOW_S)
    for left_s, faults in ((-1.0, 0), (1.0, 1)):
        run.played[one.event] = began, ENDS - patience - left_s
        assert len(run.score().unresolved) == faults


def test_troubles_have_six_windows_and_outages_the_next_connection() -> None:
    assert patience_s("site_offline", 60.0) == patience_s("group_outage", 60.0) == 210.0
    assert patience_s("site_degraded", 60.0) == patience_s("access_point_offline", 60.0) == 375.0


def test_a_broken_centre_and_another_event_at_the_site_give_the_time_anew() -> None:
    run = faultless()
    one, incident = _first(run, "site_offline")
    _never_resolved(run, incident)
    assert len(run.score().unresolved) == 1
    _, ended = run.played[one.event]
    assert ended is not None
    run.absences = [(ended + 50.0, ended + 55.0), (ended + 150.0, ENDS - OUTAGE_S)]
    assert len(run.score().unresolved) == 0
    run.absences = [(ended + OUTAGE_S + 1.0, ENDS)]
    assert len(run.score().unresolved) == 1, "it was over-due before"
    run.absences = []
    run.expected.append(
        Expected("again", "cable_cut", None, one.sites, 0.0, 0.0, "link", False, True, False)
    )
    run.played["again"] = ended + 20.0, ENDS - OUTAGE_S
    assert len(run.score().unresolved) == 0
    assert over_by(100.0, 50.0, [(0.0, 90.0), (155.0, 160.0)]) == 230.0


def test_resolved_in_the_ledger_alone_is_unresolved_for_the_operator() -> None:
    run = faultless()
    _, incident = _first(run, "site_offline")
    run.heard = [
        h for h in run.heard if (h.alert["id"], h.alert["revision"]) != (incident["id"], 2)
    ]
    (line,) = run.score().unresolved
    assert incident["id"] in line
    assert "nobody was told" in line


def test_everything_resolved_as_soon_as_it_is_told_is_found_for_each_event() -> None:
    run = faultless()
    for incident in run.ledger:
        incident["resolved_at"] = incident["detected_at"]
    found = run.score()
    assert len(found.early) == sum(bool(e.incident) for e in run.expected)
    assert any("never ended" in line for line in found.early)
    assert (found.missed, found.false) == ([], [])
    assert _outcome(run).faults


def test_every_outage_told_twice_is_found() -> None:
    run = faultless()
    mine = [i for i in run.ledger if i["kind"] == "site_offline"]
    for incident in mine:
        _also(run, seconds(incident["detected_at"]), incident, id=f"{incident['id']}-again")
    found = run.score()
    assert len(found.repeated) == len(mine) > 10
    assert (found.missed, found.false) == ([], [])
    assert _outcome(run).faults


def test_a_second_group_for_one_event_is_found_unless_the_centre_was_broken() -> None:
    run = faultless()
    one, group = _first(run, "group_outage")
    _also(run, seconds(group["detected_at"]), group, id="second", sites=group["sites"][:3])
    (line,) = run.score().repeated
    assert "second" in line
    began, ended = run.played[one.event]
    run.absences = [(began + 1.0, began + 2.0)]
    assert run.score().repeated == []
    assert ended is not None
    run.absences = [(ended + 20.0, ended + 21.0)]
    assert len(run.score().repeated) == 1


def test_a_site_is_told_once_whatever_becomes_of_the_centre() -> None:
    run = faultless()
    one, incident = _first(run, "site_offline")
    began, _ = run.played[one.event]
    run.absences = [(began + 1.0, began + 2.0)]
    _also(run, seconds(incident["detected_at"]), incident, id="again")
    assert len(run.score().repeated) == 1


def test_one_that_was_told_late_has_to_end_and_to_be_the_only_one_as_well() -> None:
    run = faultless()
    one, incident = _first(run, "site_offline")
    run.expected[run.expected.index(one)] = replace(one, calm=False)
    _, ended = run.played[one.event]
    assert ended is not None
    late = {"id": "late", "detected_at": _iso(ended + 40), "status": "firing", "resolved_at": None}
    _also(run, ended + 41, incident, **late)
    found = run.score()
    assert (len(found.late), len(found.repeated), len(found.unresolved)) == (1, 1, 1)


def test_members_of_a_group_that_are_told_alone_too_are_found() -> None:
    run = faultless()
    groups = [i for i in run.ledger if i["kind"] == "group_outage"]
    for group in groups:
        for site in group["sites"]:
            alone = {"id": f"{group['id']}-{site}", "kind": "site_offline", "sites": [site]}
            _also(run, seconds(group["detected_at"]) + 1, group, **alone, group=None)
    assert len(run.score().repeated) == sum(len(group["sites"]) for group in groups)
    assert _outcome(run).faults


@pytest.mark.parametrize(("handed_over", "away_longer"), [(True, False), (False, True)])
def test_a_member_may_be_told_before_its_group_and_after_it(
    handed_over: bool, away_longer: bool
) -> None:
    run = faultless()
    one, group = _first(run, "group_outage")
    began, ended = run.played[one.event]
    assert ended is not None
    alone = group | {"id": "alone", "kind": "site_offline", "sites": [group["sites"][0]]}
    run.heard.append(Heard(ended + 70 if away_longer else began + 35, alone | {"group": None}))
    if handed_over:
        assert len(run.score().repeated) == 1
        run.heard.append(Heard(began + 40, alone | {"group": group["id"]}))
    run.ledger.append(alone | {"group": group["id"]})
    assert run.score().repeated == []


def test_what_is_of_another_kind_than_the_event_brings_is_false() -> None:
    run = faultless()
    _, incident = _first(run, "site_offline")
    _also(run, seconds(incident["detected_at"]), incident, id="degraded", kind="site_degraded")
    (line,) = run.score().false
    assert "degraded" in line


def test_a_run_in_which_no_event_was_played_has_failed() -> None:
    run = faultless()
    assert _outcome(run).faults == []
    run.played, run.heard, run.ledger = {}, [], []
    assert len(_outcome(run).faults) == len(run.expected)
