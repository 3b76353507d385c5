"""A card for arm64, made on this machine as on any controller, commissions a board by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import arm64
from tests.deploy.controller import changed
from tests.deploy.town import EVERY_S, SITES, Town
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_SITE = SITES[0]
# An emulated board takes many times as long as a real one, and other tests run beside it.
_ONLINE_S = 900.0
_NETWORK = {
    "ethernet": {"address": "10.81.2.2/24", "gateway": "10.81.2.1"},
    "wifi": {"ssid": "Kantor; 1 \\é", "password": " a\\b;12345 "},
    "lte": {"apn": "internet", "user": "u;1", "password": "p\\w", "pin": "0123"},
}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre alone, and archives as an operator builds them; the board comes later."""
    if lacking := arm64.missing():
        pytest.skip(f"needs {' '.join(lacking)}: apt-get install {' '.join(lacking)}")
    folder = tmp_path_factory.mktemp("town")
    with Town(folder, sites=(), further=("aarch64",), mitogen=True) as built:
        built.play("site.yml", "--limit", "centre")
        (built.inventory / "host_vars" / f"{_SITE}.yml").write_text(
            "ansible_host: 10.81.2.2\n"
            f"pantau_network: {json.dumps(_NETWORK)}\n"
            "pantau_site_timezone: Asia/Jayapura\n"
            "pantau_agent_window_s: 10\n"
        )
        yield built


@pytest.fixture(scope="module")
def card(town: Town) -> Path:
    """The site's own image, as one command leaves it."""
    vendor = town.folder / "vendor.img"
    arm64.vendor_image(vendor)
    said = town.play(
        "flash.yml", "-e", f"site={_SITE}", "-e", f"image={vendor}",
        "-e", f"flash_out={town.folder}/cards", "-e", f"flash_known_hosts={town.folder}/known",
    )  # fmt: skip
    image = town.folder / "cards" / f"{_SITE}.img"
    told = " ".join(said.split())
    assert f"card 1 of 1, {_SITE}: is {image}: " in told
    assert "for aarch64, ethernet, wifi, lte, Asia/Jayapura" in told
    return image


@pytest.fixture(scope="module")
def board(town: Town, card: Path) -> Iterator[arm64.Board]:
    """A board with that card in it, switched on; no play has seen it."""
    network = town.network(_SITE)
    with arm64.Board(_SITE, town.folder / "board", network, card) as board:
        town.machines[_SITE] = board
        yield board


def _read(town: Town, name: str, field: str) -> str:
    """One field of a connection, as NetworkManager on the board understood its file."""
    return town.on(
        _SITE, "nmcli", "-s", "-e", "no", "-g", field, "connection", "show", name
    ).rstrip("\n")


def _online(town: Town) -> bool:
    status = json.loads(town.on("centre", "pantau", "status", "--json"))
    return int(status["online"]) == 1


def test_a_flashed_arm64_card_commissions_itself_at_its_first_boot(
    town: Town, board: arm64.Board
) -> None:
    until(lambda: board.is_on() and _online(town), _ONLINE_S, f"{_SITE} online", EVERY_S)
    assert town.on(_SITE, "uname", "-m").strip() == "aarch64"
    assert town.on(_SITE, "hostname").strip() == _SITE
    assert town.on(_SITE, "systemctl", "--failed", "--plain", "--no-legend") == ""
    active = town.on(_SITE, "nmcli", "-g", "NAME", "connection", "show", "--active")
    assert "pantau-ethernet" in active.split()
    assert town.on(_SITE, "date", "+%Y-%Z").strip() > "2025"


@pytest.mark.usefixtures("board")
def test_network_manager_on_the_board_read_every_link_of_the_card(town: Town) -> None:
    wifi, lte = _NETWORK["wifi"], _NETWORK["lte"]
    assert _read(town, "pantau-ethernet", "ipv4.addresses") == "10.81.2.2/24"
    assert _read(town, "pantau-wifi", "802-11-wireless.ssid") == wifi["ssid"]
    assert _read(town, "pantau-wifi", "802-11-wireless-security.psk") == wifi["password"]
    assert _read(town, "pantau-lte", "gsm.apn") == lte["apn"]
    assert _read(town, "pantau-lte", "gsm.username") == lte["user"]
    assert _read(town, "pantau-lte", "gsm.password") == lte["password"]
    assert _read(town, "pantau-lte", "gsm.pin") == lte["pin"]


@pytest.mark.usefixtures("board")
def test_a_play_finds_nothing_to_change_on_a_flashed_board(town: Town) -> None:
    said = town.play("agent.yml", "--limit", _SITE)
    assert f"{_SITE}: commissioned, online" in said
    assert changed(said) == []
