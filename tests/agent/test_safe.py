"""Crash loops: what counts as a crash, when safe mode begins, and that it still speaks."""

from __future__ import annotations

import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from agent.safe import Limits, Record, Starts, begin, why_safe
from agent.systemd import is_progress
from tests.agent.test_main import SITE, WAIT_S, configure, give_command, heard, running, server
from tests.lab.broker import Broker
from tests.lab.peer import Peer
from tests.wait import until

BOOT, NEXT_BOOT = str(uuid.uuid4()), str(uuid.uuid4())
LIMITS = Limits(crashes=3, within_s=600, quiet_s=900)

__all__ = ["server"]  # the fixture


def _after(runs: list[Record | None]) -> Record:
    """A start after `runs`, each taken as the one before the next."""
    record: Record | None = None
    for number, run in enumerate(runs):
        record = run or begin(record, BOOT, 10.0 * number)
    assert record is not None
    return record


def test_runs_that_end_without_a_reading_are_crashes_and_three_of_them_a_loop() -> None:
    record = _after([None] * 3)
    assert why_safe(record, LIMITS, 20) is None

    record = _after([None] * 4)
    assert record.crashes == (10, 20, 30)
    assert why_safe(record, LIMITS, 30) == "safe mode: 3 crashes in 600 s"


def test_crashes_that_lie_too_far_apart_are_no_loop() -> None:
    assert why_safe(Record(BOOT, crashes=(0, 300, 601)), LIMITS, 601) is None
    assert why_safe(Record(BOOT, crashes=(0, 300, 600)), LIMITS, 600) is not None


@pytest.mark.parametrize("before", [Record(BOOT, ended=True), Record(BOOT, proved=True)])
def test_an_end_in_order_and_a_run_that_measured_are_no_crash(before: Record) -> None:
    after = begin(before, BOOT, 100)

    assert (after.crashes, after.restarts) == ((), 1)


@pytest.mark.parametrize("ended", [True, False])
def test_another_boot_is_no_crash_but_tells_how_the_machine_went_down(ended: bool) -> None:
    after = begin(Record(BOOT, ended=ended, crashes=(1, 2, 3), restarts=7), NEXT_BOOT, 5)

    assert after == Record(NEXT_BOOT, last_shutdown_clean=ended)
    assert begin(after, NEXT_BOOT, 6).last_shutdown_clean is ended, "and stays so in this boot"


def test_a_first_start_knows_of_no_shutdown() -> None:
    assert begin(None, BOOT, 5) == Record(BOOT)


def test_no_limit_means_never() -> None:
    assert why_safe(Record(BOOT, crashes=(1, 2, 3)), Limits(0, 600, 900), 4) is None


@pytest.mark.parametrize("stored", [b"", b"{", b'{"boot":7}'])
def test_a_broken_record_is_as_none(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "starts.json").write_bytes(stored)

    assert Starts(tmp_path, BOOT, 1).record == Record(BOOT)


def test_a_folder_that_takes_nothing_costs_the_record_alone(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "none", BOOT, 1)
    starts.proved()

    assert starts.record.proved


def test_sending_goes_on_while_something_moved_within_three_minutes_or_windows() -> None:
    assert is_progress(179, window_s=60)
    assert not is_progress(181, window_s=60)
    assert is_progress(10_000, window_s=3600)


def _readings(peer: Peer) -> list[dict[str, Any]]:
    return [reading for message in heard(peer, "readings") for reading in message["readings"]]


def _crash_loop(folder: Path, peer: Peer) -> None:
    """Two runs that are killed before their first reading."""
    for count in (1, 2):
        with running(folder) as service:
            until(
                lambda count=count: len(heard(peer, "presence")) >= 2 * count - 1,  # type: ignore[misc]  # bound now
                WAIT_S,
                "presence",
            )
            service.end(signal.SIGKILL)
        until(lambda count=count: len(heard(peer, "presence")) >= 2 * count, WAIT_S, "the will")  # type: ignore[misc]  # bound now


def test_a_crash_loop_ends_in_a_safe_mode_that_says_why_and_is_left_by_restart(
    tmp_path: Path, broker: Broker, server: Peer
) -> None:
    mqtt = f'url = "{broker.url}"\nkeepalive_s = 2\n[safe_mode]\ncrashes = 2'
    configure(tmp_path, mqtt, window_s=30)
    _crash_loop(tmp_path, server)
    configure(tmp_path, mqtt)
    with running(tmp_path) as service:
        until(lambda: heard(server, "readings"), WAIT_S, "a reading")
        assert give_command(server, "restart")["ok"]
        assert service.process.wait(WAIT_S) == 0
    safe = [p for p in heard(server, "presence") if p["state"] == "online"][-1]
    reading = _readings(server)[0]
    with running(tmp_path):
        until(lambda: any("links" in one for one in _readings(server)), WAIT_S, "a probe's section")

    assert safe["problem"] == "safe mode: 2 crashes in 600 s"
    assert reading["errors"]["agent"] == safe["problem"]
    assert reading["ladder"] == {"domestic": "ok"}, "echoes, and no probe"
    assert reading["host"]["agent_restarts"] == 2
    normal = [p for p in heard(server, "presence") if p["state"] == "online"][-1]
    assert "problem" not in normal


def test_safe_mode_ends_by_itself_when_all_stays_quiet(
    tmp_path: Path, broker: Broker, server: Peer
) -> None:
    mqtt = f'url = "{broker.url}"\nkeepalive_s = 2\n[safe_mode]\ncrashes = 1\nquiet_s = 1'
    configure(tmp_path, mqtt)
    (tmp_path / "spool").mkdir()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "spool" / "starts.json").write_text(json.dumps({"boot": boot}))
    with running(tmp_path) as service:
        until(
            lambda: len([p for p in heard(server, "presence") if p["state"] == "online"]) == 2,
            WAIT_S,
            "a second session",
        )
        until(lambda: heard(server, "readings"), WAIT_S, "a reading")
        assert service.end(signal.SIGTERM)[0] == 0

    said = [(p["state"], p.get("reason"), p.get("problem")) for p in heard(server, "presence")]
    problem = "safe mode: 1 crashes in 600 s"
    assert said[:3] == [
        ("online", None, problem),
        ("offline", "upgrade", problem),
        ("online", None, None),
    ]
    assert all(one["site"] == SITE for one in heard(server, "presence"))
