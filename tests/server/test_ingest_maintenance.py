"""Announced work on a running ingest: who is silent, and who is told of afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from server.model import Kind, Maintenance, Site
from tests.server.centre import Centre
from tests.server.made import MINE, SITE, Device, identity, presence, says

WORK = Maintenance("m1", "isp", "telkom", 2000.0, 5000.0)
STATE = f"state/girian/telkom/{SITE}"


def announced(centre: Centre, work: Maintenance = WORK, at: float = 0.0) -> None:
    """As ``pantau maintenance add`` does, and a running ingest that follows."""
    with centre.store.transaction():
        centre.store.put_maintenance(work)
    centre.ingest.refresh_registry(at)


def alerts(centre: Centre) -> list[str]:
    """The kinds of the alerts that stand, which is also what a new connection would publish."""
    found = [body["kind"] for topic, body in centre.retained().items() if "alerts/" in topic]
    firing = [
        body["kind"]
        for topic, body in centre.retained().items()
        if "alerts/" in topic and body["status"] == "firing"
    ]
    again = [body["kind"] for topic, body in centre.standing().items() if "alerts/" in topic]
    assert sorted(again) == sorted(firing)
    return found


def covered(centre: Centre) -> list[tuple[str, bool]]:
    """The kinds of the alerts that stand, each with whether announced work covers it."""
    found = [body for topic, body in centre.retained().items() if "alerts/" in topic]
    return [(body["kind"], body["maintenance"]) for body in found]


def published(centre: Centre) -> int:
    """How many letters there have been on topics of alerts."""
    return sum("alerts/" in letter.topic for letter in centre.store.outbox(0))


def passes(centre: Centre, now: float) -> None:
    """What the service does each quarter of a second."""
    centre.ingest.refresh_registry(now)
    centre.waits(now)


def test_a_site_that_goes_and_returns_during_the_work_is_in_the_ledger_alone(
    tmp_path: Path,
) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    announced(centre)
    centre.hears(device.live(1990.0))
    passes(centre, 2000.0)
    assert centre.retained()[STATE]["maintenance"] is True
    passes(centre, 2200.0)
    assert centre.retained()[STATE]["status"] == "offline"

    centre.hears(device.live(2500.0))
    centre.hears(device.live(4990.0))
    passes(centre, 5000.0)

    assert published(centre) == 0
    [incident] = [
        one
        for one in centre.incidents()
        if one.kind is Kind.SITE_OFFLINE and one.resolved_at == 2500.0
    ]
    assert incident.maintenance


def test_what_outlasts_the_work_is_told_when_it_ends(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    announced(centre)
    passes(centre, 2000.0)
    centre.hears(device.live(2100.0))
    passes(centre, 2500.0)
    passes(centre, 4999.0)
    assert published(centre) == 0
    assert alerts(centre) == []

    passes(centre, 5000.0)
    passes(centre, 5001.0)

    assert alerts(centre) == [Kind.SITE_OFFLINE]
    assert centre.retained()[STATE]["maintenance"] is False
    [incident] = centre.incidents()
    why = [one.why for _, one in centre.store.revisions(incident.id)]
    assert why[1] == "announced work is over, and it still lasts"
    assert (incident.opened_at, incident.maintenance) == (2100.0, False)

    centre.hears(device.live(5100.0))
    assert centre.incidents()[0].resolved_at == 5100.0


def test_work_that_is_cancelled_ends_at_once(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    announced(centre)
    centre.hears(device.live(2100.0))
    passes(centre, 2500.0)

    announced(centre, replace(WORK, cancelled_at=2600.0), at=2600.0)
    passes(centre, 2601.0)

    assert alerts(centre) == [Kind.SITE_OFFLINE]


def test_an_alert_that_stands_when_the_work_begins_says_so_and_is_told_to_its_end(
    tmp_path: Path,
) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    centre.hears(device.live(1000.0))
    passes(centre, 1200.0)
    assert alerts(centre) == [Kind.SITE_OFFLINE]

    announced(centre, at=1200.0)
    assert alerts(centre) == [Kind.SITE_OFFLINE]
    passes(centre, 2000.0)

    [incident] = centre.incidents()
    assert incident.why == "announced work goes on: m1"
    [said] = [payload for topic, payload in centre.retained().items() if "alerts/" in topic]
    assert (said["status"], said["maintenance"]) == ("firing", True)

    centre.hears(device.live(2050.0))
    [said] = [payload for topic, payload in centre.retained().items() if "alerts/" in topic]
    assert said["status"] == "resolved"


def test_work_is_followed_also_when_ingest_was_away_at_its_begin_or_its_end(
    tmp_path: Path,
) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    announced(centre)
    centre.hears(device.live(1000.0))
    passes(centre, 1200.0)
    centre.restart()

    centre.ingest.refresh_registry(3000.0)
    assert covered(centre) == [(Kind.SITE_OFFLINE, True)]
    assert centre.standing()[STATE]["maintenance"] is True

    centre.restart()
    passes(centre, 6000.0)
    passes(centre, 6001.0)
    assert covered(centre) == [(Kind.SITE_OFFLINE, False)]
    assert centre.standing()[STATE]["maintenance"] is False


def test_work_elsewhere_silences_nobody(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    announced(centre, replace(WORK, name="biznet"))
    centre.hears(device.live(2100.0))

    passes(centre, 2500.0)

    assert alerts(centre) == [Kind.SITE_OFFLINE]
    assert centre.retained()[STATE]["maintenance"] is False


TOWN = tuple(Site(f"aa-{n}", f"aa-{n}", "girian", "telkom") for n in range(4))


def gone(centre: Centre, from_at: float) -> None:
    """All of the town were there, and go."""
    passes(centre, from_at)
    for site in TOWN:
        device = Device(site=site.id, stream=identity(site.id))
        session = says(presence("online", site.id, site=site.id), from_at)
        centre.hears(session, device.live(from_at))
    wills = [
        says(presence("offline", one.id, reason="lost", site=one.id), from_at + 1) for one in TOWN
    ]
    centre.hears(*wills)
    for second in range(31, 60):
        passes(centre, from_at + second)


def test_sites_that_go_during_the_work_make_no_group(tmp_path: Path) -> None:
    centre = Centre(tmp_path, *TOWN)
    announced(centre)

    gone(centre, 2100.0)

    assert published(centre) == 0
    assert [one.kind for one in centre.incidents()] == [Kind.SITE_OFFLINE] * 4


def test_sites_that_went_together_and_outlast_the_work_are_one_alert_then(tmp_path: Path) -> None:
    centre = Centre(tmp_path, *TOWN)
    announced(centre)
    gone(centre, 2100.0)
    passes(centre, 5000.0)
    centre.restart()

    passes(centre, 5001.0)
    passes(centre, 5003.0)

    assert alerts(centre) == [Kind.GROUP_OUTAGE]


def test_a_group_says_so_while_work_covers_all_of_its_sites(tmp_path: Path) -> None:
    centre = Centre(tmp_path, *TOWN)
    gone(centre, 1000.0)
    assert alerts(centre) == [Kind.GROUP_OUTAGE]

    announced(centre, Maintenance("m1", "site", "aa-0", 1100.0, 9000.0), at=1100.0)
    assert covered(centre) == [(Kind.GROUP_OUTAGE, False)]
    announced(centre, replace(WORK, id="m2"), at=1100.0)
    passes(centre, 2000.0)
    assert covered(centre) == [(Kind.GROUP_OUTAGE, True)]

    passes(centre, 5000.0)
    assert covered(centre) == [(Kind.GROUP_OUTAGE, False)]
