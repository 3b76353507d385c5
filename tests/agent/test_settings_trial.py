"""Settings that lead elsewhere: on trial, proved, or rolled back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.config import load
from agent.config.overlay import overlaid
from agent.settings import MAX_STARTS, Verdict
from tests.agent.test_control import FILE, SITE, Rig, error_of

BROKER = {"mqtt": {"url": "mqtt://elsewhere.example"}}
WORLD = {"targets": {"world": ["203.0.113.1"]}}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def _followed(rig: Rig) -> str:
    return overlaid(rig.config, rig.keeper.current).mqtt.url


def test_settings_that_lead_elsewhere_are_followed_on_trial(rig: Rig) -> None:
    reply = rig.settings(7, **BROKER)

    assert reply is not None
    assert reply.result == {"revision": 7, "trial_s": 600}
    assert (rig.keeper.on_trial, _followed(rig)) == (7, "mqtt://elsewhere.example")


@pytest.mark.parametrize(
    ("changed", "halfway", "proof"),
    [
        (BROKER, {"domestic"}, {"broker"}),
        (WORLD, {"broker", "domestic"}, {"world"}),
        (BROKER | WORLD, {"broker"}, {"world"}),
    ],
)
def test_a_trial_is_won_when_all_that_was_risked_has_proved_itself(
    rig: Rig, changed: dict[str, Any], halfway: set[str], proof: set[str]
) -> None:
    rig.settings(7, **changed)

    assert rig.keeper.observe(1000, 60, set()) is None
    assert rig.keeper.observe(1060, 60, halfway) is None
    assert rig.keeper.observe(1500, 60, proof) == Verdict(7, None)
    assert rig.keeper.on_trial is None
    assert rig.keeper.current is not None
    assert rig.keeper.observe(9999, 60, set()) is None


def test_what_does_not_prove_itself_in_time_is_rolled_back_for_good(
    rig: Rig, tmp_path: Path
) -> None:
    rig.settings(6, window_s=30)
    rig.settings(7, **BROKER)

    rig.keeper.observe(1000, 60, set())
    assert rig.keeper.observe(1599, 60, {"world"}) is None
    verdict = rig.keeper.observe(1600, 60, set())

    assert verdict == Verdict(7, "rolled back: no sign of broker")
    assert (rig.keeper.on_trial, _followed(rig)) == (None, "mqtt://broker.example")
    assert rig.keeper.current is not None
    assert rig.keeper.current.revision == 6
    for again in (rig, Rig(tmp_path)):
        assert "was rolled back here" in error_of(again.settings(7, **BROKER))
    assert rig.settings(8, window_s=20) is not None


def test_a_trial_gives_long_windows_the_time_to_prove_something(rig: Rig) -> None:
    rig.settings(7, **WORLD)

    rig.keeper.observe(0, 3600, set())
    assert rig.keeper.observe(3 * 3600 - 1, 3600, set()) is None
    assert rig.keeper.observe(3 * 3600, 3600, set()) is not None


def test_a_restart_begins_the_trial_anew_but_not_for_ever(rig: Rig, tmp_path: Path) -> None:
    rig.settings(7, **BROKER)

    for _ in range(MAX_STARTS - 1):
        again = Rig(tmp_path)
        assert again.keeper.on_trial == 7
        assert again.keeper.observe(0, 60, set()) is None
    last = Rig(tmp_path)

    assert last.keeper.on_trial is None
    verdict = last.keeper.observe(0, 60, set())
    assert verdict == Verdict(7, "rolled back: the agent ended 3 times under them")


def test_the_end_of_a_trial_is_told_under_its_revision(rig: Rig) -> None:
    rig.control.settle(Verdict(7, None))
    rig.control.settle(Verdict(8, "rolled back: no sign of broker"))

    won, lost = rig.answers
    assert (won.id, won.ok, won.result) == ("settings-7", True, {"revision": 7})
    assert (lost.id, error_of(lost)) == ("settings-8", "rolled back: no sign of broker")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"mqtt": {"url": "http://x"}}, "settings: mqtt.url: 'http://x' is no broker; write"),
        ({"targets": {"world": []}}, "settings: targets.world: [] is not a list of hosts; write"),
        ({"targets": {"wlan": ["192.0.2.1"]}}, "settings: targets.wlan: unknown key; known are"),
        ({"targets": {"world": "auto"}}, "settings: targets.world: 'auto' is not a list"),
        ({"targets": ["192.0.2.1"]}, "Expected `object`, got `array` - at `$.targets`"),
        ({"mqtt": "mqtt://x"}, "Expected `object`, got `str` - at `$.mqtt`"),
    ],
)
def test_settings_that_the_file_could_not_hold_are_refused(
    rig: Rig, changed: dict[str, Any], error: str
) -> None:
    assert error_of(rig.settings(7, **changed)).startswith(error)
    assert rig.keeper.current is None


def test_settings_of_a_megabyte_are_refused_under_their_revision(rig: Rig) -> None:
    reply = rig.settings(7, targets={"world": ["x" * 1_000_000]})

    assert "more than 262144" in error_of(reply)
    assert reply is not None
    assert reply.id == "settings-7"
    assert rig.keeper.current is None


def test_settings_cannot_give_up_tls(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (tmp_path / "agent.toml").write_text(FILE.replace("mqtt://", "mqtts://"))
    rig.config = load(tmp_path / "agent.toml")

    assert "gives up TLS" in error_of(rig.settings(7, **BROKER))


def test_standing_settings_that_a_changed_file_cannot_bear_are_dropped(tmp_path: Path) -> None:
    standing = {"v": 1, "site": SITE, "revision": 6, "mqtt": {"url": "http://x"}}
    (tmp_path / "settings.json").write_text(json.dumps({"standing": standing}))

    rig = Rig(tmp_path)

    assert rig.keeper.current is None
    assert "http://x" not in (tmp_path / "settings.json").read_text()
    assert _followed(rig) == "mqtt://broker.example"


def test_a_rung_that_settings_do_not_name_is_as_in_the_file(rig: Rig) -> None:
    rig.settings(7, **WORLD)

    targets = overlaid(rig.config, rig.keeper.current).targets
    assert targets is not None
    assert (targets.domestic, targets.world) == (("192.0.2.1",), ("203.0.113.1",))
