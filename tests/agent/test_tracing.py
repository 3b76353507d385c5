"""Whom to trace for which rung; and a real failure, whose trace stands in a later reading."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent import config, tracing, wire
from agent.config.overlay import overlaid
from agent.measuring import MakeReading, Measuring
from agent.probes import ProbeError
from tests.lab.net import Namespace, cable, inside
from tests.wait import until

HEAD = 'site = "bitung-0123"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n'


def loaded(folder: Path, text: str) -> config.Config:
    (folder / "agent.toml").write_text(HEAD + text)
    return config.load(folder / "agent.toml")


def test_each_rung_is_traced_towards_its_first_target(tmp_path: Path) -> None:
    given = loaded(
        tmp_path,
        '[targets]\nisp = "auto"\ndomestic = ["192.0.2.10", "192.0.2.11"]\nworld = ["a.example"]\n'
        '[dns]\nnames = ["example.org"]\nresolver = "192.0.2.53:5353"\n'
        '[web]\nurl = "https://page.example:8443/x"\n',
    )
    assert tracing.targets(given) == {
        "isp": "192.0.2.10",
        "domestic": "192.0.2.10",
        "world": "a.example",
        "dns": "192.0.2.53",
        "web": "page.example",
    }


def test_without_a_table_nothing_is_traced_by_itself(tmp_path: Path) -> None:
    assert tracing.tracer(loaded(tmp_path, "")) is None
    assert tracing.tracer(loaded(tmp_path, "[path]\n")) is not None


def test_without_targets_a_command_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"name a target, or add domestic to \[targets\]"):
        tracing.trace_now(loaded(tmp_path, ""))


@pytest.mark.needs_root
def test_on_command_the_named_target_is_traced(tmp_path: Path) -> None:
    with Namespace() as here, Namespace() as there:
        cable(here, "10.0.0.1/24", there, "10.0.0.2/24")
        with inside(here.name):
            (found,) = tracing.trace_now(loaded(tmp_path, ""), "10.0.0.2")
    assert (found.why, found.reached, found.stops_at) == ("command", True, 1)


@pytest.mark.needs_root
@pytest.mark.slow
def test_a_rung_that_first_fails_has_its_trace_in_a_later_reading(tmp_path: Path) -> None:
    given = loaded(
        tmp_path,
        '[reading]\nwindow_s = 1\n[targets]\ngateway = "auto"\ndomestic = ["10.0.2.2"]\n'
        '[path]\nforeign_prefixes = ["10.0.1.0/24"]\n',
    )
    readings: list[wire.Reading] = []

    def deliver(make: MakeReading) -> None:
        readings.append(make(len(readings) + 1))

    def paths() -> list[wire.Path]:
        return [one for reading in readings for one in reading.path or []]

    with Namespace() as here, Namespace() as gateway, Namespace() as far:
        cable(here, "10.0.1.1/24", gateway, "10.0.1.2/24")
        cable(gateway, "10.0.2.1/24", far, "10.0.2.2/24")
        gateway.forward()
        here.route("default", "10.0.1.2")
        far.route("default", "10.0.2.1")
        with inside(here.name):
            measuring = Measuring(
                lambda: given,
                settings_revision=lambda: None,
                further_errors=dict,
                deliver=deliver,
            )
            measuring.start(time.monotonic())

            def stepped(what: str) -> wire.Path | None:
                time.sleep(max(0.0, measuring.next_s - time.monotonic()))
                measuring.step()
                return next((one for one in paths() if one.why == what), None)

            daily = until(lambda: stepped("daily"), 60, "the first trace")
            gateway.cut("10.0.2.2")
            failure = until(lambda: stepped("failure"), 60, "the trace of the failure")
            measuring._echoes.stop()  # the service ends with its process
    assert (daily.rung, daily.reached, daily.foreign_hop) == ("domestic", True, True)
    assert (failure.rung, failure.reached, failure.stops_at) == ("domestic", False, 1)
    assert failure.hops[-1].address == "10.0.1.2"
    failed = next(one for one in readings if one.ladder.domestic == "fail")
    told = next(one for one in readings if one.path and failure in one.path)
    assert told.seq > failed.seq, "the window that failed did not wait for its trace"


@pytest.mark.needs_root
@pytest.mark.slow
def test_settings_change_whom_the_next_windows_trace_and_which_access_points_they_ask(
    tmp_path: Path,
) -> None:
    given = loaded(
        tmp_path,
        '[reading]\nwindow_s = 1\n[targets]\ngateway = "auto"\ndomestic = ["10.0.2.2"]\n[path]\n',
    )
    followed = [given]
    readings: list[wire.Reading] = []
    settings = wire.Settings(
        v=1, site="bitung-0123", revision=1,
        targets={"domestic": ["10.0.2.3"]},
        access_points=wire.SettingsAccessPoints(addresses={"ap-1": "10.0.1.2"}),
    )  # fmt: skip
    with Namespace() as here, Namespace() as gateway, Namespace() as far:
        cable(here, "10.0.1.1/24", gateway, "10.0.1.2/24")
        cable(gateway, "10.0.2.1/24", far, "10.0.2.2/24")
        gateway.forward()
        here.route("default", "10.0.1.2")
        far.route("default", "10.0.2.1")
        with inside(here.name):
            measuring = Measuring(
                lambda: followed[0],
                settings_revision=lambda: None,
                further_errors=dict,
                deliver=lambda make: readings.append(make(len(readings) + 1)),
            )
            measuring.start(time.monotonic())

            def stepped(what: str) -> wire.Path | None:
                time.sleep(max(0.0, measuring.next_s - time.monotonic()))
                measuring.step()
                paths = [one for reading in readings for one in reading.path or []]
                return next((one for one in paths if one.why == what), None)

            before = until(lambda: stepped("daily"), 60, "the first trace")
            assert all(not reading.access_points for reading in readings)
            followed[0] = overlaid(given, settings)
            after = until(lambda: stepped("failure"), 60, "a trace of who is silent")
            measuring.stop()
    assert (before.target, after.target) == ("10.0.2.2", "10.0.2.3")
    asked = readings[-1].access_points
    assert isinstance(asked, dict)
    assert asked["ap-1"].reachable
