"""A box of cards in one play: looked at together, written one by one, cut off, and run again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import changed, recap
from tests.deploy.images import partitioned, root_begin
from tests.deploy.machines import root_file_system
from tests.deploy.town import SITES, Town
from tests.lab.net import sh

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_CA = Path(__file__).parents[2] / "deploy" / "ansible" / "roles" / "pki" / "files" / "ca.py"
_BOOT_MB, _ROOT_MB = 16, 900
_IMAGE_SITE, _CARD_SITE = SITES
_WALK = "a password of the radio"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A controller with its authority and archives; no device takes part."""
    with Town(tmp_path_factory.mktemp("town"), sites=(), mitogen=True) as built:
        init = [sys.executable, str(_CA), str(built.inventory / "pki"), "init"]
        subprocess.run(init, check=True, capture_output=True)
        yield built


@pytest.fixture(scope="module")
def vendor(town: Town) -> Path:
    """The image of the system."""
    file = town.folder / "vendor.img"
    partitioned(file, root_file_system(), boot_mb=_BOOT_MB, root_mb=_ROOT_MB)
    return file


@pytest.fixture(scope="module")
def mounted(town: Town, vendor: Path) -> Iterator[Path]:
    """The root of a card that is in the controller's reader."""
    image, folder = town.folder / "card.img", town.folder / "mounted"
    sh("cp", "--sparse=always", str(vendor), str(image), within_s=300)
    folder.mkdir()
    sh("mount", "-o", f"loop,offset={root_begin(_BOOT_MB)}", str(image), str(folder))
    yield folder
    sh("umount", str(folder))


@pytest.fixture(scope="module")
def box(town: Town, mounted: Path) -> Path:
    """The list: one site gets an image, the other a card."""
    file = town.folder / "cards.csv"
    file.write_text(f"site,card\n{_IMAGE_SITE},\n{_CARD_SITE},{mounted}\n")
    return file


def _flash(town: Town, box: Path, vendor: Path, *further: str, expect: int = 0) -> str:
    return town.play("flash.yml", *_arguments(town, box, vendor), *further, expect=expect)


def _arguments(town: Town, box: Path, vendor: Path) -> tuple[str, ...]:
    return (
        *("-e", f"cards={box}", "-e", f"image={vendor}", "-e", f"flash_out={town.folder}/cards"),
        *("-e", f"flash_known_hosts={town.folder}/known", "-e", "flash_at_once=1"),
    )


def _state(folder: Path) -> dict[str, str]:
    """All that lies there: paths with kinds, modes and contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        what = str(path.readlink()) if path.is_symlink() else ""
        if path.is_file() and not path.is_symlink():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path)] = f"{about.st_mode:o} {about.st_uid} {what}"
    return found


def _image(town: Town) -> Path:
    return town.folder / "cards" / f"{_IMAGE_SITE}.img"


def test_one_bad_card_stops_all_before_anything_is_written(
    town: Town, vendor: Path, mounted: Path, tmp_path: Path
) -> None:
    before = _state(mounted)
    packed = tmp_path / "packed.img"
    packed.write_bytes(b"\xfd7zXZ\x00" + bytes(4096))
    bad = tmp_path / "bad.csv"
    bad.write_text(f"site,card\n{_CARD_SITE},{mounted}\n{_IMAGE_SITE},{packed}\n")
    said = _flash(town, bad, vendor, expect=2)
    assert f"{_IMAGE_SITE}: {packed}: holds no partition with ext4" in " ".join(said.split())
    assert "Write the card" not in said
    assert _state(mounted) == before


def test_a_check_says_what_would_change_and_writes_nothing(
    town: Town, vendor: Path, mounted: Path, box: Path
) -> None:
    before, signed = _state(mounted), _state(town.inventory / "pki")
    said = _flash(town, box, vendor, "--check", "--diff")
    told = " ".join(said.split())
    for number, site in enumerate((_IMAGE_SITE, _CARD_SITE), 1):
        assert f"card {number} of 2, {site}: would be " in told
        assert f"+{site}" in told
    assert "/etc/pantau/agent.toml: not shown, since it is for root alone" in told
    assert _state(mounted) == before
    assert _state(town.inventory / "pki") == signed
    assert not (town.folder / "cards").exists()
    assert not (town.folder / "known").exists()
    listed = _flash(town, box, vendor, "--check")
    assert listed.count("- /etc/pantau/site.key") == 2


def test_a_run_that_was_cut_off_leaves_no_half_image_and_is_run_again(
    town: Town, vendor: Path, mounted: Path, box: Path
) -> None:
    unfinished = _image(town).with_name(f".{_IMAGE_SITE}.img.unfinished")
    town.cut_off("flash.yml", *_arguments(town, box, vendor), when=unfinished.exists)
    assert unfinished.exists()
    assert not _image(town).exists()
    said = _flash(town, box, vendor)
    told = " ".join(said.split())
    assert f"card 1 of 2, {_IMAGE_SITE}: is {_image(town)}: " in told
    assert f"card 2 of 2, {_CARD_SITE}: is {mounted}: " in told
    assert [path.name for path in _image(town).parent.iterdir()] == [_image(town).name]
    subject = ("openssl", "x509", "-noout", "-subject", "-in", str(mounted / "etc/pantau/site.pem"))
    assert _CARD_SITE in sh(*subject)
    # A card's line comes when that card is done, and not with the last.
    assert said.index("card 1 of 2") < said.rindex("changed: [")


def test_a_second_run_and_a_check_after_it_change_nothing(
    town: Town, vendor: Path, mounted: Path, box: Path
) -> None:
    before = _state(mounted)
    for further in ((), ("--check", "--diff")):
        said = _flash(town, box, vendor, *further)
        assert changed(said) == []
        assert {site: recap(said)[site]["changed"] for site in SITES} == dict.fromkeys(SITES, 0)
        assert "would be" not in said
        assert "@@" not in said
    assert _state(mounted) == before


def test_what_is_new_shows_beforehand_and_no_password_with_it(
    town: Town, vendor: Path, mounted: Path, box: Path
) -> None:
    single = box.with_name("one.csv")
    single.write_text(f"site,card\n{_CARD_SITE},{mounted}\n")
    new = (
        "-e",
        "flash_timezone=Asia/Jayapura",
        "-e",
        f'{{"pantau_agent_walk_password": "{_WALK}"}}',
        "-e",
        "flash_known_hosts=",  # empty: nowhere
    )
    known = (town.folder / "known").read_text()
    planned = _flash(town, single, vendor, "--check", "--diff", *new)
    assert "-Asia/Makassar" in planned
    assert "+Asia/Jayapura" in planned
    assert "/etc/pantau/walk.password: not shown" in planned
    written = _flash(town, single, vendor, *new)
    tasks = [
        [one for one in changed(said) if "Write the card" in one] for said in (planned, written)
    ]
    assert tasks[0] == tasks[1] != []
    assert _WALK not in planned + written
    assert (mounted / "etc/timezone").read_text() == "Asia/Jayapura\n"
    assert (town.folder / "known").read_text() == known
