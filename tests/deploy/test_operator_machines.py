"""The operator's page, followed on booted machines: a centre from its birth to its move.

Each test goes on from where the one before left it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.machines import CACHE, Machine, making
from tests.deploy.releases import another, number
from tests.deploy.town import EVERY_S, SITES, Town
from tests.lab.net import sh
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_PAGE = Path(__file__).parents[2] / "docs" / "operator.md"
_NAME, _OLD, _NEXT = "broker.pantau.test", "centre", "centre-2"
_PACKAGES = ("fping", "netbase", "python3-apt", "python-apt-common", "distro-info-data")
"""What the play installs by apt, and what that needs beyond the root file system."""
_S = 180.0
_PINGED = """
import sqlite3
rows = sqlite3.connect("file:/var/lib/pantau/pantau.db?mode=ro", uri=True).execute(
    "SELECT site, answered FROM witnessed")
print(sorted(set(rows)))
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Machines with Debian and nothing else; the broker has a name that can move."""
    with Town(tmp_path_factory.mktemp("town"), also=(_NEXT,)) as built:
        name_leads_to(built, "10.81.1.2", *built.machines)
        for centre in (_OLD, _NEXT):
            package_index(built.machines[centre], *_PACKAGES)
        for name in ("server", "agent"):
            another(built.folder / "artifacts", "0.2.0", part=name)
        for version in (number(), "0.2.0"):  # nobody here installs it
            (built.folder / f"artifacts/pantau-{version}-agent-aarch64-py3.11.tar").touch()
        yield built


def name_leads_to(town: Town, address: str, *machines: str) -> None:
    """What a DNS would say."""
    for machine in machines:
        hosts = town.machines[machine].root / "etc/hosts"
        text = hosts.read_text() if hosts.exists() else "127.0.0.1 localhost\n"
        lines = [line for line in text.splitlines() if _NAME not in line]
        hosts.write_text("\n".join([*lines, f"{address} {_NAME}", ""]))


def package_index(machine: Machine, *packages: str) -> None:
    """A package index on the machine itself, since it reaches no other."""
    kept = CACHE / "debs"
    with making("debs"):
        for package in packages:
            if not list(kept.glob(f"{package}_*.deb")):
                kept.mkdir(exist_ok=True)
                sh("sh", "-euc", f"cd {kept} && apt-get -qq download {package}")
    index = machine.root / "srv/debs"
    index.mkdir(parents=True)
    entries = []
    for package in packages:
        [deb] = kept.glob(f"{package}_*.deb")
        shutil.copy(deb, index / f"{package}.deb")
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        entries.append(
            f"{sh('dpkg-deb', '-f', str(deb)).strip()}\nFilename: ./{package}.deb\n"
            f"Size: {deb.stat().st_size}\nSHA256: {digest}\n"
        )
    (index / "Packages").write_text("\n".join(entries))
    sources = machine.root / "etc/apt/sources.list"
    sources.write_text("deb [trusted=yes] file:/srv/debs ./\n")


def block(part: str, by: str = "test_operator_machines") -> str:
    """The commands that stand under this mark of the page."""
    [found] = re.findall(
        rf"^ *<!-- followed by tests/deploy/{by}.py: {part} -->\n *```sh\n(.*?)^ *```",
        _PAGE.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    return str(found)


def follow_as_root(town: Town, machine: str, commands: str) -> str:
    """Run a block of the page on a machine."""
    script = town.machines[machine].root / "root/followed.sh"
    script.write_text(commands)
    return town.on(machine, "bash -eu /root/followed.sh")


def online(town: Town, centre: str) -> list[str]:
    status = json.loads(town.on(centre, "pantau status --json"))
    return [row["site"] for row in status["sites"] if row["status"] == "online"]


def readings(town: Town, centre: str, site: str) -> list[dict[str, Any]]:
    lines = town.on(centre, "pantau", "readings", site, "--json").splitlines()
    return [json.loads(line) for line in lines]


def test_install_sets_up_everything_with_a_witness_for_a_site_that_has_an_address(
    town: Town,
) -> None:
    checkout = town.checkout()
    city = checkout / "deploy/ansible/inventory/city"
    city.unlink()
    copying, rest = block("install").split("ansible-playbook", 1)
    town.follow(copying, checkout)
    shutil.rmtree(city)  # "edit these"
    city.symlink_to(town.inventory)
    csv = town.inventory / "sites.csv"
    header, first, *others = csv.read_text().splitlines()
    csv.write_text(
        "\n".join([f"{header},address", f"{first},10.81.2.2", *(f"{row}," for row in others), ""])
    )
    variables = town.inventory / "group_vars/all.yml"
    text = variables.read_text().replace("host: 10.81.1.2", f"host: {_NAME}")
    assert _NAME in text
    variables.write_text(f"{text}  [witness]\n  every_s = 1\n")

    said = town.follow(f"ansible-playbook{rest}", checkout / "deploy/ansible")
    for site in SITES:
        assert f"{site}: commissioned, online" in said

    assert town.on(_OLD, "systemctl is-active pantau-witness").strip() == "active"
    assert town.on(_OLD, "systemctl is-enabled pantau-witness").strip() == "enabled"
    seen = f"[('{SITES[0]}', 1)]"
    (town.machines[_OLD].root / "root/pinged.py").write_text(_PINGED)
    until(
        lambda: town.on(_OLD, "python3 /root/pinged.py").strip() == seen, _S, "an answer", EVERY_S
    )
    pid = town.on(_OLD, "systemctl show -P MainPID pantau-witness").strip()
    assert town.on(_OLD, f"stat -c %U /proc/{pid}").strip() == "pantau"


def test_upgrade_brings_the_centre_and_then_the_sites_to_the_new_checkout(town: Town) -> None:
    follow_as_root(town, _OLD, block("back up", "test_operator"))
    new = town.folder / "checkout-new"
    shutil.copytree(town.checkout(), new, symlinks=True)
    source = new / "agent/__init__.py"
    source.write_text(source.read_text().replace(number(), "0.2.0"))
    said = " ".join(town.follow(block("upgrade"), new / "deploy/ansible").split())

    for site in SITES:
        assert f"{site}: 0.2.0 proved itself" in said
    for machine in (_OLD, *SITES):
        assert town.on(machine, "readlink /opt/pantau/current").strip() == "0.2.0"
    assert town.on(_OLD, "systemctl is-active pantau-witness").strip() == "active"
    until(lambda: online(town, _OLD) == list(SITES), _S, "both sites to be online", EVERY_S)
    assert town.on(_OLD, "pantau incidents --json").strip() == ""


def test_move_takes_everything_to_a_new_machine_and_nothing_is_missing(town: Town) -> None:
    checkout = town.folder / "checkout-new/deploy/ansible"
    file = town.inventory / "centre.yml"
    file.write_text(file.read_text().replace("centre", _NEXT).replace("10.81.1.2", "10.81.4.2"))
    follow_as_root(town, _OLD, block("leave"))
    follow_as_root(town, _OLD, block("back up", "test_operator"))
    before = {site: readings(town, _OLD, site) for site in SITES}
    assert all(before.values())

    town.follow(block("move"), checkout)
    backups = "var/backups/pantau"
    shutil.copytree(town.machines[_OLD].root / backups, town.machines[_NEXT].root / backups)
    said = follow_as_root(town, _NEXT, block("restore", "test_operator"))
    assert "restored, as of" in said
    name_leads_to(town, "10.81.4.2", *SITES, _NEXT)

    until(lambda: online(town, _NEXT) == list(SITES), _S, "both sites to be online", EVERY_S)
    for site in SITES:
        newest = before[site][-1]
        until(
            lambda s=site, n=newest: readings(town, _NEXT, s)[-1]["taken_at"] > n["taken_at"],
            _S, f"readings of {site}", EVERY_S,
        )  # fmt: skip
        # The newest comes first, and what was taken meanwhile behind it.
        until(lambda s=site: _is_whole(readings(town, _NEXT, s)), _S, "what is between", EVERY_S)
        known = {row["stream"] for row in before[site]}
        found = {row["stream"] for row in readings(town, _NEXT, site)}
        assert found == known, "no device began anew"
    assert town.on(_NEXT, "systemctl is-active pantau-ingest").strip() == "active"
    assert town.on(_OLD, "systemctl is-active pantau-ingest mosquitto || true").split() == [
        "inactive", "inactive",
    ]  # fmt: skip


def _is_whole(rows: list[dict[str, Any]]) -> bool:
    """Each stream from its first reading on, and each once."""
    streams: dict[str, list[int]] = {}
    for row in rows:
        streams.setdefault(row["stream"], []).append(row["seq"])
    return all(sorted(seqs) == list(range(1, len(seqs) + 1)) for seqs in streams.values())
