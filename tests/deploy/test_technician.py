"""The technician's page, followed to the letter, at sites whose machines are poor.

One has a wrong clock and no time server, the other a disk that fills up. The page's commands are
taken out of it and run, and what it promises is looked for. Each test goes on from the one before.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent import clock
from agent.wire import epoch
from tests.deploy.clock import WrongClock
from tests.deploy.controller import changed, recap
from tests.deploy.releases import another, number
from tests.deploy.town import EVERY_S, SITES, Town
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_PAGE = Path(__file__).parents[2] / "docs" / "technician.md"
_DAY_S, _BEHIND_DAYS, _AHEAD_S = 86_400, 40, 5 * 3600
_CLOSE_S = 10.0
"""What the server puts right is right to this: far from days and hours."""
_HEARD_S, _FILLS_S = 120.0, 400.0
_CLOCK, _DISK = SITES
_SPOOL = "/var/lib/private/pantau"
_LANGUAGES = ("id", "en")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The centre, and two machines with Debian and nothing else."""
    with Town(tmp_path_factory.mktemp("town")) as built:
        built.on(_DISK, f"mkdir -p -m 700 {_SPOOL}")
        built.on(_DISK, f"mount -t tmpfs -o size=6M tmpfs {_SPOOL}")
        with (built.inventory / "host_vars" / f"{_DISK}.yml").open("a") as variables:
            variables.write("pantau_agent_spool_mb: 1\npantau_agent_window_s: 1\n")
        for site in SITES:  # its own, since root logs in here
            sudo = built.machines[site].root / "usr/local/bin/sudo"
            sudo.write_text('#!/bin/sh\nexec "$@"\n')
            sudo.chmod(0o755)
        built.play("site.yml", "--limit", "broker:server")
        yield built


@pytest.fixture(scope="module")
def wrong(town: Town) -> WrongClock:
    """The clock of the first site."""
    return WrongClock(town.machines[_CLOCK], -_BEHIND_DAYS * _DAY_S)


def commands(tongue: str) -> list[str]:
    """The commands of the page in one language, in the order of the page."""
    parts = re.split(r"^## .*$", _PAGE.read_text(), flags=re.MULTILINE)[1:]
    text = parts[_LANGUAGES.index(tongue)]
    found = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [block.strip() for block in found]


def commission(town: Town, tongue: str, site: str, expect: int = 0) -> str:
    """What the play says of a site at its end, by the page's own command."""
    [command] = [one for one in commands(tongue) if " agent.yml " in one]
    assert _CLOCK in command
    folder = town.checkout() / "deploy/ansible"
    said = " ".join(town.follow(command.replace(_CLOCK, site), folder, expect).split())
    begin = said.rindex(f"{site}: {'NOT ' if expect else ''}commissioned")
    return re.split(r"'? (?=PLAY RECAP)|' ", said[begin:])[0]


def check(town: Town, tongue: str, site: str) -> str:
    """The table of the page's command on the device."""
    [command] = [one for one in commands(tongue) if "pantau-agent check" in one]
    return town.on(site, f"COLUMNS=110 {command} || true")


def readings(town: Town, site: str) -> list[dict[str, Any]]:
    lines = town.on("centre", "pantau", "readings", site, "--json").splitlines()
    return [json.loads(line) for line in lines]


def off_s(row: dict[str, Any], time_of: str) -> float:
    """How far a time of a reading is from the truth, which its uptime tells: one kernel has all."""
    booted_at = time.time() - clock.uptime_s()
    return epoch(row[time_of]) - (booted_at + row["uptime_s"])


def heard(town: Town, site: str, count: int = 3) -> list[dict[str, Any]]:
    """Readings that come from now on."""
    before = {(row["stream"], row["seq"]) for row in readings(town, site)}

    def further() -> list[dict[str, Any]]:
        rows = readings(town, site)
        return [row for row in rows if (row["stream"], row["seq"]) not in before]

    until(lambda: len(further()) >= count, _HEARD_S, f"readings of {site}", EVERY_S)
    return further()


def main_pid(town: Town, site: str) -> str:
    return town.on(site, "systemctl show -P MainPID pantau-agent").strip()


def current(town: Town, site: str) -> str:
    return town.on(site, "readlink /opt/pantau/current").strip()


# A clock that is wrong


def test_a_clock_that_is_behind_is_told_with_its_mend(town: Town, wrong: WrongClock) -> None:
    line = commission(town, "id", _CLOCK, expect=2)
    assert line.startswith(f"{_CLOCK}: NOT commissioned: clock: {_BEHIND_DAYS} days behind (mend:")
    assert re.search(r"sudo date -s @\d+ on the device, and run this again\)", line)
    assert "identity: is good only from" in line
    assert "broker_tls: the certificate of 10.81.1.2 is not good yet" in line
    assert wrong.ahead_s == -_BEHIND_DAYS * _DAY_S, "no play sets a clock"


def test_the_table_on_the_device_names_the_clock_in_both_languages(town: Town) -> None:
    for tongue, fails, mends, reads in (
        ("id", "GAGAL", "perbaikan:", "Bacakan"),
        ("en", "FAIL", "mend:", "Read out"),
    ):
        said = check(town, tongue, _CLOCK)
        for code in (112, 513):
            assert re.search(rf"^\S.*? {fails} {code} ", said, re.MULTILINE), said
        assert mends in said
        *_, last = said.strip().splitlines()
        assert re.match(rf"{reads}: {_CLOCK}, \S+ {re.escape(number())}, \w+: .* 112", last), said


def test_once_the_clock_is_set_as_told_the_same_command_commissions(
    town: Town, wrong: WrongClock
) -> None:
    serial = town.on(_CLOCK, "openssl x509 -in /etc/pantau/site.pem -noout -serial")
    line = commission(town, "en", _CLOCK, expect=2)
    [mend] = re.findall(r"mend: (sudo date -s @\d+) on the device", line)
    town.on(_CLOCK, mend)
    assert abs(wrong.ahead_s) < _HEARD_S

    assert commission(town, "en", _CLOCK) == f"{_CLOCK}: commissioned, online"
    assert town.on(_CLOCK, "openssl x509 -in /etc/pantau/site.pem -noout -serial") == serial

    rows = readings(town, _CLOCK)
    before = [row for row in rows if off_s(row, "taken_at") < -_DAY_S]
    assert before, "it measured while nobody let it in"
    assert not any(row["clock"]["synced"] or row["time_uncertain"] for row in rows)
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert max(abs(off_s(row, "taken_at_corrected")) for row in rows) < _CLOSE_S


def test_a_clock_that_is_hours_ahead_is_no_hindrance_and_its_times_are_put_right(
    town: Town, wrong: WrongClock
) -> None:
    process = main_pid(town, _CLOCK)
    wrong.ahead_s = _AHEAD_S
    line = commission(town, "id", _CLOCK)
    told = f"its clock is {_AHEAD_S // 60} minutes ahead: the centre puts its times right"
    assert line == f"{_CLOCK}: commissioned, online ({told})"
    rows = heard(town, _CLOCK)
    assert main_pid(town, _CLOCK) == process
    assert max(abs(off_s(row, "taken_at") - _AHEAD_S) for row in rows) < _CLOSE_S
    assert max(abs(off_s(row, "taken_at_corrected")) for row in rows) < _CLOSE_S
    pings = [row["ping"]["domestic"]["rtt_p50_ms"] for row in rows]
    assert max(pings) < 1000.0

    # And from a start with it: TLS takes it, since the certificates cover that time.
    town.on(_CLOCK, "systemctl restart pantau-agent")
    rows = heard(town, _CLOCK)
    assert max(abs(off_s(row, "taken_at_corrected")) for row in rows) < _CLOSE_S


def test_a_table_without_a_fault_is_what_the_page_says(town: Town) -> None:
    for tongue in _LANGUAGES:
        *rows, last = check(town, tongue, _CLOCK).strip().splitlines()
        assert not [row for row in rows if re.search(r"FAIL|GAGAL", row)]
        assert last.startswith(("Read out: bitung-0001", "Bacakan: bitung-0001"))


# A disk that fills up


def test_a_disk_that_fills_up_later_stops_no_measuring_and_is_told(town: Town) -> None:
    assert commission(town, "id", _DISK) == f"{_DISK}: commissioned, online"
    process = main_pid(town, _DISK)
    town.on(_DISK, f"dd if=/dev/zero of={_SPOOL}/ballast bs=4k 2>/dev/null || true")
    table = check(town, "en", _DISK)
    assert re.search(r"^disk +FAIL 133 ", table, re.MULTILINE), table
    line = commission(town, "en", _DISK, expect=2)
    assert f"{_DISK}: NOT commissioned: spool: /var/lib/pantau/spool: disk full, 0 kB free" in line
    assert "(mend: delete what is not needed" in line

    def in_memory() -> list[str]:
        errors = [row.get("errors", {}).get("spool", "") for row in readings(town, _DISK)]
        return [one for one in errors if "No space left on device; kept in memory" in one]

    until(in_memory, _FILLS_S, "a reading that the disk did not take", EVERY_S)
    heard(town, _DISK, 10)
    assert main_pid(town, _DISK) == process
    status = json.loads(town.on("centre", "pantau status --json"))
    assert {row["site"]: row["status"] for row in status["sites"]}[_DISK] == "online"


def test_with_room_again_the_disk_is_used_again_and_nothing_was_lost(town: Town) -> None:
    process = main_pid(town, _DISK)
    known = set(town.on(_DISK, "pantau-agent spool").split())
    town.on(_DISK, f"rm {_SPOOL}/ballast")
    until(
        lambda: {*town.on(_DISK, "pantau-agent spool").split()} - known,
        _HEARD_S, "a stream on the disk", EVERY_S,
    )  # fmt: skip
    assert commission(town, "en", _DISK) == f"{_DISK}: commissioned, online"
    assert main_pid(town, _DISK) == process
    rows = readings(town, _DISK)
    assert max(row["host"]["spool_dropped"] for row in rows) == 0
    by_uptime = sorted(rows, key=lambda row: float(row["uptime_s"]))
    gaps = [b["uptime_s"] - a["uptime_s"] for a, b in pairwise(by_uptime)]
    assert max(gaps) < _CLOSE_S, "none is missing where one stream ends and the next begins"
    streams: dict[str, list[int]] = {}
    for row in rows:
        streams.setdefault(row["stream"], []).append(row["seq"])
    assert len(streams) >= 3, "disk, memory, disk"
    for seqs in streams.values():
        assert sorted(seqs) == list(range(1, len(seqs) + 1))


# No room for another release


@pytest.fixture
def small_opt(town: Town) -> str:
    """A disk of its own for the releases of the second site; gives the file that fills it."""
    another(town.folder / "artifacts", "0.2.0")
    town.on(
        _DISK,
        "mkdir -p /mnt/opt && mount -t tmpfs -o size=600M tmpfs /mnt/opt && cp -a /opt/. /mnt/opt"
        " && mount --bind /mnt/opt /opt && systemctl restart pantau-agent",
    )
    return "/opt/ballast"


def leave_free(town: Town, ballast: str, mb: int) -> None:
    """Fill /opt until so much is left."""
    free = int(town.on(_DISK, "df --output=avail --block-size=1M /opt | tail -n 1"))
    town.on(_DISK, f"fallocate -l {free - mb}M {ballast}")


def test_an_upgrade_without_room_leaves_the_old_release_running_and_is_run_again(
    town: Town, small_opt: str
) -> None:
    upgrade = ("upgrade.yml", "-e", "pantau_version=0.2.0", "--limit", _DISK)
    heard(town, _DISK)
    process = main_pid(town, _DISK)

    leave_free(town, small_opt, 100)
    said = town.play(*upgrade, expect=2)
    need = f"{_DISK}: 100 MB are free under /opt, and 250 are needed; delete old releases"
    assert need in " ".join(said.split()), said
    assert changed(said) == []
    assert recap(said)[_DISK]["changed"] == 0

    # One that nobody foresaw: the room ends while the release is brought.
    town.on(_DISK, f"rm {small_opt}")
    leave_free(town, small_opt, 30)
    said = town.play(*upgrade, "-e", "release_needs_mb=1", expect=2)
    for told in (
        f"{_DISK}: 0.2.0 could not be installed: ",
        "No space left on device",
        "make room under /opt, and run this again",
    ):
        assert told in " ".join(said.split()), said
    assert current(town, _DISK) == number()
    assert main_pid(town, _DISK) == process
    heard(town, _DISK)

    town.on(_DISK, f"rm {small_opt}")
    said = town.play(*upgrade)
    assert f"{_DISK}: 0.2.0 proved itself" in " ".join(said.split()), said
    assert current(town, _DISK) == "0.2.0"
    heard(town, _DISK)
