"""Windows on a metered link: probes as rarely as they have to be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec import UNSET

from agent import config, wire
from agent.measuring import MakeReading, Measuring
from agent.metered import Slowing
from tests.agent.servers import udp_server
from tests.lab.test_ladder import answer_dns


def _measured(folder: Path, resolver: str, slowing: list[Slowing]) -> list[wire.Reading]:
    file = folder / "agent.toml"
    file.write_text(
        'site = "bitung-0123"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n[reading]\nwindow_s = 1\n'
        f'[dns]\nnames = ["example.org"]\nresolver = "{resolver}"\n'
    )
    asked = config.load(file)
    readings: list[wire.Reading] = []
    steps = iter(slowing)

    def deliver(make: MakeReading) -> None:
        readings.append(make(len(readings) + 1))

    measuring = Measuring(
        lambda: asked,
        settings_revision=lambda: None,
        slowing=lambda: next(steps, slowing[-1]),
        further_errors=dict,
        deliver=deliver,
    )
    measuring.start(time.monotonic())
    while len(readings) < len(slowing):
        time.sleep(max(0.0, measuring.next_s - time.monotonic()))
        measuring.step()
    measuring.stop()
    return readings


@pytest.mark.slow
def test_probes_that_cross_the_link_run_as_rarely_as_asked_and_the_others_in_each_window(
    tmp_path: Path,
) -> None:
    every_other, never = Slowing(0.0, 2, 0.0), Slowing(0.0, 0, 0.0)
    with udp_server(answer_dns) as resolver:
        readings = _measured(tmp_path, resolver, [every_other, every_other, never])
    assert [reading.dns is not UNSET for reading in readings] == [True, False, False]
    assert [reading.ladder.dns for reading in readings] == ["ok", UNSET, UNSET]
    assert all(reading.errors is UNSET or "dns" not in reading.errors for reading in readings)
    assert all(reading.links is not UNSET for reading in readings)
