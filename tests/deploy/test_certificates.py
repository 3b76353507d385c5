"""Certificates from renewal to revocation, retired sites, and what is refused, on booted machines.

The tests follow one town through its life: each goes on from where the one before left it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import changed, recap
from tests.deploy.processes import CommandLines
from tests.deploy.releases import archive, number
from tests.deploy.stolen import (
    admissions,
    is_let_in,
    log_in_and_stay,
    refusals,
    serial,
    steal,
)
from tests.deploy.town import EVERY_S, SITES, Town
from tests.lab.net import sh
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]
KEPT, GONE = SITES
_SECRET = "kata-sandi-hotspot-7391"  # noqa: S105 - to be looked for where it must not be
_KEY_TEXT = "^-----BEGIN [A-Z ]*PRIVATE KEY-----"
_ON_DISK = "/etc /opt /root /run /srv /tmp /usr/local /var"
_BACK_S = 120.0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre and the sites as one play leaves them."""
    with Town(tmp_path_factory.mktemp("town"), mitogen=True) as built:
        built.play("site.yml")
        yield built


def key_hash(town: Town, site: str) -> str:
    """What tells two keys apart."""
    return town.on(site, "sha256sum /etc/pantau/site.key")


def online(town: Town) -> list[str]:
    """The sites that are online, at the centre."""
    status = json.loads(town.on("centre", "pantau status --json"))
    return [row["site"] for row in status["sites"] if row["status"] == "online"]


def agent_since(town: Town, site: str) -> str:
    """Which process the agent is: another one after a restart."""
    return town.on(site, "systemctl show -P MainPID pantau-agent")


def incidents_of(town: Town, site: str) -> list[str]:
    lines = town.on("centre", "pantau incidents --json").splitlines()
    return [line for line in lines if site in json.loads(line)["sites"]]


def in_one_line(said: str) -> str:
    """Ansible folds long lines."""
    return " ".join(said.split())


def test_agent_yml_renews_what_ends_soon_keeps_the_key_and_shows_no_secret(town: Town) -> None:
    number, key = serial(town, KEPT), key_hash(town, KEPT)
    file = town.inventory / "host_vars" / f"{KEPT}.yml"
    without = file.read_text()
    file.write_text(f"{without}pantau_agent_walk_password: {_SECRET}\n")
    try:
        # Certificates last 365 days, so that this one ends "soon".
        soon = ("agent.yml", "--limit", KEPT, "-e", "pki_renew_before_days=365", "--diff")
        planned = town.play(*soon, "--check")
        assert serial(town, KEPT) == number
        with CommandLines() as seen:
            said = town.play(*soon, "-vv")
    finally:
        file.write_text(without)
    assert f"{KEPT}: commissioned, online" in in_one_line(said)
    assert serial(town, KEPT) != number
    assert key_hash(town, KEPT) == key
    # What was to be is what was done; a request stands for what follows from it.
    for play in (planned, said):
        tasks = " ".join(changed(play))
        for task in ("Key and request", "Password of the walk", "What the unit gets"):
            assert task in tasks, play
    assert len(changed(planned)) <= len(changed(said))

    assert town.on(KEPT, "cat /etc/pantau/walk.password").strip() == _SECRET
    assert _SECRET not in planned + said
    assert "PRIVATE KEY" not in planned + said
    for process in ("ansible-playbook", "pantau-agent check"):  # at the controller, on the device
        assert any(process in line for line in seen.lines)
    assert not [line for line in seen.lines if _SECRET in line or "PRIVATE KEY" in line]
    for name in (KEPT, "centre"):
        journal = town.on(name, "journalctl --no-pager -q -o cat")
        assert _SECRET not in journal
        assert "PRIVATE KEY" not in journal


@pytest.mark.parametrize("name", [KEPT, "centre"])
def test_nothing_secret_is_for_all_to_read_or_in_the_process_list(town: Town, name: str) -> None:
    wanted = f"'{_KEY_TEXT}|{_SECRET}'"
    find = f"find {_ON_DISK} -type f -size -64k"
    secret = town.on(name, f"{find} -exec grep -lEs {wanted} {{}} + || true").split()
    assert len(secret) >= 2, "the search finds what is there"
    assert town.on(name, f"{find} -perm /o=rwx -exec grep -lEs {wanted} {{}} + || true") == ""
    inside = f"grep -laE '[P]RIVATE KEY|[k]{_SECRET[1:]}' /proc/[0-9]*/cmdline || true"
    assert town.on(name, f"{inside} 2>/dev/null") == ""


def test_the_authority_is_for_its_owner_alone_and_no_key_is_in_the_repository(town: Town) -> None:
    authority = town.inventory / "pki"
    assert authority.stat().st_mode & 0o077 == 0
    assert (authority / "ca.key").stat().st_mode & 0o077 == 0
    root = Path(__file__).parents[2]
    found = subprocess.run(
        ["git", "-C", str(root), "grep", "-lE", "-e", _KEY_TEXT],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (1, ""), found.stderr


def test_rotate_gives_a_new_key_and_the_broker_refuses_the_old_one_at_its_end(town: Town) -> None:
    stolen, number, key = steal(town, KEPT), serial(town, KEPT), key_hash(town, KEPT)
    assert is_let_in(town, stolen)
    now = ("-e", f"site={KEPT}", "-e", "rotate_older_than_h=0")

    process = agent_since(town, GONE)
    said = town.play("rotate.yml", *now)
    assert f"{KEPT}: has a new key" in in_one_line(said)
    assert serial(town, KEPT) != number
    assert key_hash(town, KEPT) != key
    assert not is_let_in(town, stolen)
    # The broker was started again: the others log in once more, and that is all.
    until(lambda: online(town) == list(SITES), _BACK_S, "both sites to be online", EVERY_S)
    assert agent_since(town, GONE) == process
    assert incidents_of(town, GONE) == []
    assert is_let_in(town, steal(town, KEPT))


@pytest.mark.parametrize(
    ("book", "arguments", "complaint"),
    [
        ("rotate.yml", [], "say which site by -e site="),
        ("retire.yml", ["--limit", "centre", "-e", f"site={GONE}"], "not by --limit"),
        ("retire.yml", ["-e", "site=bitung-9999"], "bitung-9999: is not in"),
        ("rotate.yml", ["-e", "site=centre"], "centre: is not in"),
    ],
)
def test_what_is_not_clear_stops_before_anything_changes(
    town: Town, book: str, arguments: list[str], complaint: str
) -> None:
    said = town.play(book, *arguments, expect=2)
    assert complaint in in_one_line(said)
    assert changed(said) == []


def test_a_dry_run_of_retire_changes_nothing(town: Town) -> None:
    stolen = steal(town, GONE)
    said = town.play("retire.yml", "-e", f"site={GONE}", "--check")
    assert f"{GONE}: would be retired" in in_one_line(said)
    tasks = " ".join(changed(said))
    for task in ("Revoked by the authority", "Out of service", "Agent ends", "Without its row"):
        assert task in tasks
    assert is_let_in(town, stolen)
    assert online(town) == list(SITES)


def test_a_device_that_is_gone_is_retired_and_a_copy_of_its_key_is_worthless(
    town: Town, record_property: Callable[[str, object], None]
) -> None:
    stolen, process = steal(town, GONE), agent_since(town, KEPT)
    assert is_let_in(town, stolen)
    town.machines[GONE].halt()
    log_in_and_stay(town, GONE, stolen)
    admitted, refused = admissions(town, GONE), refusals(town)

    begun = time.monotonic()
    said = in_one_line(town.play("retire.yml", "-e", f"site={GONE}"))
    record_property("s from retire.yml's begin to its end", round(time.monotonic() - begun))
    assert f"{GONE}: retired, certificates revoked: 1; the device does not answer" in said
    until(lambda: refusals(town) > refused, _BACK_S, "the thief to be refused")
    assert not is_let_in(town, stolen)
    assert admissions(town, GONE) == admitted, "its session is over, and it got no other"
    town.on("centre", "systemctl stop thief")
    until(lambda: online(town) == [KEPT], _BACK_S, "the other one alone to be online", EVERY_S)
    assert agent_since(town, KEPT) == process
    assert GONE not in (town.inventory / "sites.csv").read_text()


def test_a_retired_device_that_turns_up_is_refused_until_it_is_cleaned(town: Town) -> None:
    town.machines[GONE].boot()
    rows = json.loads(town.on(GONE, "pantau-agent check --json || true"))["checks"]
    assert not next(row for row in rows if row["name"] == "broker_tls")["ok"]

    there = ("-e", f"site={GONE}", "-e", "pantau_address=10.81.3.2")
    said = town.play("retire.yml", *there)
    assert "identity and readings gone from the device" in in_one_line(said)
    assert town.on(GONE, "ls /etc/pantau").split() == ["ca.pem"]
    assert town.on(GONE, "systemctl is-enabled pantau-agent || true").strip() == "disabled"
    assert town.on(GONE, "systemctl show -P MainPID pantau-agent").strip() == "0"
    assert changed(town.play("retire.yml", *there)) == []


def test_another_sites_device_is_not_cleaned(town: Town) -> None:
    said = town.play("retire.yml", "-e", f"site={GONE}", "-e", "pantau_address=10.81.2.2")
    assert "the device belongs to another site and was left alone" in in_one_line(said), said
    assert changed(said) == []


_REFUSED = {
    "bitung-0010": "has 64 MB of memory, and 200 are needed; take a larger device",
    "bitung-0011": "8 MB are free under /var/lib, and the spool may take 128; make room",
    "bitung-0012": "is i386 with Python 3.11, and pantau-",
    "bitung-0013": "64 MB are free under /opt, and 250 are needed; delete old releases",
    "bitung-0014": "refuses the ssh key; put its public half into authorized_keys",
    "bitung-0015": "does not answer at 10.81.3.99; look at power, cable and address",
    "bitung-0016": f"this machine is {KEPT}, not bitung-0016; correct its address",
    "bitung-0017": "is not in sites.csv; add its row",
}
"""What each of these sites is told; most are one device, which is short of everything."""
_ENOUGH = 'agent_needs_memory_mb: "32"\n'  # numbers are texts where -e gives them
_LITTLE = f'{_ENOUGH}pantau_agent_spool_mb: "4"\n'
_APART = "ansible_ssh_args: -oControlPath=none\n"  # not through a login that is open


@pytest.fixture
def short_of_everything(town: Town) -> Iterator[None]:
    """A device with little memory, a small disk each for releases and readings, in the list."""
    csv, before = town.inventory / "sites.csv", (town.inventory / "sites.csv").read_text()
    unlisted = town.inventory / "unlisted.yml"
    town.on(
        GONE,
        "mount -t tmpfs -o size=64M tmpfs /opt && mkdir -p /var/lib/pantau"
        " && mount -t tmpfs -o size=8M tmpfs /var/lib/pantau"
        " && sed 's/^MemTotal:.*/MemTotal: 65536 kB/' /proc/meminfo >/root/meminfo"
        " && mount --bind /root/meminfo /proc/meminfo",
    )
    python = town.machines[GONE].root / "root/python-of-32-bits"
    python.write_text('#!/bin/sh\nexec setarch i686 /usr/bin/python3 "$@"\n')
    python.chmod(0o755)
    wrong = town.folder / "wrong"
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong))
    *listed, last = _REFUSED
    csv.write_text(before + "".join(f"{site},Site {site},Maesa,Telkom\n" for site in listed))
    unlisted.write_text(f"sites: {{hosts: {{{last}: {{ansible_host: 10.81.3.2}}}}}}\n")
    further = {
        "bitung-0011": _ENOUGH,
        "bitung-0012": f"{_LITTLE}ansible_python_interpreter: /root/python-of-32-bits\n",
        "bitung-0013": _LITTLE,
        "bitung-0014": f"{_APART}ansible_ssh_private_key_file: {wrong}\n",
        "bitung-0015": f"{_APART}ansible_timeout: 3\n",
    }
    host = {"bitung-0015": "10.81.3.99", "bitung-0016": "10.81.2.2"}
    files = {site: town.inventory / "host_vars" / f"{site}.yml" for site in listed}
    for site, file in files.items():
        address = host.get(site, "10.81.3.2")
        file.write_text(f"ansible_host: {address}\n{further.get(site, '')}")
    yield
    csv.write_text(before)
    for file in (unlisted, *files.values()):
        file.unlink()
    town.on(GONE, "umount /proc/meminfo /var/lib/pantau /opt")


@pytest.mark.usefixtures("short_of_everything")
def test_each_site_that_does_not_fit_is_told_why_and_left_as_it_was(town: Town) -> None:
    # A release that is nowhere yet: not even that may reach a device.
    built = archive(town.folder / "artifacts", "agent")
    shutil.copy(built, built.with_name(built.name.replace(number(), "9.9.9", 1)))
    refused = ("agent.yml", "--limit", ",".join(_REFUSED), "-e", "pantau_version=9.9.9")
    said = town.play(*refused, expect=2, mitogen=False)  # Mitogen keeps ssh's words
    assert changed(said) == []
    counts = recap(said)
    for site, complaint in _REFUSED.items():
        assert f"{site}: {complaint}" in in_one_line(said)
        assert (counts[site]["changed"], counts[site]["failed"]) == (0, 1)
    assert "9.9.9" not in town.on(KEPT, "ls /opt/pantau")
    assert town.on(GONE, "ls -A /opt /var/lib/pantau").split() == ["/opt:", "/var/lib/pantau:"]


def test_a_site_that_is_not_in_the_list_stops_the_play_for_all(town: Town) -> None:
    said = town.play("agent.yml", "--limit", f"{KEPT},bitung-9999", expect=2)
    assert "bitung-9999: is not in sites.csv; add its row" in in_one_line(said)
    assert recap(said)[KEPT]["changed"] == 0


def test_an_authority_that_has_expired_stops_the_play(town: Town) -> None:
    folder = town.folder / "expired"
    shutil.copytree(town.inventory / "pki", folder)
    ca = folder / "ca.pem"
    sh("openssl", "x509", "-in", str(ca), "-signkey", str(folder / "ca.key"), "-days", "0",
       "-out", str(ca))  # fmt: skip
    expired = ("-e", f"pki_authority={folder}")
    for host, play in ((KEPT, ("agent.yml", "--limit", KEPT)), ("centre", ("site.yml",))):
        said = town.play(*play, *expired, expect=2)
        assert f"{host}: ca: {ca}: has expired, or does so within a day" in in_one_line(said)
        assert {name: counts["changed"] for name, counts in recap(said).items()} == {host: 0}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("ansible_host=10.81.1.99 ansible_timeout=3", "does not answer at 10.81.1.99; look at"),
        ("release_needs_mb=99999999 pantau_version=9.9.9", "and 99999999 are needed; delete old"),
        ("pantau_version=9.9.8", "was not built; add it to pantau_builds and run build.yml"),
        ('{"broker_wants": ["fping"]}', "needs fping, and cannot fetch them; look at its network"),
    ],
)
def test_a_centre_that_does_not_fit_stops_the_play_before_anything_changes(
    town: Town, given: str, complaint: str
) -> None:
    built = archive(town.folder / "artifacts", "server")
    built.with_name(built.name.replace(number(), "9.9.9", 1)).touch()
    # No index at all: one that does not answer is asked for minutes.
    (town.machines["centre"].root / "etc/apt/sources.list").write_text("")
    said = town.play("site.yml", "-e", given, expect=2)
    assert "centre: " in said
    assert complaint in in_one_line(said)
    assert {name: counts["changed"] for name, counts in recap(said).items()} == {"centre": 0}
