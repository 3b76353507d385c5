"""Real stations, real access points, a real walk: played in a guest with radios, judged here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.wifi import machine

pytestmark = [pytest.mark.guest, pytest.mark.slow, pytest.mark.needs_root]
_WITHIN_S = 900.0
Scenes = list[dict[str, Any]]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kernel for the guests, which is large and goes with them."""
    if missing := machine.programs_missing():
        pytest.skip(f"needs {', '.join(missing)}: run `make test-guest` as root")
    folder = tmp_path_factory.mktemp("kernel")
    yield machine.kernel(folder)
    shutil.rmtree(folder)


def played(kernel: Path, folder: Path, init: str) -> Scenes:
    """All that a guest told, scene by scene."""
    said = machine.run(kernel, folder, init, _WITHIN_S)
    assert "the story ended with 0" in said, said[-8000:]
    return [json.loads(line[3:]) for line in said.splitlines() if line.startswith("@@ ")]


@pytest.fixture(scope="module")
def scenes(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """The story of a hotspot, its stations, an evil twin and a user's walks."""
    return played(kernel, tmp_path_factory.mktemp("guest"), "init.sh")


def of(scenes: Scenes, *names: str) -> Scenes:
    """The scenes of these names."""
    found = [scene for scene in scenes if scene["scene"] in names]
    assert found
    return found


def test_stations_that_join_and_leave_are_counted_by_the_next_whole_window(scenes: Scenes) -> None:
    for scene in of(scenes, "empty", "joined", "left"):
        clients = scene["clients"]
        assert clients["source"] == "nl80211", scene
        assert clients["associated"] == clients["active"] == scene["expected"], scene
        assert clients["radios"]["wlan0"]["band"] == "2.4", scene
    assert [scene["expected"] for scene in of(scenes, "joined")] == [1, 2, 3]


def test_the_signal_of_stations_is_told_and_of_none_is_not(scenes: Scenes) -> None:
    [empty] = of(scenes, "empty")
    assert "signal_p50_dbm" not in empty["clients"]["radios"]["wlan0"]
    for scene in of(scenes, "joined"):
        radio = scene["clients"]["radios"]["wlan0"]
        assert -100 < radio["signal_p10_dbm"] <= radio["signal_p50_dbm"] < 0, scene


def test_hostapds_control_socket_tells_the_same_stations(scenes: Scenes) -> None:
    [scene] = of(scenes, "hostapd")
    assert scene["clients"]["source"] == "hostapd"
    assert scene["clients"]["associated"] == scene["clients"]["active"] == 2
    assert scene["clients"]["radios"]["wlan0"]["band"] == "2.4"


def test_no_address_of_a_station_is_published_or_spooled(scenes: Scenes) -> None:
    [scene] = of(scenes, "private")
    assert scene["bytes"] > 1000
    assert scene["found"] == []


def test_a_scan_hears_the_hotspot_and_knows_its_radio(scenes: Scenes) -> None:
    [scene] = of(scenes, "scan")
    value = scene["value"]
    assert (value["seen"], value["expected"], value["foreign"]) == (True, 1, 0)
    assert value["access_points"]["ap-1"]["channel"] == 6
    assert value["strongest"]["band"] == "2.4"
    assert -100 < value["strongest"]["signal_dbm"] < 0
    assert 0 <= value["strongest"]["load_ratio"] <= 1


def test_an_evil_twin_is_counted_as_foreign_and_is_not_named(scenes: Scenes) -> None:
    [scene] = of(scenes, "twin")
    value = scene["value"]
    assert (value["seen"], value["expected"], value["foreign"]) == (True, 1, 1)
    assert list(value["access_points"]) == ["ap-1"]
    assert value["strongest"]["channel"] == 6


def test_a_hotspot_that_nobody_sends_is_not_seen(scenes: Scenes) -> None:
    [scene] = of(scenes, "absent")
    assert scene["value"]["seen"] is False
    assert "strongest" not in scene["value"]


def test_a_radio_that_is_not_there_is_named(scenes: Scenes) -> None:
    [scene] = of(scenes, "no radio")
    assert scene["error"] == "no radio named wlan99; mend interface in [wifi]"


def test_a_users_walk_passes_before_and_after_the_faults(scenes: Scenes) -> None:
    whole = [scene for scene in of(scenes, "walk") if scene["broken"] is None]
    assert len(whole) == 2
    for scene in whole:
        value = scene["value"]
        assert (value["ok"], value["portal"]) == (True, True), scene
        assert list(value["steps_ms"]) == ["associate", "lease", "portal", "pass", "web", "leave"]
        assert all(ms > 0 for ms in value["steps_ms"].values())


@pytest.mark.parametrize("step", ["associate", "lease", "portal", "pass", "web", "leave"])
def test_a_walk_fails_at_the_step_that_is_broken(scenes: Scenes, step: str) -> None:
    [scene] = [scene for scene in of(scenes, "walk") if scene["broken"] == step]
    value = scene["value"]
    assert (value["ok"], value["first_failure"]) == (False, step), scene
    assert scene["error"].startswith(f"{step}: ")
    order = ["associate", "lease", "portal", "pass", "web", "leave"]
    assert list(value["steps_ms"]) == order[: order.index(step)]


def test_a_walk_leaves_no_route_behind(scenes: Scenes) -> None:
    [scene] = of(scenes, "undone")
    assert scene["rules"] == 0
