"""Other releases on booted machines: proved, healed without a controller, cut off, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import recap
from tests.deploy.releases import CRASHES, MUTE, UNHEARD, another, number
from tests.deploy.town import SITES, Town
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_CA = Path(__file__).parents[2] / "deploy/ansible/roles/pki/files/ca.py"
_TRIAL = ("-e", "pantau_agent_trial_s=60")
_SHORT = ("-e", "pantau_agent_trial_s=40")  # where no time would be enough
_HEAL_S, _PROOF_S = 240.0, 120.0
_FIRST, _SECOND = SITES


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre and the sites on this tree's release; each test goes on from there."""
    with Town(tmp_path_factory.mktemp("town"), mitogen=True) as built:
        built.play("site.yml")
        artifacts = built.folder / "artifacts"
        another(artifacts, "0.2.0")
        another(artifacts, "0.3.0", CRASHES)
        another(artifacts, "0.4.0", MUTE)
        another(artifacts, "0.5.0", UNHEARD)
        _listen(built)
        yield built


def test_a_release_that_crashes_is_left_even_when_the_controller_is_gone(town: Town) -> None:
    before = _streams(town, _FIRST)
    town.cut_off(
        *("upgrade.yml", "-e", "pantau_version=0.3.0", *_SHORT, "--limit", _FIRST),
        when=lambda: "this release is broken" in _journal(town, _FIRST),
    )
    assert _current(town, _FIRST) == "0.3.0"
    until(lambda: _current(town, _FIRST) == number(), _HEAL_S, "the old release")
    until(lambda: _status(town, _FIRST).startswith("connected"), _PROOF_S, "a connected agent")
    assert f"{number()} runs again" in _verdict(town, _FIRST)
    assert set(_streams(town, _FIRST)) == set(before)


def test_a_play_that_was_cut_off_is_run_again_and_all_sites_have_the_release(town: Town) -> None:
    before = {site: _streams(town, site) for site in SITES}
    town.cut_off(
        *("upgrade.yml", "-e", "pantau_version=0.2.0", *_TRIAL),
        when=lambda: "0.2.0" in _record(town, _FIRST),
    )
    said = " ".join(town.play("upgrade.yml", "-e", "pantau_version=0.2.0", *_TRIAL).split())
    for site in SITES:
        assert f"{site}: 0.2.0 proved itself" in said
        assert _current(town, site) == "0.2.0"
        after = _streams(town, site)
        assert set(after) == set(before[site])
        assert all(after[stream] > seq for stream, seq in before[site].items())
        assert "upgrade" in _reasons(town, site)


def test_a_release_that_never_reports_stops_the_play_at_its_first_wave(town: Town) -> None:
    said = town.play("upgrade.yml", "-e", "pantau_version=0.4.0", *_SHORT, expect=2)
    words = " ".join(said.split())
    assert f"{_FIRST}: NOT upgraded: 0.4.0 says: this release cannot connect" in words
    assert "0.2.0 runs again" in words
    assert "journalctl -u pantau-agent" in words
    assert recap(said)[_FIRST]["failed"] == 1
    assert _current(town, _FIRST) == _current(town, _SECOND) == "0.2.0"
    assert "0.4.0" not in town.on(_SECOND, "ls", "/opt/pantau")


def test_a_release_whose_readings_reach_nobody_is_left_though_it_is_connected(town: Town) -> None:
    upgrade = ("upgrade.yml", "-e", "pantau_version=0.5.0", *_SHORT, "--limit", _FIRST)
    words = " ".join(town.play(*upgrade, expect=2).split())
    assert f"{_FIRST}: NOT upgraded: 0.5.0 is connected, and the centre confirms none" in words
    assert "0.2.0 runs again" in words
    assert _current(town, _FIRST) == "0.2.0"


def test_a_power_cut_during_a_trial_changes_nothing_of_it(town: Town) -> None:
    machine = town.machines[_FIRST]
    town.cut_off(
        *("upgrade.yml", "-e", "pantau_version=0.4.0", *_SHORT, "--limit", _FIRST),
        when=lambda: "/0.4.0/" in _program(town, _FIRST),
    )
    machine.halt()
    machine.boot()
    assert _current(town, _FIRST) == "0.4.0"
    until(lambda: _current(town, _FIRST) == "0.2.0", _HEAL_S, "the old release")
    until(lambda: _status(town, _FIRST).startswith("connected"), _PROOF_S, "a connected agent")
    verdict = _verdict(town, _FIRST)
    assert "0.4.0 says: this release cannot connect; " in verdict
    assert "; 0.2.0 runs again" in verdict


def test_a_centre_that_is_away_sends_no_device_back_and_is_waited_for(town: Town) -> None:
    before = _streams(town, _SECOND)
    town.on("centre", "systemctl stop pantau-ingest")
    try:
        away = ("upgrade.yml", "-e", f"pantau_version={number()}", *_TRIAL, "--limit", _SECOND)
        words = " ".join(town.play(*away, expect=2).split())
    finally:
        town.on("centre", "systemctl start pantau-ingest")
    assert f"{_SECOND}: NOT upgraded: {number()} stays on trial: it is connected, but the" in words
    assert "is pantau-ingest running?" in words
    assert _current(town, _SECOND) == number()
    assert f"/{number()}/" in _program(town, _SECOND)

    assert f"{number()} proved itself" in _verdict(town, _SECOND)
    after = _streams(town, _SECOND)
    assert set(after) == set(before)
    back = ("upgrade.yml", "-e", "pantau_version=0.2.0", *_TRIAL, "--limit", _SECOND)
    assert f"{_SECOND}: 0.2.0 proved itself" in " ".join(town.play(*back).split())


def test_the_way_back_to_an_older_release_is_the_same(town: Town) -> None:
    before, identity = _streams(town, _FIRST), _identity(town, _FIRST)
    down = ("-e", f"pantau_version={number()}", *_TRIAL, "--limit", _FIRST)
    said = " ".join(town.play("upgrade.yml", *down).split())
    assert f"{_FIRST}: {number()} proved itself" in said
    after = _streams(town, _FIRST)
    assert set(after) == set(before)
    assert all(after[stream] > seq for stream, seq in before.items())
    assert _identity(town, _FIRST) == identity


def test_an_agent_follows_where_the_server_on_its_machine_moved_the_release(town: Town) -> None:
    assert "/0.2.0/" in _program(town, _SECOND)
    town.on(_SECOND, "ln", "-sfn", number(), "/opt/pantau/current")
    said = town.play("agent.yml", "--limit", _SECOND)
    assert f"{_SECOND}: commissioned, online" in " ".join(said.split())
    assert f"/{number()}/" in _program(town, _SECOND)


def test_none_of_all_this_was_an_outage(town: Town) -> None:
    assert town.on("centre", "pantau", "incidents", "--json").strip() == ""
    status = json.loads(town.on("centre", "pantau", "status", "--json"))
    assert status["online"] == len(SITES)


def _current(town: Town, site: str) -> str:
    return town.on(site, "readlink", "/opt/pantau/current").strip()


def _identity(town: Town, site: str) -> str:
    return town.on(site, "sha256sum", "/etc/pantau/site.key", "/etc/pantau/site.pem")


def _program(town: Town, site: str) -> str:
    """The command line of the agent that runs; empty while it is between two lives."""
    return town.on(site, 'cat "/proc/$(systemctl show -P MainPID pantau-agent)/cmdline" || true')


def _status(town: Town, site: str) -> str:
    return town.on(site, "systemctl", "show", "pantau-agent", "-P", "StatusText").strip()


def _journal(town: Town, site: str) -> str:
    return town.on(site, "journalctl", "--no-pager", "-q", "-u", "pantau-agent")


def _record(town: Town, site: str) -> str:
    return town.on(site, "cat", "/opt/pantau/trial/record.json", "||", "true")


def _verdict(town: Town, site: str) -> str:
    return until(
        lambda: town.on(site, "cat", "/opt/pantau/trial/verdict.json", "||", "true"),
        _PROOF_S, f"the verdict of {site}",
    )  # fmt: skip


def _streams(town: Town, site: str) -> dict[str, int]:
    """The streams that the site's spool holds, each with its newest seq."""
    found: dict[str, int] = {}
    for line in town.on(site, "pantau-agent", "spool").splitlines():
        stream, _, last = line.partition(" ")[0], *line.rpartition(" ")[1:]
        found[stream] = int(last)
    assert found
    return found


def _listen(town: Town) -> None:
    """Have the centre write down every presence, as an operator may hear it."""
    ask = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=_ops"
    request = town.on("centre", f"{ask} -keyout /root/ops.key 2>/dev/null")
    signed = subprocess.run(
        [sys.executable, str(_CA), str(town.inventory / "pki"), "sign", "_ops"],
        input=request, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    (town.machines["centre"].root / "root/ops.pem").write_text(signed)
    town.on(
        *("centre", "systemd-run", "-q", "-p", "StandardOutput=file:/root/presence"),
        *("mosquitto_sub", "--host", "10.81.1.2", "--port", "8883"),
        *("--cafile", "/etc/pantau/deploy/ca.pem", "--cert", "/root/ops.pem"),
        *("--key", "/root/ops.key", "--qos", "1", "--topic", "pantau/v1/sites/+/presence"),
    )


def _reasons(town: Town, site: str) -> set[str]:
    """Why the site's sessions ended so far."""
    lines = (town.machines["centre"].root / "root/presence").read_text().splitlines()
    heard = [json.loads(line) for line in lines]
    return {one["reason"] for one in heard if one["site"] == site and one["state"] == "offline"}
