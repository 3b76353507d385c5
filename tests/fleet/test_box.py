"""The device at a modelled site, stepped with explicit times: what its readings say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import UNSET

from agent import wire
from server.fleet.box import Box, busy
from server.fleet.fleet import in_memory
from server.fleet.link import Link

NOW = 1_800_000_000.0
WINDOW_S = 2.0
POINTS = ("ap-1", "ap-2")
FAR = ("isp", "domestic", "world")


class Stepped:
    """A box whose time is told: monotonic seconds from 0 on, of which `NOW` is the beginning."""

    def __init__(self, folder: Path, spool_bytes: int = 1 << 20) -> None:
        self.made: list[tuple[str, int]] = []
        self.box = Box(
            *("girian-07", Link("girian-07"), folder, WINDOW_S, POINTS),
            lambda stream, seq, *_: self.made.append((stream, seq)),
            spool_bytes,
        )
        self.power(0.0)

    def power(self, now_s: float) -> None:
        self.box.kill_agent()
        self.box.power_on(now_s)
        self.box.start_agent(now_s)

    def windows(self, count: int) -> list[wire.Reading]:
        """The readings of the next windows."""
        return [self._window() for _ in range(count)]

    def _window(self) -> wire.Reading:
        assert self.box.window is not None
        assert self.box.spool is not None
        complete_s = self.box.window.complete_s
        self.box.finish_window(complete_s, NOW + complete_s)
        stream, seq = self.made[-1]
        ((_, raw),) = self.box.spool.read(stream, seq, 1, 0)
        return wire.decode_reading(raw).reading

    def next_s(self) -> float:
        """When the window that runs began."""
        assert self.box.window is not None
        return self.box.window.start_s


@pytest.fixture
def stepped() -> Iterator[Stepped]:
    with in_memory() as folder:
        site = Stepped(Path(folder))
        yield site
        site.box.kill_agent()


def loss_ratios(reading: wire.Reading) -> dict[str, object]:
    assert reading.ping is not UNSET
    return {rung: getattr(reading.ping, rung).loss_ratio for rung in wire.ECHO_RUNGS}


def dead(reading: wire.Reading) -> list[wire.Dead]:
    assert reading.dead is not UNSET
    return reading.dead


def test_readings_are_numbered_without_a_gap_and_join_each_other(stepped: Stepped) -> None:
    readings = stepped.windows(4)
    assert [one.seq for one in readings] == [1, 2, 3, 4]
    assert {stream for stream, _ in stepped.made} == {stepped.made[0][0]}
    ends = [wire.epoch(one.taken_at) for one in readings]
    assert [round(end - ends[0], 3) for end in ends] == [0.0, 2.0, 4.0, 6.0]
    assert {one.window_s for one in readings} == {WINDOW_S}


def test_a_sound_line_fails_no_rung_and_is_enough_to_be_judged(stepped: Stepped) -> None:
    (reading,) = stepped.windows(1)
    assert reading.ladder.first_failure is UNSET
    assert {getattr(reading.ladder, rung) for rung in wire.RUNGS} == {"ok"}
    assert reading.ping is not UNSET
    domestic = reading.ping.domestic
    assert domestic is not UNSET
    assert domestic.sent >= 10
    assert domestic.rtt_p50_ms is not UNSET
    assert 20 < domestic.rtt_p50_ms < 150
    assert reading.access_points is not UNSET
    assert set(reading.access_points) == set(POINTS)


def test_a_lossy_line_loses_beyond_the_isp_only_until_it_is_clean(stepped: Stepped) -> None:
    stepped.box.link.begin("e", "lossy", stepped.next_s(), 0.3)
    lossy = [loss_ratios(one) for one in stepped.windows(5)]
    assert all(one["gateway"] == one["isp"] == 0.0 for one in lossy)
    ratios = [one["domestic"] for one in lossy]
    assert sum(isinstance(ratio, float) and ratio > 0.05 for ratio in ratios) >= 3
    stepped.box.link.end("e", stepped.next_s())
    assert set(loss_ratios(stepped.windows(1)[0]).values()) == {0.0}


def test_a_cut_fails_from_the_isp_upwards_and_its_edges_stand_in_each_window_that_it_touches(
    stepped: Stepped,
) -> None:
    stepped.windows(1)
    cut_s = stepped.next_s() + 0.5
    stepped.box.link.begin("e", "cut", cut_s)
    first, whole = stepped.windows(2)
    assert (first.ladder.domestic, whole.ladder.domestic) == ("ok", "fail")
    assert (whole.ladder.gateway, whole.ladder.first_failure) == ("ok", "isp")
    assert (whole.ladder.dns, whole.ladder.web) == ("fail", "fail")
    mended_s = stepped.next_s() + 1.0
    stepped.box.link.end("e", mended_s)
    last, after = stepped.windows(2)
    assert last.ladder.domestic == "ok"
    assert after.dead is UNSET
    edges = [dead(one) for one in (first, whole, last)]
    assert all({one.rung for one in found} == set(FAR) for found in edges)
    begun = {(one.rung, wire.epoch(one.start)) for found in edges for one in found}
    assert len(begun) == len(FAR)
    assert all(NOW + cut_s - 0.4 < start < NOW + cut_s + 0.2 for _, start in begun)
    assert {one.end for found in edges[:2] for one in found} == {None}
    for one in edges[2]:
        assert one.end is not None
        assert NOW + mended_s - 0.1 < wire.epoch(one.end) < NOW + mended_s + 0.4


def test_power_that_returns_begins_a_new_boot_and_a_new_stream_and_loses_nothing(
    stepped: Stepped,
) -> None:
    *_, before = stepped.windows(3)
    stepped.power(60.0)
    (after,) = stepped.windows(1)
    assert after.boot != before.boot
    assert after.uptime_s < 10
    (old, _), (new, seq) = stepped.made[0], stepped.made[-1]
    assert (new != old, seq) == (True, 1)
    assert stepped.box.spool is not None
    assert [seq for seq, _ in stepped.box.spool.read(old, 1, 10, 1 << 20)] == [1, 2, 3]


def test_a_small_spool_loses_what_is_released_first_and_says_from_where_on_it_holds() -> None:
    with in_memory() as folder:
        stepped = Stepped(Path(folder), spool_bytes=256 << 10)
        stepped.windows(100)
        stream, _ = stepped.made[0]
        spool = stepped.box.spool
        assert spool is not None
        spool.release(stream, 100)
        stepped.windows(200)
        (held,) = spool.streams()
        assert (held.oldest > 1, held.end, held.through) == (True, 300, 100)
        stepped.box.kill_agent()


def test_the_city_is_busiest_in_the_evening(stepped: Stepped) -> None:
    midnight_utc = NOW // 86400 * 86400
    at = {hour: busy(midnight_utc + hour * 3600) for hour in range(24)}  # of UTC; WITA is 8 on
    assert max(at, key=lambda hour: at[hour]) == 12
    assert min(at, key=lambda hour: at[hour]) == 0
    (reading,) = stepped.windows(1)
    assert reading.clients is not UNSET
    assert reading.clients.associated is not UNSET
    assert 3 <= reading.clients.associated <= 45
