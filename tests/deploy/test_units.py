"""The units: rated by systemd itself, and in step with what they start."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_UNITS = Path(__file__).parents[2] / "systemd"
_WORST = {"pantau-agent.service": 3.5, "pantau-ingest.service": 2.5, "pantau-witness.service": 3.0}
_NEWER_THAN_252 = ("RestartSteps", "RestartMaxDelaySec")


def _systemd_analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def _keys(unit: str) -> dict[str, list[str]]:
    """Each key of a unit with all its values."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (_UNITS / unit).read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", _WORST)
def test_systemd_rates_the_units_as_well_shut(
    unit: str, record_property: Callable[[str, object], None]
) -> None:
    done = _systemd_analyze("security", "--offline=yes", "--no-pager", _UNITS / unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    record_property(f"systemd-analyze security {unit}", f"{found[1]} of at most {_WORST[unit]}")
    assert float(found[1]) <= _WORST[unit], done.stdout


def _with_drop_ins() -> str:
    """The agent's unit as it is on a device with a radio and a password to walk with."""
    unit = _UNITS / "pantau-agent.service"
    drop_ins = sorted(unit.with_name(f"{unit.name}.d").iterdir())
    return "".join(path.read_text() for path in (unit, *drop_ins))


def test_an_agent_with_a_radio_is_rated_as_well_shut(tmp_path: Path) -> None:
    (tmp_path / "pantau-agent.service").write_text(_with_drop_ins())
    unit = tmp_path / "pantau-agent.service"
    done = _systemd_analyze("security", "--offline=yes", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= _WORST["pantau-agent.service"], done.stdout


def test_a_radio_and_a_password_bring_what_they_need_and_nothing_else() -> None:
    before = (_UNITS / "pantau-agent.service").read_text()
    keys = re.findall(r"^(\w+)=(.*)$", _with_drop_ins().removeprefix(before), re.MULTILINE)
    assert keys == [
        ("AmbientCapabilities", "CAP_NET_ADMIN"),
        ("CapabilityBoundingSet", "CAP_NET_ADMIN"),
        ("LoadCredential", "walk.password:/etc/pantau/walk.password"),
    ]


@pytest.mark.parametrize("unit", [*_WORST, "pantau-connects.service"])
def test_systemd_understands_every_line_of_the_units(unit: str, tmp_path: Path) -> None:
    # A command that is there stands for the one of /opt, which the roles bring.
    text = (_UNITS / unit).read_text()
    started = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    (tmp_path / unit).write_text(started)
    done = _systemd_analyze("verify", tmp_path / unit)
    complaints = [
        line
        for line in done.stderr.splitlines()
        if unit in line and not any(f"'{key}'" in line for key in _NEWER_THAN_252)
    ]
    assert complaints == []


@pytest.mark.parametrize("unit", _WORST)
def test_a_unit_notifies_is_watched_and_comes_back_for_ever(unit: str) -> None:
    keys = _keys(unit)
    assert keys["Type"] == ["notify"]
    assert keys["WatchdogSec"]
    assert keys["Restart"] == ["always"]
    assert keys["StartLimitIntervalSec"] == ["0"]
    assert "network-online.target" not in " ".join(keys["After"])


def test_the_agent_has_one_capability_and_may_read_what_psutil_reads() -> None:
    keys = _keys("pantau-agent.service")
    assert keys["CapabilityBoundingSet"] == keys["AmbientCapabilities"] == ["CAP_NET_RAW"]
    assert "ProcSubset" not in keys


def test_keys_reach_the_services_as_credentials_alone() -> None:
    for unit, key in (
        ("pantau-agent.service", "site.key"),
        ("pantau-ingest.service", "ingest.key"),
    ):
        assert f"{key}:/etc/pantau/{key}" in _keys(unit)["LoadCredential"]
