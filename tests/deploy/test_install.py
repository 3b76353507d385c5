"""The playbooks against booted machines: from nothing to commissioned, and again."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import changed, recap
from tests.deploy.releases import UNHEARD, archive, number
from tests.deploy.town import EVERY_S, SITES, Town
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]


_BACK_S = 60.0
_HASTY = """
import socket, sys

asked = [socket.socket() for _ in range(300)]
for one in asked:
    one.setblocking(False)
    one.connect_ex(("10.81.1.2", 8883))
print("asked", flush=True)
sys.stdin.read()
"""
_ONCE = "import socket; socket.create_connection(('10.81.1.2', 8883), timeout=25).close()"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre and the sites as one play leaves them; each test goes on from there."""
    with Town(tmp_path_factory.mktemp("town")) as built:
        first = built.play("site.yml")
        for site in SITES:
            assert f"{site}: commissioned, online" in first
        yield built


def test_a_second_run_changes_nothing(town: Town) -> None:
    said = town.play("site.yml")
    assert changed(said) == []
    assert set(SITES) < set(recap(said))


def test_a_dry_run_of_what_is_there_would_change_nothing(town: Town) -> None:
    assert changed(town.play("site.yml", "--check", "--diff")) == []


def test_the_operator_sees_both_sites_online(town: Town) -> None:
    status = json.loads(town.on("centre", "pantau", "status", "--json"))
    assert status["online"] == len(status["sites"]) == len(SITES)


def test_what_a_machine_installs_are_the_releases_that_the_tests_ran_with(town: Town) -> None:
    tested = {line.strip() for line in Path("constraints.txt").read_text().splitlines()}
    for each in (town.folder / "artifacts").glob("*.tar"):
        with tarfile.open(each) as tar:
            lock = tar.extractfile("./requirements.lock")
            assert lock is not None
            pinned = [line.decode().split()[0] for line in lock if not line.startswith(b"pantau==")]
        named = {line.replace("-", "_").lower() for line in tested}
        assert pinned
        assert [line for line in pinned if line.replace("-", "_").lower() not in named] == []


def test_keys_are_readable_by_root_alone_and_the_services_are_not_root(town: Town) -> None:
    site = SITES[0]
    assert town.on(site, "stat", "-c", "%U:%a", "/etc/pantau/site.key").strip() == "root:600"
    assert town.on(site, "stat", "-c", "%U:%a", "/etc/pantau").strip() == "root:700"
    assert town.on("centre", "stat", "-c", "%U:%a", "/etc/pantau/ingest.key").strip() == "root:600"
    for name, unit in ((site, "pantau-agent"), ("centre", "pantau-ingest")):
        pid = town.on(name, "systemctl", "show", "-P", "MainPID", unit).strip()
        assert town.on(name, "stat", "-c", "%u", f"/proc/{pid}").strip() != "0"
    assert "PRIVATE KEY" not in town.on(site, "journalctl", "--no-pager", "-q")


def test_a_scan_of_all_ports_finds_only_what_is_meant(town: Town) -> None:
    for name, meant in ((SITES[0], {22}), ("centre", {22, 8883})):
        assert town.open_ports(name) == meant
        listening = town.on(name, "ss", "-Hltn").splitlines()
        assert {int(line.split()[3].rpartition(":")[2]) for line in listening} == meant
        # Nobody answers by UDP, at any address.
        assert town.on(name, "ss", "-Hlun").strip() == ""


def test_who_connects_too_fast_waits_and_hinders_nobody(town: Town) -> None:
    hasty, other = (town.machines[site].network for site in SITES)
    assert _dropped(town) == [0, 0, 0], "a fleet of two is not too fast"
    ask = (sys.executable, "-c", _HASTY)
    with hasty.popen(*ask, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "asked\n"
        assert _dropped(town)[0] > 0
        other.run(sys.executable, "-c", _ONCE)
        assert _dropped(town)[1:] == [0, 0], "of one address alone"
        process.communicate("")
    hasty.run(sys.executable, "-c", _ONCE)

    town.on("centre", "systemctl restart nftables")  # "flush ruleset"
    until(lambda: "@hasty4" in town.on("centre", "nft list ruleset"), _BACK_S, "the bound")


def _dropped(town: Town) -> list[int]:
    """Connections that the centre dropped: of one address by IPv4, by IPv6, of all together."""
    table = town.on("centre", "nft list table inet pantau_broker")
    return [int(count) for count in re.findall(r"counter packets (\d+)", table)]


def test_every_table_of_the_agent_can_be_set_and_a_wrong_key_stops_the_play(town: Town) -> None:
    site = SITES[0]
    before = town.on(site, "cat", "/etc/pantau/agent.toml")
    assert "[settings]\ntrial_s = 300\n" in before
    wrong = json.dumps(
        {"pantau_agent_tables": {"throughput": {"method": "speedtest", "per_dya": 1}}}
    )
    said = town.play("agent.yml", "--limit", site, "-e", wrong, expect=2)
    assert "throughput.per_dya: unknown key" in said
    assert town.on(site, "cat", "/etc/pantau/agent.toml") == before
    assert town.on(site, "systemctl", "is-active", "pantau-agent").strip() == "active"


def test_a_wrong_key_for_ingest_stops_the_play_and_the_centre_runs_on(town: Town) -> None:
    before = town.on("centre", "cat", "/etc/pantau/server.toml")
    process = town.on("centre", "systemctl", "show", "-P", "MainPID", "pantau-ingest")
    wrong = json.dumps({"server_further_toml": "[health]\nofline_confirm_s = 2\n"})
    said = " ".join(town.play("site.yml", "--limit", "centre", "-e", wrong, expect=2).split())
    assert "health.ofline_confirm_s: unknown key; [health] takes" in said
    assert town.on("centre", "cat", "/etc/pantau/server.toml") == before
    assert "tried" not in town.on("centre", "ls", "/etc/pantau")
    assert town.on("centre", "systemctl", "show", "-P", "MainPID", "pantau-ingest") == process


def test_a_killed_agent_comes_back(town: Town) -> None:
    town.on(SITES[1], "systemctl", "kill", "-s", "KILL", "pantau-agent")
    checked = town.play("agent.yml", "--limit", SITES[1])
    assert f"{SITES[1]}: commissioned, online" in checked


def test_a_device_that_the_centre_hears_no_reading_of_is_not_commissioned(town: Town) -> None:
    site = SITES[1]
    town.on(site, "systemctl kill -s KILL pantau-agent && systemctl stop pantau-agent")
    until(lambda: _status(town, site) == "offline", _BACK_S, "the site to be told offline", EVERY_S)
    [module] = UNHEARD
    [source] = town.machines[site].root.glob(f"opt/pantau/{number()}/lib/*/site-packages/{module}")
    right = source.read_text()
    source.write_text(right + UNHEARD[module])
    try:
        town.on(site, "systemctl start pantau-agent")
        asked = ("agent.yml", "--limit", site, "-e", "commission_within_s=20")
        said = town.play(*asked, expect=2)
    finally:
        source.write_text(right)
    words = " ".join(said.split())
    assert f"{site}: NOT commissioned: the centre has not heard it within 20 s" in words, said
    assert "look at: journalctl -u pantau-agent on the device" in words
    assert changed(said) == []

    town.on(site, "systemctl restart pantau-agent")
    assert f"{site}: commissioned, online" in " ".join(
        town.play("agent.yml", "--limit", site).split()
    )


def _status(town: Town, site: str) -> str:
    """What the operator sees of a site."""
    status = json.loads(town.on("centre", "pantau", "status", "--json"))
    return str(next(row["status"] for row in status["sites"] if row["site"] == site))


def test_a_machine_that_is_another_site_is_left_alone(town: Town) -> None:
    wrong = town.inventory / "host_vars" / f"{SITES[1]}.yml"
    right = wrong.read_text()
    wrong.write_text("ansible_host: 10.81.2.2\n")
    try:
        said = town.play("agent.yml", "--limit", SITES[1], expect=2)
    finally:
        wrong.write_text(right)
    assert f"this machine is {SITES[0]}, not {SITES[1]}" in " ".join(said.split())
    assert recap(said)[SITES[1]]["changed"] == 0


@pytest.mark.parametrize(
    ("name", "book", "part"), [(SITES[0], "agent.yml", "agent"), ("centre", "site.yml", "server")]
)
def test_a_machine_that_has_the_version_from_another_archive_is_refused(
    town: Town, name: str, book: str, part: str
) -> None:
    built = archive(town.folder / "artifacts", part)
    right = built.read_bytes()
    mark = f"/opt/pantau/{number()}/.complete-{part}"
    assert town.on(name, "cat", mark).strip() == hashlib.sha256(right).hexdigest()
    built.write_bytes(right + bytes(512))  # built again, of a checkout that changed
    try:
        said = town.play(book, "--limit", name, expect=2)
        built.write_bytes(right)
        town.on(name, f"cp {mark} /root/mark && truncate -s 0 {mark}")  # as it was left once
        unmarked = town.play(book, "--limit", name, expect=2)
        town.on(name, f"mv /root/mark {mark}")
    finally:
        built.write_bytes(right)
    for told in (said, unmarked):
        line = f"{name}: has a {number()} of another archive than this {built.name}; give the"
        assert f"{line} checkout a new version in agent/__init__.py" in " ".join(told.split()), told
        assert recap(told)[name]["changed"] == 0


@pytest.mark.parametrize(
    ("book", "column", "row", "fault"),
    [
        (
            "agent.yml",
            "",
            f"{SITES[0]},C,Maesa,Telkom",
            "column site: 'bitung-0001' already stands",
        ),
        ("site.yml", ",latitude", "bitung-0003,C,Maesa,Telkom,91.4", "column latitude: '91.4' is"),
        (
            "site.yml",
            ",timezone",
            "bitung-0003,C,Maesa,Telkom,Asia/Makasar",
            "column timezone: 'As",
        ),
        ("site.yml", "", "bitung-0003,C,Maesa,Telkom,eleventh", "after column isp: 5 cells, but"),
    ],
)
def test_a_list_with_a_fault_stops_the_play_before_it_begins(
    town: Town, book: str, column: str, row: str, fault: str
) -> None:
    file = town.inventory / "sites.csv"
    right = file.read_text()
    header, *rows = right.splitlines()
    rows = [f"{one}," if column else one for one in rows]
    file.write_text("\n".join([f"{header}{column}", *rows, row, ""]))
    try:
        said = town.play(book, expect=1)
    finally:
        file.write_text(right)
    assert "PLAY RECAP" not in said
    assert f"sites.csv: line 4, {fault}" in " ".join(town.complaints.split()), town.complaints
