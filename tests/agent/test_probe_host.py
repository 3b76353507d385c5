"""The host probe: the device's own figures, and a board's sensors from their files."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from agent import wire
from agent.probes import run
from agent.probes.host import HostProbe, cpu_ratio, temperature_c
from agent.probes.runner import Context


def test_this_machine_has_load_memory_and_disk() -> None:
    probe = HostProbe()
    assert probe(Context()).cpu_ratio is UNSET, "the first run has nothing to compare with"
    sum(i * i for i in range(200_000))
    found = probe(Context())
    for ratio in (found.cpu_ratio, found.memory_ratio, found.disk_ratio):
        assert 0 < ratio <= 1


def test_a_disk_path_that_is_not_there_is_named() -> None:
    outcome = run("host", Context(disk_path="/nowhere"), 5.0)
    assert (outcome.value, outcome.error) == (None, "/nowhere: No such file or directory")


def test_load_is_the_busy_share_of_the_time_between_two_runs() -> None:
    assert cpu_ratio((10.0, 100.0), (25.0, 160.0)) == 0.25


@pytest.mark.parametrize(
    ("before", "now"), [(None, (1.0, 2.0)), ((1.0, 2.0), (1.0, 2.0)), ((5.0, 9.0), (1.0, 2.0))]
)
def test_no_time_between_two_runs_gives_no_load(
    before: tuple[float, float] | None, now: tuple[float, float]
) -> None:
    assert cpu_ratio(before, now) is UNSET


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        ({"cpu_thermal": [51.04], "nvme": [70.0]}, 51.0),
        ({"coretemp": [40.0, 45.0, 43.0], "acpitz": [27.8]}, 45.0),
        ({"acpitz": [27.8], "nvme": [35.0]}, 35.0),
        ({"cpu_thermal": [-273.1]}, UNSET),
        ({"cpu_thermal": []}, UNSET),
        ({}, UNSET),
    ],
)
def test_the_hottest_plausible_processor_sensor_counts(
    sensors: dict[str, list[float]], expected: object
) -> None:
    assert temperature_c(sensors) == expected


def test_a_section_that_is_measured_is_valid_on_the_wire() -> None:
    outcome = run("host", Context(), 5.0)
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Host)
    assert wire.encode(outcome.value)
