"""Who gets another release when, and what a device asks of it; no machine is needed for that."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

_ANSIBLE = Path(__file__).parents[2] / "deploy" / "ansible"
_waves = runpy.run_path(str(_ANSIBLE / "filter_plugins" / "pantau_waves.py"))["pantau_waves"]
_TRIAL = _ANSIBLE / "roles" / "agent" / "files" / "trial.py"
_NEW = "/opt/pantau/0.2.0/bin/python"
_OLD = "/opt/pantau/0.1.0/bin/python"
_CITY = [[f"{district}-{number:02}", district] for district in "bac" for number in range(20)]


def test_one_goes_first_then_some_of_every_district_then_district_by_district() -> None:
    waves = _waves(_CITY, 5)
    assert waves[:2] == [["a-00"], ["b-00", "c-00", "a-01"]]
    assert [{site[0] for site in wave} for wave in waves[2:]] == [{"a"}, {"b"}, {"c"}]


@pytest.mark.parametrize("percent", [0, 1, 5, 50, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 21, 60])
def test_every_site_has_one_wave_and_no_wave_is_empty(percent: float, count: int) -> None:
    waves = _waves(_CITY[:count], percent)
    assert sorted(site for wave in waves for site in wave) == sorted(s for s, _ in _CITY[:count])
    assert all(waves)


def test_a_site_that_is_asked_for_goes_first() -> None:
    assert _waves(_CITY, 5, "c-07")[:2] == [["c-07"], ["a-00", "b-00", "c-00"]]


@pytest.mark.parametrize(
    ("active", "status", "program", "says"),
    [
        ("active", "connected with MQTT 5; 0 readings wait", _NEW, ""),
        ("active", "connected with MQTT 5; 0 readings wait", _OLD, "cut off"),
        ("active", "", _NEW, "finished no window"),
        ("active", "safe mode: 3 crashes in 600 s; 9 readings wait", _NEW, "says: safe mode"),
        ("activating", "", _NEW, "does not become ready"),
        ("activating", "", "", "does not stay up (result exit-code)"),
        ("failed", "", "", "does not stay up (result exit-code)"),
    ],
)
def test_a_release_proves_itself_by_a_window_and_a_broker(
    active: str, status: str, program: str, says: str
) -> None:
    trial = runpy.run_path(str(_TRIAL))
    agent = trial["Agent"](active, "exit-code", status, program)
    missing = trial["missing"]("0.2.0", agent)
    assert (missing == "") == (says == "")
    assert says in missing
