"""A card that was flashed needs nothing at its first boot; another device takes a site over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.deploy.controller import changed
from tests.deploy.images import partitioned, root_begin
from tests.deploy.machines import Machine, root_file_system
from tests.deploy.town import EVERY_S, SITES, Town
from tests.lab.net import Namespace, sh
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_SITE = SITES[0]
_BOOT_MB, _ROOT_MB = 16, 900
_COMMISSIONED_S = 120.0


class Card(Machine):
    """A machine that boots from the root partition of an image, and from nothing else."""

    image: Path

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True)
        sh("mount", "-o", f"loop,offset={root_begin(_BOOT_MB)}", str(self.image), str(self.root))
        try:
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre alone; the sites' machines come later."""
    with Town(tmp_path_factory.mktemp("town"), sites=(), mitogen=True) as built:
        built.play("site.yml", "--limit", "centre")
        yield built


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a vendor ships: a boot and a root partition; keys, names and network are nobody's."""
    folder = tmp_path_factory.mktemp("image")
    file = folder / "vendor.img"
    partitioned(file, root_file_system(), boot_mb=_BOOT_MB, root_mb=_ROOT_MB)
    return file


@pytest.fixture(scope="module")
def flashed(town: Town, image: Path) -> Path:
    """The site's own image, as one command leaves it."""
    (town.inventory / "host_vars" / f"{_SITE}.yml").write_text(
        "ansible_host: 10.81.2.2\n"
        "pantau_network: {ethernet: {address: 10.81.2.2/24, gateway: 10.81.2.1}}\n"
        "pantau_site_timezone: Asia/Jayapura\n"
    )
    said = town.play("flash.yml", "-e", f"site={_SITE}", "-e", f"image={image}", *_flash(town))
    card = town.folder / "cards" / f"{_SITE}.img"
    assert f"card 1 of 1, {_SITE}: is {card}" in " ".join(said.split())
    return card


@pytest.fixture(scope="module")
def device(town: Town, flashed: Path) -> Iterator[Machine]:
    """A device with that card in it, switched on; no play has seen it."""
    network: Namespace = town.network(_SITE)
    device = Card(_SITE, town.folder / "flashed", network, "")
    device.image = flashed
    with device:
        town.machines[_SITE] = device
        yield device


@pytest.fixture(scope="module")
def another(town: Town, device: Machine) -> Iterator[Machine]:
    """A second device at the site, as it comes: the first one is broken and switched off."""
    stolen = town.machines["centre"].root / "root/old"
    stolen.mkdir()
    for name in ("site.key", "site.pem"):
        shutil.copy(device.root / "etc/pantau" / name, stolen / name)
    device.halt()
    cable = next(link for link in device.network.links() if link != "lo")
    device.network.ip("addr", "replace", "10.81.2.2/24", "dev", cable)
    device.network.route("default", "10.81.2.1")
    public = (town.folder / "id.pub").read_text()
    with Machine(_SITE, town.folder / "another", device.network, public) as machine:
        town.machines[_SITE] = machine
        # What ssh keeps open leads to the machine that is gone.
        shutil.rmtree(town.folder / "cp", ignore_errors=True)
        yield machine


def _old_key(town: Town) -> str:
    """What the broker says to the first device's key, without a word on any topic of ours."""
    return town.on(
        *("centre", "mosquitto_pub", "--host", "10.81.1.2", "--port", "8883", "--qos", "1"),
        *("--cafile", "/etc/pantau/deploy/ca.pem", "--cert", "/root/old/site.pem"),
        *("--key", "/root/old/site.key", "--id", _SITE, "--topic", "nothing", "--message", "x"),
        *("&&", "echo", "accepted", "||", "echo", "refused"),
    ).strip()


def _streams(town: Town) -> set[str]:
    lines = town.on(_SITE, "pantau-agent", "spool").splitlines()
    return {line.split()[0] for line in lines}


def _flash(town: Town) -> tuple[str, ...]:
    return ("-e", f"flash_out={town.folder}/cards", "-e", f"flash_known_hosts={town.folder}/known")


def _online(town: Town) -> bool:
    status = json.loads(town.on("centre", "pantau", "status", "--json"))
    return int(status["online"]) == 1


def test_a_second_run_changes_nothing_and_another_site_does_not_get_the_card(
    town: Town, flashed: Path
) -> None:
    assert changed(town.play("flash.yml", "-e", f"site={_SITE}", *_flash(town))) == []
    said = town.play(
        "flash.yml", "-e", f"site={SITES[1]}", "-e", f"card={flashed}", *_flash(town), expect=2
    )
    assert f"{SITES[1]}: {flashed} is {_SITE}'s" in " ".join(said.split())


def test_a_flashed_card_commissions_itself_at_its_first_boot(town: Town, device: Machine) -> None:
    until(lambda: _online(town), _COMMISSIONED_S, f"{_SITE} online\n{device.journal()}", EVERY_S)
    assert town.on(_SITE, "hostname").strip() == _SITE
    assert town.on(_SITE, "date", "+%Z").strip() == "WIT"
    assert "passwordauthentication no" in town.on(_SITE, "sshd", "-T")
    key = (town.folder / "known").read_text().split()[2]
    assert key in town.on(_SITE, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
    assert town.on(_SITE, "stat", "-c", "%U:%a", "/etc/pantau/site.key").strip() == "root:600"


@pytest.mark.usefixtures("device")
def test_a_play_finds_nothing_to_change_on_a_flashed_device(town: Town) -> None:
    said = town.play("agent.yml", "--limit", _SITE)
    assert f"{_SITE}: commissioned, online" in said
    assert changed(said) == []


def test_a_swapped_device_is_one_command_and_the_old_ones_key_is_refused(
    town: Town, request: pytest.FixtureRequest
) -> None:
    old = request.getfixturevalue("device")
    streams, certificate = _streams(town), (old.root / "etc/pantau/site.pem").read_text()
    new = request.getfixturevalue("another")
    assert _old_key(town) == "accepted"
    assert f"{_SITE}: commissioned, online" in town.play("swap.yml", "-e", f"site={_SITE}")
    assert _old_key(town) == "refused"
    assert (new.root / "etc/pantau/site.pem").read_text() != certificate
    assert streams
    assert not _streams(town) & streams
