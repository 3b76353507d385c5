"""Access points: a state each, below the site's; how it is told, kept and listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import payloads
from server.events import Resolved
from server.model import Kind, Maintenance
from tests.server.centre import Centre
from tests.server.made import MINE, SITE, Device, Story
from tests.server.test_cli import configured

STATE = f"state/girian/telkom/{SITE}"
LISTED = replace(MINE, access_points=("ap-1", "ap-2"))


def points(**reachable: bool) -> dict[str, Any]:
    named = {name.replace("_", "-"): {"reachable": up} for name, up in reachable.items()}
    return {"access_points": named}


def told(story: Story) -> dict[str, tuple[object, object]]:
    return {
        str(one["name"]): (one["status"], one["since"])
        for one in payloads.points(LISTED, story.health)
    }


def test_one_is_offline_after_three_windows_and_online_after_five() -> None:
    story = Story()
    story.reads(1000, **points(ap_1=True, ap_2=True))
    for at in (1060, 1120):
        assert story.reads(at, **points(ap_1=False, ap_2=True)) == ()
    assert {name: status for name, (status, _) in told(story).items()} == {
        "ap-1": "online",
        "ap-2": "online",
    }

    story.reads(1180, **points(ap_1=False, ap_2=True))
    assert told(story) == {
        "ap-1": ("offline", "1970-01-01T00:19:40.000Z"),
        "ap-2": ("online", "1970-01-01T00:16:40.000Z"),
    }
    for at in range(1240, 1480, 60):
        story.reads(at, **points(ap_1=True, ap_2=True))
        assert told(story)["ap-1"][0] == "offline"
    story.reads(1480, **points(ap_1=True, ap_2=True))
    assert told(story)["ap-1"] == ("online", "1970-01-01T00:24:40.000Z")


def test_one_that_no_reading_names_is_missing_where_the_registry_lists_it() -> None:
    story = Story()
    story.reads(1000, **points(ap_1=True))

    assert told(story)["ap-2"] == ("missing", None)


def test_one_that_never_answered_is_unknown_until_that_is_confirmed() -> None:
    story = Story()
    story.reads(1000, **points(ap_1=False))
    assert told(story)["ap-1"][0] == "unknown"

    story.reads(1060, **points(ap_1=False))
    story.reads(1120, **points(ap_1=False))
    assert told(story)["ap-1"][0] == "offline"


def test_one_that_is_no_longer_named_is_gone_unless_it_is_listed() -> None:
    story = Story()
    story.reads(1000, **points(ap_1=True, guest=True))
    story.reads(1060, **points(ap_1=True))

    assert told(story).keys() == {"ap-1", "ap-2"}


def test_a_reading_that_measured_none_changes_nothing() -> None:
    story = Story()
    story.reads(1000, **points(ap_1=True))
    before = told(story)

    assert story.reads(1060) == ()
    assert told(story) == before


def test_the_silence_of_its_site_hides_it() -> None:
    story = Story()
    for at in (1000, 1060, 1120):
        story.reads(at, **points(ap_1=False, ap_2=True))
    story.waits(2000)

    assert {status for status, _ in told(story).values()} == {"unknown"}
    assert told(story)["ap-2"][1] == "1970-01-01T00:18:40.000Z"  # the site's last sign of life


@pytest.mark.parametrize(("answers", "status"), [(True, "online"), (False, "offline")])
def test_one_that_was_offline_before_its_site_went_stays_so_until_it_answers(
    answers: bool, status: str
) -> None:
    story = Story()
    for at in (1000, 1060, 1120):
        story.reads(at, **points(ap_1=False))
    story.waits(2000)
    story.reads(2000, **points(ap_1=answers))

    assert told(story)["ap-1"][0] == status


def test_the_state_of_a_site_follows_its_access_points(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, LISTED), Device()
    centre.hears(device.live(1000, **points(ap_1=True, guest=True)))

    assert centre.retained()[STATE]["access_points"] == [
        {
            "name": "ap-1",
            "status": "online",
            "since": "1970-01-01T00:16:40.000Z",
            "expected": True,
        },
        {"name": "ap-2", "status": "missing", "since": None, "expected": True},
        {
            "name": "guest",
            "status": "online",
            "since": "1970-01-01T00:16:40.000Z",
            "expected": False,
        },
    ]
    centre.hears(device.live(1060, **points(ap_1=True, ap_2=True)))
    assert [one["status"] for one in centre.retained()[STATE]["access_points"]] == ["online"] * 2


def test_another_list_in_the_registry_shows_at_once(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, LISTED), Device()
    centre.hears(device.live(1000, **points(ap_1=True)))
    centre.enter(replace(MINE, access_points=("ap-1", "ap-3")), valid_from=1010.0)
    centre.ingest.refresh_registry(1010.0)

    names = [one["name"] for one in centre.retained()[STATE]["access_points"]]
    assert names == ["ap-1", "ap-3"]


def test_they_stand_as_they_stood_after_a_restart(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, LISTED), Device()
    for at in (1000, 1060, 1120):
        centre.hears(device.live(at, **points(ap_1=False, ap_2=True)))
    before = centre.retained()[STATE]["access_points"]
    centre.restart()

    assert centre.standing()[STATE]["access_points"] == before


def test_the_commands_list_them_the_worst_first(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, LISTED), Device()
    for at in (1000, 1060, 1120):
        centre.hears(device.live(at, **points(ap_1=True, guest=False)))
    centre.store.close()
    run = configured(tmp_path)

    rows = run("access-points", "--json").objects
    assert [(row["name"], row["status"]) for row in rows] == [
        ("guest", "offline"),
        ("ap-2", "missing"),
        ("ap-1", "online"),
    ]
    assert {(row["site"], row["district"], row["isp"]) for row in rows} == {
        (SITE, "girian", "telkom")
    }
    assert run("access-points", "--district", "elsewhere", "--json").objects == []
    shown = run("access-points").out.splitlines()
    assert shown[0] == "3 access points: 1 online, 0 unknown, 1 missing, 1 offline"
    assert "not in the registry" in shown[2]

    [one] = run("sites", "show", SITE, "--json").objects
    assert {row["name"]: row["status"] for row in one["access_points"]} == {
        "ap-1": "online",
        "ap-2": "missing",
        "guest": "offline",
    }
    assert "guest: offline since 1970-01-01 08:18:40 WITA (not in the registry)" in (
        run("sites", "show", SITE).out
    )


def test_the_only_one_that_is_taken_out_ends_its_alert_after_ten_windows(tmp_path: Path) -> None:
    centre, device, at = Centre(tmp_path, LISTED), Device(), 1000
    for _ in range(3):
        centre.hears(device.live(at := at + 60, **points(ap_1=False, guest=True)))
    letters = len(centre.store.outbox(0))
    for _ in range(9):
        centre.hears(device.live(at := at + 60))
    assert len(centre.store.outbox(0)) == letters  # nothing that is shown has changed
    assert [one.firing for one in centre.incidents()] == [True]

    centre.hears(device.live(at := at + 60))

    assert [one.resolved_at for one in centre.incidents()] == [at]
    stands = centre.retained()[STATE]
    assert stands["status"] == "online"
    assert [(one["name"], one["status"]) for one in stands["access_points"]] == [
        *(("ap-1", "missing"), ("ap-2", "missing")),
    ]


def test_one_that_was_offline_before_its_site_went_and_was_taken_out_is_gone() -> None:
    story = Story()
    for at in (1000, 1060, 1120):
        story.reads(at, **points(ap_1=False, ap_2=True))
    story.waits(2000)
    for at in range(2000, 2600, 60):
        assert told(story)["ap-1"][0] in ("offline", "unknown")
        story.reads(at)

    assert {status for status, _ in told(story).values()} == {"missing"}
    assert story.health.points == ()


def test_one_of_which_clients_alone_are_told_is_gone_with_its_alert() -> None:
    story = Story()
    for at in (1000, 1060, 1120):
        story.reads(at, **points(ap_1=False))
    for at in range(1180, 1780, 60):
        assert told(story)["ap-1"][0] == "offline"
        story.reads(at, access_points={"ap-1": {"clients": 3}})

    assert (story.status, told(story)["ap-1"][0]) == ("online", "missing")


def test_status_tells_of_announced_work_and_of_flapping(tmp_path: Path) -> None:
    centre, device = Centre(tmp_path, MINE, flap_start_ratio=0.1, flap_stop_ratio=0.05), Device()
    with centre.store.transaction():
        centre.store.put_maintenance(Maintenance("m1", "isp", "telkom", 0.0, 4e9))
    for at in (1000, 2000, 3000, 4000):
        centre.hears(device.live(at))
        centre.waits(at + 500)
    centre.store.close()
    run = configured(tmp_path)

    [row] = run("status", "--json").objects[0]["sites"]
    assert (row["flapping"], row["maintenance"]) == (True, True)
    assert "announced work, flapping" in run("status").out


def test_one_that_is_taken_out_while_it_is_away_ends_its_alert() -> None:
    story = Story()
    for at in (1000, 1060, 1120):
        story.reads(at, **points(ap_1=False, guest=True))
    assert story.status == "degraded"

    assert story.reads(1180) == ()  # a window that did not look says nothing
    events = story.reads(1240, **points(guest=True))

    assert Resolved(Kind.ACCESS_POINT_OFFLINE, 1240) in events
    assert (story.status, story.health.troubles) == ("online", ())
