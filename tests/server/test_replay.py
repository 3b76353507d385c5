"""Stored readings under other rules, and announced work: pure, with times given."""

from __future__ import annotations

import pytest

from server import maintenance
from server.maintenance import MaintenanceError
from server.model import Kind, Maintenance, Rules, Site
from server.replay import Difference, Heard, replay
from tests.server.made import MINE, SITE, Device


def heard(*ladders: str, start: float = 1060.0) -> list[Heard]:
    """A reading a minute: ``ok``, ``fail`` of world, or ``-`` for none."""
    device, found = Device(), []
    for number, verdict in enumerate(ladders):
        at = start + 60.0 * number
        if verdict != "-":
            reading = device.reading(at, ladder={"domestic": "ok", "world": verdict})
            found.append(Heard(reading, device.stream, at, at))
    return found


BAD_AND_GOOD = heard(*["ok"] * 3, *["fail"] * 4, *["ok"] * 8)


def difference(readings: list[Heard], after: Rules, *absences: tuple[float, float]) -> Difference:
    told = [(*one, "away") for one in absences]
    until = 1900.0
    return Difference(
        SITE,
        replay(SITE, readings, told, Rules(), until),
        replay(SITE, readings, told, after, until),
    )


def test_the_rules_in_force_raise_and_clear_as_they_did_live() -> None:
    outcome = replay(SITE, BAD_AND_GOOD, [], Rules(), 1900.0)

    [one] = outcome.episodes
    assert (one.kind, one.from_at, one.to_at) == (Kind.SITE_DEGRADED, 1360.0, 1720.0)
    assert one.reasons == ("world failing",)
    assert (outcome.degraded_s, outcome.offline_s) == (360.0, 0.0)


def test_stricter_rules_would_have_raised_nothing() -> None:
    found = difference(BAD_AND_GOOD, Rules(raise_windows=5))

    assert found
    assert len(found.cleared) == 1
    assert found.raised == []
    assert found.after.degraded_s == 0.0


def test_rules_that_only_clear_earlier_change_minutes_and_no_incident() -> None:
    found = difference(BAD_AND_GOOD, Rules(clear_windows=2))

    assert (found.raised, found.cleared) == ([], [])
    assert (found.before.degraded_s, found.after.degraded_s) == (360.0, 180.0)


def test_silence_is_replayed_and_what_lasts_has_no_end() -> None:
    found = difference(heard("ok", "ok", "ok"), Rules(silence_windows=60))

    [one] = found.cleared
    assert (one.kind, one.from_at, one.to_at) == (Kind.SITE_OFFLINE, 1330.0, None)
    assert found.before.offline_s == 570.0


def test_our_own_absence_is_no_silence_of_the_site() -> None:
    readings = heard("ok", "ok", *["-"] * 5, *["ok"] * 8)

    assert [one.from_at for one in difference(readings, Rules()).before.episodes] == [1270.0]
    late = difference(readings, Rules(), (1130.0, 1250.0))
    assert [one.from_at for one in late.before.episodes] == [1400.0]
    away = difference(readings, Rules(), (1130.0, 1250.0), (1250.0, 1400.0))
    assert away.before.episodes == []


def test_what_is_the_same_is_no_difference() -> None:
    assert not difference(BAD_AND_GOOD, Rules(temperature_raise_c=90))


def work(**changes: object) -> Maintenance:
    return Maintenance(**{**_WORK, **changes})  # type: ignore[arg-type]  # the caller names fields


_WORK = {"id": "m1", "scope": "isp", "name": "telkom", "from_at": 100.0, "to_at": 200.0}


@pytest.mark.parametrize(
    ("scope", "name"),
    [("site", SITE), ("isp", "telkom"), ("district", "girian"), ("contract", "c-1")],
)
def test_work_concerns_what_it_names(scope: str, name: str) -> None:
    mine = Site(SITE, "Pasar", "girian", "telkom", contract="c-1")
    other = Site("bitung-9", "Pos", "maesa", "icon", contract="c-2")

    assert maintenance.concerns(work(scope=scope, name=name), mine)
    assert not maintenance.concerns(work(scope=scope, name=name), other)


@pytest.mark.parametrize(("at", "stands"), [(99, False), (100, True), (199, True), (200, False)])
def test_work_stands_from_its_beginning_to_just_before_its_end(at: float, stands: bool) -> None:
    assert (maintenance.standing([work()], MINE, at) is not None) is stands


def test_work_that_is_cancelled_stood_until_then() -> None:
    one = maintenance.cancelled(work(), 150.0, "Asia/Makassar")
    assert list(maintenance.within([one], MINE, 0.0, 300.0)) == [(100.0, 150.0, one)]

    before = maintenance.cancelled(work(), 50.0, "Asia/Makassar")
    assert list(maintenance.within([before], MINE, 0.0, 300.0)) == []


@pytest.mark.parametrize(
    ("one", "now", "error"),
    [
        (work(cancelled_at=120.0), 150.0, "m1 is already cancelled"),
        (work(), 200.0, "m1 is over: it was from 1970-01-01 08:01:40 WITA to "),
    ],
)
def test_what_is_over_cannot_be_cancelled(one: Maintenance, now: float, error: str) -> None:
    with pytest.raises(MaintenanceError) as refused:
        maintenance.cancelled(one, now, "Asia/Makassar")

    assert str(refused.value).startswith(error)


@pytest.mark.parametrize(
    ("to_at", "error"),
    [
        (100.0, "--to: is not after --from"),
        (50.0, "--to: is not after --from"),
        (100.0 + 32 * 86_400, "--to: is 32 days after --from; give at most 31"),
    ],
)
def test_a_bad_period_is_refused(to_at: float, error: str) -> None:
    with pytest.raises(MaintenanceError) as refused:
        maintenance.check(work(to_at=to_at))

    assert str(refused.value).startswith(error)
