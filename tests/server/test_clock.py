"""Putting right the times of devices without a clock, by when their messages came."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from agent import wire
from server import past
from server.clock import Anchors, When, anchored, better, reach, tells_better, when
from tests.server.centre import home
from tests.server.made import Device


def envelope(device: Device, sent_at: float) -> wire.Envelope:
    return msgspec.json.decode(wire.plain(device.envelope(sent_at, device.seq)), type=wire.Envelope)


def good(device: Device, at: float) -> wire.GoodReading:
    device.reading(at)
    return wire.decode_reading(device.spool[device.seq])


def anchors_of(device: Device, *delays_s: float) -> Anchors:
    """The anchors after messages with these delays."""
    good(device, 1000)
    known: Anchors = ()
    for delay_s in delays_s:
        known = anchored(known, envelope(device, 1000), 1000 + delay_s)
    return known


def test_a_synchronised_clock_is_believed() -> None:
    device = Device()
    anchors = anchors_of(device, 500)

    assert when(good(device, 1060), anchors) == When(1060, corrected=False, uncertain=False)


def test_an_unsynchronised_time_follows_from_uptime_and_receipt() -> None:
    device = Device(synced=False)
    anchors = anchors_of(device, 0)
    late = good(device, 1060)

    assert late.taken_at == 1060 + 86_400
    assert when(late, anchors) == When(1060, corrected=True, uncertain=False)


def test_the_message_that_came_fastest_anchors_best() -> None:
    device = Device(synced=False)

    assert anchors_of(device, 9, 2, 5) == (("boot-1", 102),)


def test_an_anchor_that_is_hardly_better_is_not_worth_a_write() -> None:
    device = Device(synced=False)
    once = anchors_of(device, 1)

    assert anchored(once, envelope(device, 1000), 1000.9) is once


def test_a_boot_that_nothing_anchors_stays_uncertain() -> None:
    device = Device(synced=False)
    before = good(device, 1000)
    device.restart("boot-2", 2000)
    anchors = anchored((), envelope(device, 2010), 2010)

    assert when(before, anchors) == When(1000 + 86_400, corrected=False, uncertain=True)


def test_an_earlier_boot_keeps_its_anchor() -> None:
    device = Device(synced=False)
    before = good(device, 1000)
    anchors = anchored((), envelope(device, 1001), 1001)
    device.restart("boot-2", 2000)
    anchors = anchored(anchors, envelope(device, 2010), 2010)

    assert when(before, anchors).taken_at == 1000


def test_the_last_four_boots_are_remembered() -> None:
    device = Device(synced=False)
    device.reading(1000)
    anchors: Anchors = ()
    for number in range(6):
        device.restart(f"boot-{number}", 1000.0 * number)
        anchors = anchored(anchors, envelope(device, 9000), 9000)

    assert anchors == tuple((f"boot-{number}", 1000.0 * number) for number in range(2, 6))


def test_an_uptime_that_leads_beyond_all_dates_leaves_the_time_uncertain() -> None:
    device = Device(synced=False)
    anchors = anchors_of(device, 0)
    absurd = device.reading(1060)
    for uptime_s in (1e12, 1e300):
        text = wire.encode(msgspec.structs.replace(absurd, uptime_s=uptime_s))
        at = when(wire.decode_reading(text), anchors)
        assert at == When(1060 + 86_400, corrected=False, uncertain=True)


def test_what_an_anchor_gains_tells_a_time_better_only_where_drift_cannot_be_all_of_it() -> None:
    assert tells_better(gain_s=1.0, age_s=3600)
    assert not tells_better(gain_s=0.25, age_s=3600)
    assert not tells_better(gain_s=-1.0, age_s=0)


def test_only_boots_that_are_new_or_anchored_earlier_can_tell_a_time_better() -> None:
    known = (("a", 10.0), ("b", 100.0), ("c", 200.0))
    anchors = (("b", 99.0), ("c", 201.0), ("d", 5000.0))
    gains = better(known, anchors)

    assert gains == {"b": 1.0, "d": math.inf}
    assert reach({"d": math.inf}, anchors, 90_000.0) == 5000
    assert reach({"b": 1.0}, anchors, 90_000.0) == pytest.approx(80_000)
    assert reach(gains, anchors, 12_000.0) == pytest.approx(2000)
    assert reach({"b": 1.0}, anchors, 5000.0) == 99
    assert reach({}, anchors, 90_000.0) == math.inf


def test_another_boot_costs_a_look_at_what_came_since_it_began_and_no_longer_at_all_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of readings without a clock, then a power cut; an hour of slack is looked at, too."""
    looked_at: list[float] = []

    def counted(raw: bytes) -> wire.GoodReading:
        found = wire.decode_reading(raw)
        looked_at.append(found.reading.uptime_s)
        return found

    centre = home(tmp_path)
    device = Device(synced=False)
    centre.hears(*(device.live(1000.0 + 60 * n) for n in range(1440)))
    centre.restart()
    device.restart("boot-2", 90_000.0)
    device.reading(90_060)
    device.reading(90_120)
    first, second = device.message(90_121, 1441), device.message(90_122, 1442)
    monkeypatch.setattr(past, "decode_reading", counted)
    centre.hears(first, second)

    assert [row.taken_at for _, row in centre.rows(device.site)][-2:] == [90_060, 90_120]
    assert len(looked_at) <= 62
    looked_at.clear()
    centre.hears(device.live(90_180))
    assert looked_at == []
    centre.store.close()


def test_a_device_that_invents_boots_and_uptimes_costs_a_bounded_look_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[bytes] = []

    def counted(raw: bytes) -> wire.GoodReading:
        looked_at.append(raw)
        return wire.decode_reading(raw)

    monkeypatch.setattr(past, "decode_reading", counted)
    monkeypatch.setattr(past, "MOST_ROWS", 20)
    centre = home(tmp_path)
    device = Device(synced=False)
    centre.hears(*(device.live(100_000.0 + 60 * n) for n in range(50)))
    looked_at.clear()
    device.restart("invented", 10.0)
    centre.hears(device.live(103_060.0))

    assert len(looked_at) == 20
    assert len(centre.rows(device.site)) == 51
    centre.store.close()


def test_a_device_whose_uptime_runs_fast_does_not_pull_its_past_along(tmp_path: Path) -> None:
    """Windows of an hour for 30 days, uptime 20 ppm too fast; the first message was 40 s late."""
    centre = home(tmp_path)
    began = 1_780_000_000.0
    device = Device(booted_at=began, synced=False, window_s=3600.0)
    for hour in range(1, 721):
        at = began + 3600 * hour
        device.booted_at = began - 20e-6 * 3600 * hour
        device.reading(at)
        centre.hears(device.message(at, received_at=at + 40 * (hour == 1)))

    off_s = [row.taken_at - (began + 3600 * row.seq) for _, row in centre.rows(device.site)]
    assert [abs(one) < 1 for one in off_s] == [True] * 720
    [(_, ledger)] = centre.store.all_spans(began - 60, began + 31 * 86_400)
    assert past.rebuilt(centre.store, device.site) == ledger
    centre.store.close()
