"""What refuses a card before anything is written, and how its system learns of its network."""

from __future__ import annotations

import fcntl
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

_ROLES = Path(__file__).parents[2] / "deploy" / "ansible" / "roles"
_CARD = _ROLES / "card" / "files" / "card.py"
_CA = _ROLES / "pki" / "files" / "ca.py"
_NETWORK = runpy.run_path(str(_CARD.with_name("network.py")))
_SITE = "bitung-0001"
_GROUPS = {
    "all": [_SITE, "bitung-0002"],
    "sites": [_SITE, "bitung-0002"],
    "district_maesa": [_SITE, "bitung-0002"],
}
Change = Callable[[dict[str, Any], Path], None]


def _asked(**given: object) -> dict[str, object]:
    return {"site": "", "card": "", "cards": "", "image": "", "out": "/out", "here": "/here",
            "groups": _GROUPS, **given}  # fmt: skip


def _run(verb: str, wanted: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_CARD), verb],
        input=json.dumps(wanted), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_sites_and_groups_become_one_image_each() -> None:
    told = json.loads(_run("list", _asked(site="district_maesa", image="/vendor.img")).stdout)
    assert told == [{"site": site, "card": f"/out/{site}.img"} for site in _GROUPS["sites"]]


def test_a_list_gives_each_site_its_card(tmp_path: Path) -> None:
    (tmp_path / "cards.csv").write_text(f"site,card\n{_SITE},{tmp_path}\nbitung-0002,\n")
    done = _run("list", _asked(cards="cards.csv", here=str(tmp_path), image="/vendor.img"))
    assert json.loads(done.stdout) == [
        {"site": _SITE, "card": str(tmp_path)},
        {"site": "bitung-0002", "card": "/out/bitung-0002.img"},
    ]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("bitung-0009,", "line 2: bitung-0009: is not in sites.csv; add its row"),
        (f"{_SITE},\n{_SITE},", f"line 3: {_SITE}: stands there twice; keep one of them"),
        (f"{_SITE},a.img\nbitung-0002,a.img", "a.img is another site's already; name a card"),
        ("", "say which by -e site=bitung-0001, or -e cards=cards.csv"),
    ],
)
def test_a_wrong_list_names_line_site_and_mend(tmp_path: Path, rows: str, fault: str) -> None:
    (tmp_path / "cards.csv").write_text(f"site,card\n{rows}\n")
    done = _run("list", _asked(cards="cards.csv", here=str(tmp_path), image="/vendor.img"))
    assert done.returncode == 1
    assert fault in done.stderr


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("site,card\nKöta,\n".encode("latin-1"), "not CSV in UTF-8: "),
        (f"site,card\n{_SITE},\n".encode("utf-16"), "not CSV in UTF-8: "),
        (f"site,card\n{_SITE},{'x' * 200_000}\n".encode(), "not CSV in UTF-8: field larger"),
        (None, "No such file or directory; correct -e cards=…"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_line(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    if content is not None:
        (tmp_path / "cards.csv").write_bytes(content)
    done = _run("list", _asked(cards="cards.csv", here=str(tmp_path), image="/vendor.img"))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path}/cards.csv: {fault}")


def test_a_card_that_is_not_there_needs_an_image() -> None:
    assert "mount the card, or name -e image=" in _run("list", _asked(site=_SITE)).stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    subprocess.run([sys.executable, str(_CA), str(folder), "init"], check=True, capture_output=True)
    return folder


@pytest.fixture
def wanted(tmp_path: Path, authority: Path) -> dict[str, Any]:
    """A site's card as it should be: a root folder with what a look looks at."""
    root, artifacts = tmp_path / "root", tmp_path / "artifacts"
    for name in ("etc/os-release", "lib/systemd/systemd", "usr/sbin/sshd",
                 "usr/sbin/NetworkManager", "usr/share/zoneinfo/Asia/Makassar"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "usr/bin").mkdir()
    (root / "usr/bin/python3.11").write_bytes(_elf(0xB7))
    (root / "usr/bin/python3").symlink_to("python3.11")
    artifacts.mkdir()
    _archive(artifacts / "pantau-0.1.0-agent-aarch64-py3.11.tar")
    return {
        "site": _SITE, "card": str(root), "image": "", "copies": 1, "version": "0.1.0",
        "artifacts": str(artifacts), "authority": str(authority), "ca": str(_CA), "days": 365,
        "broker": "centre.example", "spool_mb": 1, "network": {}, "timezone": "Asia/Makassar",
        "ssh_keys": ["ssh-ed25519 AAAA"], "files": [], "enable": [],
    }  # fmt: skip


def _elf(machine: int) -> bytes:
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little")


def _archive(file: Path) -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("agent/__init__.py", "")
    lock = f"pantau==0.1.0 --hash=sha256:{sha256(wheel.getvalue()).hexdigest()}\n".encode()
    with tarfile.open(file, "w") as tar:
        for name, content in (("pantau.whl", wheel.getvalue()), ("requirements.lock", lock)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_card_that_fits_is_not_refused(wanted: dict[str, Any]) -> None:
    done = _run("look", wanted)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["architecture"] == "aarch64"


def _another_machine(_: dict[str, Any], root: Path) -> None:
    (root / "usr/bin/python3.11").write_bytes(_elf(0x28))


def _another_site(wanted: dict[str, Any], root: Path) -> None:
    ask = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
           "-nodes", "-keyout", str(root / "key"), "-subj", "/CN=x"]  # fmt: skip
    request = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    sign = [sys.executable, str(_CA), wanted["authority"], "sign", "bitung-0002"]
    signed = subprocess.run(sign, input=request, capture_output=True, text=True, check=True).stdout
    (root / "key").unlink()
    (root / "etc/pantau").mkdir()
    (root / "etc/pantau/site.pem").write_text(signed)


def _with(**given: object) -> Change:
    return lambda wanted, _: wanted.update(given)


def _without(name: str) -> Change:
    return lambda _, root: (root / name).unlink()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_another_machine, "is armv7l with Python 3.11, and pantau-0.1.0-agent-armv7l-py3.11.tar"),
        (_another_site, "is bitung-0002's; take a fresh one, or say -e site=bitung-0002"),
        (_with(spool_mb=10**9), "MB free, and 10000000"),
        (_with(timezone="Asia/Bitung"), "no time zone 'Asia/Bitung'; correct it in sites.csv"),
        (_with(ssh_keys=[]), "nobody could log in; name public keys in flash_ssh_keys"),
        (_with(authority="/nowhere"), "no authority in /nowhere; run site.yml first"),
        (_with(card="/nowhere"), "is not there; mount the card, or correct -e image="),
        (_with(card="/nowhere.img", image="/nowhere"), "/nowhere is not there; mount the card"),
        (_with(network={"lte": {"apn": "internet"}}), "lte needs ModemManager"),
        (_without("etc/os-release"), "is no root of a system"),
        (_without("lib/systemd/systemd"), "has no systemd; take Raspberry Pi OS or Debian"),
        (_without("usr/sbin/sshd"), "has no ssh server"),
        (_without("usr/bin/python3"), "has no Python"),
        (_without("usr/sbin/NetworkManager"), "no resolver for centre.example; name dns"),
    ],
)
def test_what_speaks_against_a_card_is_said_with_site_and_mend(
    wanted: dict[str, Any], change: Change, fault: str
) -> None:
    root = Path(wanted["card"])
    change(wanted, root)
    before = sorted(root.rglob("*"))
    done = _run("write", wanted)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{_SITE}: ")
    assert fault in done.stderr
    assert sorted(root.rglob("*")) == before


def test_the_machine_that_flashes_is_no_card(wanted: dict[str, Any]) -> None:
    done = _run("look", {**wanted, "card": "/"})
    assert f"{_SITE}: / is this machine itself; name the card's folder" in done.stderr


def test_an_image_that_is_packed_or_was_cut_is_refused(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    packed = tmp_path / "vendor.img.xz"
    packed.write_bytes(b"\xfd7zXZ\x00" + bytes(4096))
    done = _run("write", {**wanted, "card": str(tmp_path / "new.img"), "image": str(packed)})
    assert "holds no partition with ext4; take the image of Raspberry Pi OS" in done.stderr
    assert not (tmp_path / "new.img").exists()


def test_an_authority_that_has_expired_signs_no_card(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(wanted["authority"], old)
    request = ("openssl", "req", "-new", "-key", str(old / "ca.key"), "-subj", "/CN=old")
    csr = subprocess.run(request, capture_output=True, text=True, check=True).stdout
    sign = ("openssl", "x509", "-req", "-signkey", str(old / "ca.key"), "-days", "0")
    pem = subprocess.run(sign, input=csr, capture_output=True, text=True, check=True).stdout
    (old / "ca.pem").write_text(pem)
    before = sorted(Path(wanted["card"]).rglob("*"))
    done = _run("write", {**wanted, "authority": str(old)})
    assert f"{_SITE}: {old}/ca.pem has expired, or does so within a day; move" in done.stderr
    assert sorted(Path(wanted["card"]).rglob("*")) == before


def test_images_that_the_disk_has_no_room_for_are_refused_before_the_first(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    image, new = tmp_path / "vendor.img", tmp_path / "new.img"
    image.write_bytes(bytes(2**20))
    done = _run("look", {**wanted, "card": str(new), "image": str(image), "copies": 10**9})
    assert f"{_SITE}: {tmp_path} has " in done.stderr
    assert "1000000000 images need " in done.stderr
    assert "make room, set flash_out to another disk, or flash fewer at a time" in done.stderr
    assert not new.exists()


def test_a_box_that_was_accepted_is_not_refused_at_a_later_card(
    wanted: dict[str, Any], tmp_path: Path
) -> None:
    # The images before it have taken the room that was there for all.
    image, new = tmp_path / "vendor.img", tmp_path / "new.img"
    image.write_bytes(bytes(2**20))
    done = _run("write", {**wanted, "card": str(new), "image": str(image), "copies": 10**9})
    assert "holds no partition with ext4" in done.stderr, "what is looked at after the room"


def test_a_card_that_another_run_still_writes_is_left_to_it(wanted: dict[str, Any]) -> None:
    root = Path(wanted["card"])
    before = sorted(root.rglob("*"))
    with_lock = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(with_lock, fcntl.LOCK_EX)
        done = _run("write", wanted)
    finally:
        os.close(with_lock)
    assert f"{_SITE}: {root} is still being written by another run; wait" in done.stderr
    assert sorted(root.rglob("*")) == before


def test_a_wheel_that_is_not_the_locked_one_is_refused(wanted: dict[str, Any]) -> None:
    archive = Path(wanted["artifacts"], "pantau-0.1.0-agent-aarch64-py3.11.tar")
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"agent/__init__.py", b"agent/__main__.py"))
    assert "a wheel is not the one that was locked; build it again" in _run("look", wanted).stderr


@pytest.mark.parametrize(
    ("network", "fault"),
    [
        ({"wlan": {}}, "wlan is unknown; take ethernet, wifi, lte"),
        ({"ethernet": {"ip": "x"}}, "ethernet.ip is unknown; take address, dns, gateway"),
        ({"ethernet": {"address": "192.168.1.2"}}, "ethernet.address needs its length"),
        ({"ethernet": {"address": "192.168.1.2/24", "gateway": "10.0.0.1"}}, "is not within"),
        ({"ethernet": {"gateway": "10.0.0.1"}}, "stands there without address"),
        ({"ethernet": {"dns": ["one"]}}, "ethernet: "),
        ({"wifi": {"password": "12345678"}}, "wifi.ssid has 1 to 32 bytes"),
        ({"wifi": {"ssid": "a", "password": "short"}}, "wifi.password has 8 to 63 letters"),
        ({"wifi": {"ssid": "a", "country": "id"}}, "wifi.country is two capital letters"),
        ({"wifi": {"ssid": "a\nb"}}, "wifi.ssid holds a control character"),
        ({"lte": {}}, "lte.apn is missing"),
        ({"ethernet": "dhcp"}, "ethernet is no table; write ethernet: {}"),
        ({"wifi": True}, "wifi is no table; write wifi: {}"),
        (["ethernet"], "pantau_network is no table; write {ethernet: {}}"),
        ({"ethernet": {"dns": "192.168.1.1"}}, "ethernet.dns is no list; write \\[192.168.1.1]"),
    ],
)
def test_a_network_that_no_system_would_take_is_refused(
    network: dict[str, Any], fault: str
) -> None:
    with pytest.raises(_NETWORK["NetworkError"], match=fault):
        _NETWORK["checked"](network)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("lte", "pin", 0),  # 0000
        ("lte", "pin", 83),  # 0123
        ("lte", "apn", 1.5),
        ("lte", "user", True),
        ("wifi", "password", 1402433619),  # 012345670123
        ("wifi", "ssid", False),  # off
        ("wifi", "country", False),  # NO
        ("ethernet", "address", 10),
        ("ethernet", "dns", [8]),
    ],
)
def test_what_yaml_takes_for_something_else_than_a_text_is_refused(
    kind: str, key: str, value: object
) -> None:
    given = {"wifi": {"ssid": "a"}, "lte": {"apn": "a"}}.get(kind, {})
    complaint = f"{kind}.{key} is a number or a switch to YAML; put it in quotes"
    with pytest.raises(_NETWORK["NetworkError"], match=complaint):
        _NETWORK["checked"]({kind: {**given, key: value}})


_WIFI = {"wifi": {"ssid": "Kantor; 1", "password": " a\\b 12345"}}


def test_network_manager_gets_a_keyfile_a_link() -> None:
    links = _NETWORK["checked"](
        {"ethernet": {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "dns": ["10.0.0.1"]},
         **_WIFI, "lte": {"apn": "internet", "user": "u"}}
    )  # fmt: skip
    files = {Path(file.path).name: file for file in _NETWORK["network_manager"](_SITE, links)}
    assert {file.mode for file in files.values()} == {0o600}
    cable = files["pantau-ethernet.nmconnection"].content
    assert "method=manual\naddress1=10.0.0.2/24\ngateway=10.0.0.1\ndns=10.0.0.1;\n" in cable
    radio = files["pantau-wifi.nmconnection"].content
    assert "ssid=75;97;110;116;111;114;59;32;49;\n" in radio
    assert "psk=\\sa\\\\b 12345\n" in radio
    assert "[gsm]\napn=internet\nusername=u\n" in files["pantau-lte.nmconnection"].content


def test_networkd_gets_a_file_a_link_and_the_supplicant_its_own() -> None:
    links = _NETWORK["checked"]({"ethernet": None, **_WIFI})
    files = {Path(file.path).name: file for file in _NETWORK["networkd"](links)}
    cable = files["10-pantau-ethernet.network"].content
    assert cable.startswith("[Match]\nType=ether\n\n[Network]\nDHCP=yes\n")
    radio = files["wpa_supplicant-wlan0.conf"]
    assert radio.mode == 0o600
    assert 'ssid=4b616e746f723b2031\n\tscan_ssid=1\n\tpsk=" a\\b 12345"' in radio.content


def test_a_release_for_another_machine_is_laid_out_as_its_own_pip_would(
    wanted: dict[str, Any],
) -> None:
    wheels = runpy.run_path(str(_CARD.with_name("wheels.py")))
    archive = Path(wanted["artifacts"], "pantau-0.1.0-agent-aarch64-py3.11.tar")
    folder = Path(wanted["card"], "opt/pantau/0.1.0")
    wheels["install"](archive, folder, "/opt/pantau/0.1.0", "3.11")
    assert (folder / "lib/python3.11/site-packages/agent/__init__.py").exists()
    assert str((folder / "bin/python3").readlink()) == "/usr/bin/python3"
    digest = sha256(archive.read_bytes()).hexdigest()
    assert (folder / ".complete-agent").read_text().strip() == digest


@pytest.mark.parametrize("mark", ["", "0" * 64])
def test_a_card_that_has_the_version_from_another_archive_is_refused(
    wanted: dict[str, Any], mark: str
) -> None:
    folder = Path(wanted["card"], "opt/pantau/0.1.0")
    folder.mkdir(parents=True)
    archive = Path(wanted["artifacts"], "pantau-0.1.0-agent-aarch64-py3.11.tar")
    (folder / ".complete-agent").write_text(f"{sha256(archive.read_bytes()).hexdigest()}\n")
    assert _run("look", wanted).returncode == 0
    (folder / ".complete-agent").write_text(mark)
    done = _run("write", wanted)
    assert done.returncode == 1
    assert f"{_SITE}: has a 0.1.0 of another archive than this {archive.name}; give" in done.stderr
    assert [path.name for path in folder.iterdir()] == [".complete-agent"]
