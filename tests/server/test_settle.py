"""Outages looked at again through a real ingest, once the backlog has told of the gap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import wire
from server import settle
from server.model import Incident, Kind, Note, Witnessed
from tests.server.centre import RETAIN_S, Centre
from tests.server.made import MINE, SITE, Device

FAILING = {
    "ladder": {
        "carrier": "ok",
        "gateway": "ok",
        "isp": "fail",
        "domestic": "fail",
        "world": "fail",
        "first_failure": "isp",
    }
}
WENT_AT = 1000.0


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    made = Centre(tmp_path, MINE)
    yield made
    made.store.close()


def lives(centre: Centre, device: Device, from_at: float, windows: int) -> float:
    """Live windows; gives when the last one ended."""
    for number in range(windows):
        centre.hears(device.live(from_at + 60.0 * number))
    return from_at + 60.0 * (windows - 1)


def outage(centre: Centre) -> Incident:
    """The one there is, in its newest revision."""
    (found,) = (one for one in centre.store.incidents() if one.kind is Kind.SITE_OFFLINE)
    return found


def settles(centre: Centre, at: float) -> None:
    """Time enough passes for another look."""
    centre.ingest.refresh_registry(at + settle.QUIET_S + 1)


def cut(device: Device, windows: int) -> list[int]:
    """The line is dead for some windows that ended after `WENT_AT`; gives their seqs."""
    edge = {"rung": "domestic", "from": wire.iso(WENT_AT - 7), "to": None}
    edges = [edge, {**edge, "rung": "world"}]
    return [
        device.reading(WENT_AT + 60.0 * (number + 1), dead=edges, **FAILING).seq
        for number in range(windows)
    ]


def restarted_behind_a_dead_line(centre: Centre) -> tuple[Device, list[int], float]:
    """Ten windows of a dead line, then somebody starts the device anew and the line is back."""
    device = Device()
    lives(centre, device, 700.0, 6)
    held = cut(device, 10)
    centre.waits(WENT_AT + 300)
    assert outage(centre).firing
    device.restart("boot-2", 1630.0)
    back_at = 1700.0
    centre.hears(device.live(back_at))
    return device, held, back_at


def test_the_backlog_makes_a_power_outage_the_links_and_says_why(centre: Centre) -> None:
    device, held, back_at = restarted_behind_a_dead_line(centre)
    assert outage(centre).cause.verdict == "power"

    centre.hears(device.message(back_at + 5, *held))
    settles(centre, back_at + 5)

    after = outage(centre)
    assert after.cause.verdict == "link"
    assert after.why == "the backlog arrived: power became link"
    assert after.down is not None
    assert after.down[0] == (WENT_AT - 7, 1600.0)
    verdicts = [one.cause.verdict for _, one in centre.store.revisions(after.id)]
    assert verdicts == ["unknown", "power", "link"]
    alert = next(one for topic, one in centre.retained().items() if topic.startswith("alerts/"))
    assert (alert["cause"]["verdict"], alert["revision"]) == ("link", 3)


def test_a_cause_that_becomes_known_later_leaves_the_alert_cleared_when_it_was_due(
    centre: Centre,
) -> None:
    device, held, back_at = restarted_behind_a_dead_line(centre)
    alerts = [topic for topic in centre.retained() if topic.startswith("alerts/")]
    for at in range(int(back_at) + 60, int(back_at + RETAIN_S), 60):
        centre.hears(device.live(float(at)))
    centre.waits(back_at + RETAIN_S - 30)
    centre.hears(device.message(back_at + RETAIN_S - 25, *held[:5]))
    settles(centre, back_at + RETAIN_S - 25)
    assert outage(centre).revision == 3
    assert [topic for topic in centre.retained() if topic.startswith("alerts/")] == alerts

    centre.waits(back_at + RETAIN_S)
    assert not any(topic.startswith("alerts/") for topic in centre.retained())
    centre.hears(device.message(back_at + RETAIN_S + 5, *held))
    settles(centre, back_at + RETAIN_S + 5)
    assert outage(centre).revision == 4, "the ledger has it"
    assert not any(topic.startswith("alerts/") for topic in centre.retained())


def test_a_cause_that_becomes_known_later_brings_no_alert_back_where_the_site_left(
    centre: Centre,
) -> None:
    device, held, back_at = restarted_behind_a_dead_line(centre)
    centre.enter(replace(MINE, district="maesa"))
    centre.ingest.refresh_registry(back_at + 2)
    assert not any(topic.startswith("alerts/") for topic in centre.retained())

    centre.hears(device.message(back_at + 5, *held))
    settles(centre, back_at + 5)
    assert outage(centre).cause.verdict == "link"
    assert not any(topic.startswith("alerts/") for topic in centre.retained())


@pytest.mark.parametrize("place", ["retired", "moved and back"])
def test_what_people_say_of_an_outage_is_told_while_its_alert_stands_and_not_after(
    centre: Centre, place: str
) -> None:
    _, _, back_at = restarted_behind_a_dead_line(centre)
    incident = outage(centre)
    if place == "retired":
        centre.enter(replace(MINE, retired=True))
        centre.ingest.refresh_registry(back_at + 2)
    else:
        centre.enter(replace(MINE, district="maesa"))
        centre.ingest.refresh_registry(back_at + 2)
        centre.enter(MINE)
        centre.ingest.refresh_registry(back_at + 3)
    with centre.store.transaction():
        centre.store.add_note(Note(incident.id, back_at + 4, "rini", "ack"))
    centre.ingest.refresh_registry(back_at + 5)

    assert outage(centre).revision == incident.revision + 1
    standing = [one for topic, one in centre.retained().items() if topic.startswith("alerts/")]
    told = [one["revision"] for one in standing]
    assert told == ([incident.revision + 1] if place == "retired" else [])


def test_the_same_again_in_another_order_or_after_a_restart_says_nothing_new(
    centre: Centre,
) -> None:
    device, held, back_at = restarted_behind_a_dead_line(centre)
    for seq in reversed(held):
        centre.hears(device.message(back_at + 5, seq))
    centre.restart()
    settles(centre, back_at + 5)
    first = outage(centre)
    assert first.cause.verdict == "link"

    centre.hears(device.message(back_at + 30, *held))
    with centre.store.transaction():
        centre.store.unsettle(SITE, 0.0, 9e9, back_at + 30)
    settles(centre, back_at + 30)

    assert outage(centre) == first


def test_nothing_is_looked_at_while_the_backlog_still_comes(centre: Centre) -> None:
    device, held, back_at = restarted_behind_a_dead_line(centre)
    centre.hears(device.message(back_at + 9, *held[:5]))
    settles(centre, back_at)
    assert outage(centre).cause.verdict == "power"

    centre.hears(device.message(back_at + 12, *held[5:]))
    settles(centre, back_at + 12)
    assert outage(centre).cause.verdict == "link"


def test_a_clock_of_ours_that_was_set_back_does_not_put_the_look_off(centre: Centre) -> None:
    device, held, back_at = restarted_behind_a_dead_line(centre)
    centre.hears(device.message(back_at + 5, *held))
    centre.ingest.refresh_registry(back_at - 1000)

    assert outage(centre).cause.verdict == "link"


def test_a_device_that_lost_its_power_keeps_its_cause_and_nobody_measured(centre: Centre) -> None:
    device = Device()
    lives(centre, device, 700.0, 6)
    centre.waits(WENT_AT + 300)
    device.restart("boot-2", 1630.0)
    centre.hears(device.live(1700.0))
    settles(centre, 1700.0)

    assert outage(centre).cause.verdict == "power"
    assert outage(centre).down is None


def test_what_the_witness_saw_is_part_of_the_look(centre: Centre) -> None:
    device = Device()
    lives(centre, device, 700.0, 6)
    centre.waits(WENT_AT + 300)
    with centre.store.transaction():
        centre.store.put_witnessed([Witnessed(SITE, 900.0, 1700.0, True)])
        centre.store.set_witness_at(1700.0)
    centre.hears(device.live(1702.0))
    settles(centre, 1702.0)

    assert outage(centre).cause.verdict == "agent"
    assert outage(centre).cause.evidence[-1].startswith("the line was up: the centre's echoes")


def test_neighbours_of_the_same_isp_make_a_link_the_isps(tmp_path: Path) -> None:
    names = [f"bitung-000{number}" for number in range(1, 5)]
    sites = [replace(MINE, id=name, district=f"d{name[-1]}") for name in names]
    centre = Centre(tmp_path, *sites)
    devices = [Device(name) for name in names]
    for at in range(6):
        for device in devices:
            centre.hears(device.live(700.0 + 60 * at))
    held = [cut(device, 10) for device in devices[:3]]
    for at in range(6, 12):
        centre.hears(devices[3].live(700.0 + 60 * at))
    centre.waits(1300.0)
    for device, seqs in zip(devices, held, strict=False):
        centre.hears(device.live(1660.0))
        centre.hears(device.message(1665.0, *seqs))
    for _ in range(3):
        settles(centre, 1665.0)

    offline = [one for one in centre.store.incidents() if one.kind is Kind.SITE_OFFLINE]
    assert {one.cause.verdict for one in offline} == {"isp"}
    assert all(
        "3 of 4 sites of isp telkom went in the same minutes" in one.cause.evidence
        for one in offline
    )
    centre.store.close()


def test_thousands_that_come_back_at_once_are_looked_at_a_few_at_a_time(centre: Centre) -> None:
    with centre.store.transaction():
        for number in range(50):
            centre.store.unsettle(f"site-{number}", 0.0, 1.0, 100.0)
    settles(centre, 100.0)

    left = centre.store.unsettled(0.0, 0.0, 100)
    assert len(left) == 50 - settle.AT_ONCE
