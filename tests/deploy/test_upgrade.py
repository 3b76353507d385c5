"""Other releases on booted machines: what a device does where one fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.deploy.releases import CRASHES, another, number
from tests.deploy.town import SITES, Town
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_TRIAL = ("-e", "pantau_agent_trial_s=20")
_HEAL_S, _PROOF_S = 90.0, 60.0
_FIRST = SITES[0]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre and the sites on this tree's release; each test goes on from there."""
    for command, package in (("systemd-nspawn", "systemd-container"), ("debootstrap",) * 2):
        if shutil.which(command) is None:
            pytest.skip(f"needs {command}: apt-get install {package}")
    with Town(tmp_path_factory.mktemp("town")) as built:
        built.play("site.yml")
        another(built.folder / "artifacts", "0.3.0", CRASHES)
        yield built


def test_a_release_that_crashes_is_left_even_when_the_controller_is_gone(town: Town) -> None:
    before = _streams(town, _FIRST)
    town.cut_off(
        *("upgrade.yml", "-e", "pantau_version=0.3.0", *_TRIAL, "--limit", _FIRST),
        when=lambda: "this release is broken" in _journal(town, _FIRST),
    )
    assert _current(town, _FIRST) == "0.3.0"
    until(lambda: _current(town, _FIRST) == number(), _HEAL_S, "the old release")
    until(lambda: _status(town, _FIRST).startswith("connected"), _PROOF_S, "a connected agent")
    assert f"{number()} runs again" in _verdict(town, _FIRST)
    assert set(_streams(town, _FIRST)) == set(before)


def _current(town: Town, site: str) -> str:
    return town.on(site, "readlink", "/opt/pantau/current").strip()


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
