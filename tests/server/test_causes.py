"""Why a site was away, told from the readings before and after."""

from __future__ import annotations

from typing import Any

import pytest

from server.causes import STARTS_UNTOLD, LastSeen, explain
from server.model import Cause
from tests.server.made import Device

BEFORE = LastSeen("boot-1", "stream", seq=10, uptime_s=600.0, window_s=60.0)


def after(seq: int, uptime_s: float, boot: str = "boot-1", **fields: Any) -> Cause:
    """The cause of a gap of 300 s that ends with this reading."""
    device = Device(boot=boot, booted_at=0.0, seq=seq - 1)
    reading = device.reading(uptime_s, **fields)
    return explain(BEFORE, reading, "stream", sent_uptime_s=uptime_s + 1.0, gap_s=300.0)


def test_a_new_boot_within_the_gap_was_power() -> None:
    cause = after(11, 60.0, boot="boot-2")

    assert (cause.verdict, cause.evidence) == (
        "power",
        ("new boot, uptime 61 s is below the gap of 300 s",),
    )


def test_a_new_boot_before_the_gap_proves_nothing() -> None:
    assert after(11, 400.0, boot="boot-2").verdict == "unknown"


def test_an_agent_that_measured_on_was_only_cut_off() -> None:
    cause = after(15, 900.0)

    assert (cause.verdict, cause.confidence) == ("link", 0.85)
    assert cause.evidence == (
        "same boot: uptime went on from 600 s to 900 s",
        "the agent measured on through the gap (seq 10 to 15)",
    )


def test_its_silent_rungs_make_that_surer() -> None:
    dead = [{"rung": "isp", "from": "2026-11-22T06:49:12.400Z", "to": None}]
    cause = after(15, 900.0, dead=dead)

    assert cause.confidence == 0.95
    assert cause.evidence[-1] == "isp silent from 2026-11-22T06:49:12.400Z to now"


@pytest.mark.parametrize("drift_s", [-2.5, 2.5])
def test_a_window_that_ends_a_little_off_is_still_on_the_grid(drift_s: float) -> None:
    assert after(15, 900.0 + drift_s).verdict == "link"


@pytest.mark.parametrize("drift_s", [-30, 30])
def test_an_agent_that_missed_windows_was_itself_down(drift_s: float) -> None:
    cause = after(12, 900.0 + drift_s, host={"agent_restarts": 1})

    assert (cause.verdict, cause.confidence) == ("agent", 0.8)
    assert cause.evidence[1] == f"but 2 x 60 s measured in these {300 + drift_s:.0f} s"


@pytest.mark.parametrize(
    ("seq", "verdict"), [(14, "link"), (13, "link"), (12, "agent"), (19, "agent")]
)
def test_an_agent_that_missed_a_window_but_measured_most_of_it_was_cut_off(
    seq: int, verdict: str
) -> None:
    assert after(seq, 900.0, host={"agent_restarts": 1}).verdict == verdict


def test_the_window_after_the_return_does_not_tell_of_the_gap() -> None:
    assert after(11, 715.0, host={"agent_restarts": 1}).verdict == "agent"


def test_the_same_boot_is_the_link_where_nothing_tells_that_the_agent_stood_still() -> None:
    for host in ({}, {"cpu_ratio": 0.1}):
        cause = after(11, 900.0, host=host)

        assert (cause.verdict, cause.confidence) == ("link", 0.6)
        assert cause.evidence[-1] == STARTS_UNTOLD


def test_a_new_stream_in_the_same_boot_was_the_agent() -> None:
    reading = Device(booted_at=0.0).reading(900.0)
    cause = explain(BEFORE, reading, "another", sent_uptime_s=901.0, gap_s=300.0)

    assert (cause.verdict, cause.evidence[1]) == ("agent", "the agent began a new stream")


def test_another_window_breaks_the_grid_but_not_the_boot() -> None:
    cause = after(40, 900.0, window_s=10.0)

    assert (cause.verdict, cause.confidence) == ("link", 0.6)
