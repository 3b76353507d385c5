"""From verdicts to what stands at the broker: alerts, states, clearing, silence, absence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent import wire
from server.main import last_alive
from server.model import Kind, Maintenance, Site
from tests.server.centre import RETAIN_S, Centre, home
from tests.server.made import MINE, OTHER, SITE, Device, identity, presence, says

STATE = f"state/girian/telkom/{SITE}"
UNREGISTERED = f"state/-/-/{OTHER}"


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return home(tmp_path)


def alert(centre: Centre, number: int = 0) -> str:
    """Where the alert of an incident stands."""
    one = centre.incidents()[number]
    return f"alerts/{one.district}/{one.isp}/{one.id}"


def test_a_registered_site_that_was_never_heard_from_is_published_as_unknown(
    centre: Centre,
) -> None:
    assert centre.retained() == {
        STATE: {
            "v": 1,
            "site": SITE,
            "status": "unknown",
            "since": None,
            "reasons": [],
            "flapping": False,
            "maintenance": False,
            "cause": None,
            "last_reading_at": None,
            "clients": None,
            "access_points": [],
        }
    }


def test_the_first_reading_publishes_online_with_its_time_and_clients(centre: Centre) -> None:
    centre.hears(Device().live(1000, clients={"source": "nl80211", "associated": 14}))

    state = centre.retained()[STATE]
    assert (state["status"], state["clients"]) == ("online", 14)
    assert state["since"] == state["last_reading_at"] == wire.iso(1000)


def test_silence_publishes_an_alert_and_the_state(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    centre.waits(1149.9)
    assert list(centre.retained()) == [STATE]

    centre.waits(1150)
    retained = centre.retained()
    assert retained[alert(centre)] == {
        "v": 1,
        "id": centre.incidents()[0].id,
        "revision": 1,
        "status": "firing",
        "kind": "site_offline",
        "severity": "critical",
        "title": "Pasar Girian is offline",
        "district": "girian",
        "isp": "telkom",
        "sites": [SITE],
        "site_count": 1,
        "group": None,
        "maintenance": False,
        "reasons": ["no sign of life for 150 s"],
        "cause": {"verdict": "unknown", "confidence": 0.0, "evidence": []},
        "opened_at": wire.iso(1000),
        "detected_at": wire.iso(1150),
        "resolved_at": None,
        "acknowledged": None,
        "disputed": None,
        "ticket": None,
    }
    assert (retained[STATE]["status"], retained[STATE]["since"]) == ("offline", wire.iso(1000))


def test_a_will_is_confirmed_by_the_ticks(centre: Centre) -> None:
    centre.hears(says(presence("online", "one"), 990), Device().live(1000))
    centre.hears(says(presence("offline", "one", reason="lost"), 1010))
    centre.waits(1039)
    assert centre.incidents() == []

    centre.waits(1040)
    assert centre.incidents()[0].reasons == ("connection lost",)


def test_a_site_is_not_judged_while_a_message_of_it_may_be_under_way(centre: Centre) -> None:
    centre.hears(Device().live(1000))

    ticked = centre.ingest.tick(1151, proven_at=1149)
    assert (ticked.unproven, centre.incidents()) == (True, [])
    ticked = centre.ingest.tick(1152, proven_at=1151)
    assert (ticked.unproven, len(centre.incidents())) == (False, 1)


def test_silence_is_measured_by_the_last_stored_window_over_a_restart(centre: Centre) -> None:
    centre.hears(Device(window_s=600.0).live(1000))
    centre.restart()
    centre.waits(2499)
    assert centre.incidents() == []

    centre.waits(2500)
    assert len(centre.incidents()) == 1


def test_a_confirmation_outlives_a_restart(centre: Centre) -> None:
    centre.hears(says(presence("online", "one"), 990), Device().live(1000))
    centre.hears(says(presence("offline", "one", reason="lost"), 1010))
    centre.restart()
    centre.waits(1040)

    assert len(centre.incidents()) == 1


def test_the_first_live_reading_resolves_the_alert_with_its_cause(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    firing = alert(centre)
    device.restart("boot-2", 1390)
    centre.hears(device.live(1400))

    resolved = centre.retained()[firing]
    assert (resolved["status"], resolved["revision"]) == ("resolved", 2)
    assert resolved["resolved_at"] == wire.iso(1400)
    assert resolved["cause"]["verdict"] == "power"
    assert centre.retained()[STATE]["status"] == "online"


def test_a_resolved_alert_is_cleared_after_its_time(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    firing = alert(centre)
    centre.hears(device.live(1400))
    for at in range(1460, 5000, 60):
        centre.hears(device.live(at))

    centre.waits(1400 + RETAIN_S - 1)
    assert firing in centre.retained()
    centre.waits(1400 + RETAIN_S)
    assert firing not in centre.retained()
    assert centre.store.clear_due(1e12) == []


def test_a_resolved_alert_stands_again_at_a_broker_that_lost_its_memory_until_it_is_cleared(
    centre: Centre,
) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    firing = alert(centre)
    centre.hears(device.live(1400))
    centre.restart()

    assert centre.standing()[firing] == centre.retained()[firing]
    assert centre.standing()[firing]["status"] == "resolved"
    centre.waits(1400 + RETAIN_S)
    assert firing not in centre.standing()


def test_every_revision_is_kept(centre: Centre) -> None:
    device = Device()
    world, both = {"ladder": {"world": "fail"}}, {"ladder": {"world": "fail", "dns": "fail"}}
    for n, window in enumerate([world, world, world, both, both, both]):
        centre.hears(device.live(1000 + 60 * n, **window))
    centre.waits(2000)

    [degraded, _] = centre.incidents()
    kept = [revision for _, revision in centre.store.revisions(degraded.id)]
    assert [(one.revision, one.reasons, one.firing) for one in kept] == [
        (1, ("world failing",), True),
        (2, ("world failing", "dns failing"), True),
        (3, ("world failing", "dns failing"), False),
    ]
    assert [one.title for one in kept][:2] == [
        "Pasar Girian is degraded: world failing",
        "Pasar Girian is degraded: world failing, dns failing",
    ]


def test_letters_leave_in_the_order_of_the_decisions(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    centre.hears(device.live(1400))

    told = [wire.plain(letter.payload) for letter in centre.store.outbox(0)]
    order = [b"unknown", b"online", b'"firing"', b"offline", b'"resolved"', b"online"]
    assert [word in text for word, text in zip(order, told, strict=True)] == [True] * 6
    ids = [letter.id for letter in centre.store.outbox(0)]
    assert ids == sorted(ids)


def test_a_letter_stays_until_the_broker_has_it(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    first, second = centre.store.outbox(0)
    centre.ingest.tick(1001, 1001, posted=[first.id])

    assert centre.store.outbox(0) == [second]
    assert centre.ingest.letters(second.id) == []


def test_late_readings_raise_no_alert_and_publish_nothing(centre: Centre) -> None:
    device = Device()
    for n in range(8):
        device.reading(400 + 60 * n, ladder={"world": "fail"})
    centre.hears(device.live(1000))
    before = centre.store.outbox(0)
    centre.hears(device.message(1001, *range(1, 9)))

    assert centre.seqs(SITE) == list(range(1, 10))
    assert (centre.store.outbox(0), centre.incidents()) == (before, [])


def test_an_unregistered_site_is_stored_and_shown_and_raises_no_alert(centre: Centre) -> None:
    centre.hears(Device(site=OTHER).live(1000))
    assert centre.retained()[UNREGISTERED]["status"] == "online"
    centre.waits(1150)

    assert centre.seqs(OTHER) == [1]
    assert centre.retained()[UNREGISTERED]["status"] == "offline"
    assert (centre.incidents(), [t for t in centre.retained() if t.startswith("alerts")]) == (
        [],
        [],
    )


def test_our_own_absence_is_recorded_and_charged_to_nobody(centre: Centre) -> None:
    centre.hears(says(presence("online", "one"), 990), Device().live(1000))
    centre.hears(says(presence("offline", "one", reason="lost"), 1010))
    centre.ingest.absent(1020, 3000, "broker was away")
    centre.waits(3149)
    assert centre.incidents() == []
    assert centre.store.absences() == [(1020, 3000, "broker was away")]

    centre.restart()
    centre.waits(3150)
    assert len(centre.incidents()) == 1


def test_wills_of_all_before_our_connection_breaks_start_nothing_afterwards(
    centre: Centre,
) -> None:
    centre.hears(says(presence("online", "one"), 990), Device().live(1000))
    centre.hears(says(presence("offline", "one", reason="lost"), 1010))
    centre.hears(says(presence("offline", "one", reason="lost"), 1030), caught_up=False)
    centre.ingest.absent(1011, 1031, "broker was away")
    centre.hears(says(presence("offline", "one", reason="lost"), 1032))
    centre.waits(1180)

    assert centre.incidents() == []


def queued(centre: Centre, device: Device, good: int) -> None:
    """Three bad windows and some good ones, read from the queue after our absence."""
    centre.hears(device.live(1000))
    centre.ingest.sees(caught_up=False)
    for n in range(3):
        centre.hears(device.live(1060 + 60 * n, ladder={"world": "fail"}), caught_up=False)
    for n in range(good):
        centre.hears(device.live(1240 + 60 * n), caught_up=False)
    assert [one.told for one in centre.incidents()] == [False]
    centre.ingest.refresh_registry(1600)
    centre.ingest.absent(1030, 1600, "ingest was away")
    centre.ingest.sees(caught_up=True)
    centre.ingest.refresh_registry(1600)


def alerted(centre: Centre) -> list[str]:
    """The status of each letter that there was about an alert."""
    letters = [one.payload for one in centre.store.outbox(0) if "/alerts/" in one.topic]
    return [msgspec.json.decode(one)["status"] for one in letters]


@pytest.mark.parametrize("good", [5, 0])
def test_what_is_found_in_the_queue_is_told_once_we_are_caught_up_and_the_site_shows_it(
    centre: Centre, good: int
) -> None:
    device = Device()
    queued(centre, device, good)
    assert alerted(centre) == []

    centre.hears(device.live(1610, ladder={"world": "ok" if good else "fail"}))
    centre.ingest.refresh_registry(1611)
    centre.ingest.refresh_registry(1612)

    assert alerted(centre) == ([] if good else ["firing"])


def test_what_is_found_in_the_queue_of_a_site_that_has_gone_since_is_told_as_that(
    centre: Centre,
) -> None:
    queued(centre, Device(), 0)
    for now in (1611, 1700, 1751):
        centre.ingest.refresh_registry(now)
        centre.waits(now)

    assert [one["kind"] for one in centre.retained().values() if "kind" in one] == ["site_offline"]
    assert alerted(centre) == ["firing"]


def test_what_outlasts_work_that_ended_in_our_absence_waits_for_the_queue(
    tmp_path: Path,
) -> None:
    centre, device = Centre(tmp_path, MINE), Device()
    with centre.store.transaction():
        centre.store.put_maintenance(Maintenance("m1", "site", SITE, 900.0, 1300.0))
    centre.ingest.refresh_registry(1000)
    for n in range(3):
        centre.hears(device.live(1000 + 60 * n, ladder={"world": "fail"}))
    assert [one.maintenance for one in centre.incidents()] == [True]

    centre.ingest.sees(caught_up=False)
    centre.ingest.refresh_registry(2000)
    for n in range(5):
        centre.hears(device.live(1180 + 60 * n), caught_up=False)

    assert alerted(centre) == []


def test_the_end_of_what_was_told_before_is_told_before_we_are_caught_up(centre: Centre) -> None:
    device = Device()
    for n in range(3):
        centre.hears(device.live(1000 + 60 * n, ladder={"world": "fail"}))
    for n in range(5):
        centre.hears(device.live(1180 + 60 * n), caught_up=False)

    assert centre.retained()[alert(centre)]["status"] == "resolved"


def test_the_sign_of_our_own_life_is_what_was_proven(centre: Centre) -> None:
    centre.ingest.tick(1010, proven_at=1005)
    centre.restart()

    assert last_alive(centre.store, 2000) == 1005


def test_a_first_start_that_ends_before_its_first_tick_was_there(centre: Centre) -> None:
    """So what came after it is an absence of ours, and no silence of a site."""
    assert last_alive(centre.store, 1000) == 1000
    centre.restart()

    assert last_alive(centre.store, 2000) == 1000


def test_what_should_stand_is_what_stands(centre: Centre) -> None:
    """Whatever the broker forgets, the next connection publishes again."""
    mine, other = Device(), Device(site=OTHER)
    centre.hears(mine.live(1000), other.live(1000))
    for n in range(3):
        centre.hears(other.live(1060 + 60 * n, ladder={"world": "fail"}))
    centre.waits(1200)
    retained = centre.retained()
    standing = centre.standing()
    acks = {
        f"sites/{SITE}/acks": {"v": 1, "stream": mine.stream, "through": 1},
        f"sites/{OTHER}/acks": {"v": 1, "stream": other.stream, "through": 4},
    }

    assert len([topic for topic in retained if topic.startswith("alerts")]) == 1
    assert standing == {**retained, **acks}
    centre.restart()
    assert centre.standing() == standing


def test_the_ack_that_stands_is_that_of_the_newest_stream(centre: Centre) -> None:
    old, new = Device(), Device(stream=identity("another"))
    late, found = Device(site=OTHER), Device(stream=identity("found again"))
    late.reading(500)
    found.reading(500)
    centre.hears(old.live(1000), new.live(1060), old.message(1061, 1))
    centre.hears(late.message(1061, 1), found.message(1061, 1))

    assert centre.standing()[f"sites/{SITE}/acks"]["stream"] == new.stream
    assert centre.standing()[f"sites/{OTHER}/acks"]["through"] == 1


MOVED = Site(SITE, "Pasar Girian", "maesa", "biznet")
RETIRED = Site(SITE, "Pasar Girian", "girian", "telkom", retired=True)
JOINED = Site(OTHER, "Pelabuhan", "aertembaga", "icon")


def test_an_import_is_applied_once(centre: Centre) -> None:
    centre.enter(JOINED)

    assert centre.ingest.refresh_registry(1000) == 1
    assert centre.retained()[f"state/aertembaga/icon/{OTHER}"]["status"] == "unknown"
    assert centre.ingest.refresh_registry(1001) == 0


def test_a_site_that_moves_takes_its_state_and_its_firing_alert_along(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    centre.waits(1150)
    before = alert(centre)
    centre.enter(MOVED)
    centre.ingest.refresh_registry(1200)

    retained = centre.retained()
    assert set(retained) == {alert(centre), f"state/maesa/biznet/{SITE}"}
    assert alert(centre) == before.replace("girian/telkom", "maesa/biznet")
    assert (retained[alert(centre)]["revision"], retained[alert(centre)]["district"]) == (
        2,
        "maesa",
    )


def test_a_site_that_moves_leaves_no_resolved_alert_behind(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    centre.hears(device.live(1400))
    centre.enter(MOVED)
    centre.ingest.refresh_registry(1500)

    assert set(centre.retained()) == {f"state/maesa/biznet/{SITE}"}
    letters = len(centre.store.outbox(0))
    centre.hears(device.live(1401 + RETAIN_S))
    centre.waits(1400 + RETAIN_S)
    assert [one.topic for one in centre.store.outbox(0)[letters:]] == []


def test_a_retired_site_resolves_its_alerts_and_is_cleared(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    centre.waits(1150)
    firing = alert(centre)
    centre.enter(RETIRED)
    centre.ingest.refresh_registry(1200)
    assert set(centre.retained()) == {firing}
    assert centre.retained()[firing]["resolved_at"] == wire.iso(1200)

    centre.waits(1200 + RETAIN_S)
    assert centre.retained() == {}
    assert centre.standing().keys() == {f"sites/{SITE}/acks"}


def test_a_retired_site_that_still_talks_is_unregistered_and_left_alone(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.enter(RETIRED)
    centre.ingest.refresh_registry(1001)
    centre.hears(device.live(1060))
    assert centre.retained()[f"state/-/-/{SITE}"]["status"] == "online"

    centre.enter(JOINED)
    centre.ingest.refresh_registry(1070)
    assert centre.retained()[f"state/-/-/{SITE}"]["status"] == "online"


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (lambda centre: centre.waits(1270), "site_offline"),
        (lambda _: None, "site_degraded"),
    ],
)
def test_a_site_that_joins_the_registry_in_trouble_has_its_alert_from_then_on(
    centre: Centre, trouble: Callable[[Centre], None], kind: str
) -> None:
    device = Device(site=OTHER)
    for n in range(3):
        centre.hears(device.live(1000 + 60 * n, ladder={"world": "fail"}))
    trouble(centre)
    centre.enter(JOINED)
    centre.ingest.refresh_registry(1300)

    [one] = centre.incidents()
    assert (one.kind, one.district, one.detected_at) == (kind, "aertembaga", 1300)
    assert UNREGISTERED not in centre.retained()
    for n in range(5):
        centre.hears(device.live(1360 + 60 * n))
    assert [one.firing for one in centre.incidents()] == [False]


def test_an_access_point_that_is_away_has_its_cause_until_the_end(centre: Centre) -> None:
    device = Device()
    away = {"a": {"reachable": False}, "b": {"reachable": True}}
    back = {name: {"reachable": True} for name in away}
    for number in range(4):
        centre.hears(device.live(1000.0 + 60 * number, access_points=away))
    (firing,) = centre.store.firing()
    assert (firing.kind, firing.cause.verdict) == (Kind.ACCESS_POINT_OFFLINE, "access_point")
    assert firing.cause.evidence == ("1 of 2 access points unreachable while the agent lives",)

    for number in range(4, 12):
        centre.hears(device.live(1000.0 + 60 * number, access_points=back))
    (ended,) = centre.store.incidents()
    assert not ended.firing
    assert ended.cause == firing.cause
