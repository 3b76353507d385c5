"""Real agents in namespaces suffer a story, and the ledger tells the truth of it."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.truth import books
from bench.truth.realcore import PORT, Core
from bench.truth.realnet import BROKER, RESOLVER, WEB, Guard
from bench.truth.realplan import Plan, Refused, plan
from bench.truth.realsites import main
from tests.lab.broker import Broker
from tests.lab.city import City
from tests.lab.net import Namespace, child_environment, inside, sh
from tests.wait import until

ALONE = ["cut-0001", "power-0001", "killed-0001", "hung-0001"]
ISP = [f"isp-000{n}" for n in range(1, 4)]
TOWER = [f"tower-000{n}" for n in range(1, 4)]
SITES = [*ALONE, *ISP, *TOWER]
CUT, POWER, KILLED, HUNG = ALONE
WINDOW_S, KEEPALIVE_S = 2.0, 8.0
AWAY_S, TROUBLED_S, SECOND_S = 35.0, 25.0, 70.0
_ROWS = [
    *[f"{site},{site},of-{site},net-of-{site},," for site in ALONE],
    *[f"{site},{site},of-{site},biznet,,feeder-1" for site in ISP],
    *[f"{site},{site},of-{site},net-of-{site},tower-1," for site in TOWER],
]
EVENTS = [
    ("cut", 0.0, AWAY_S, "cable_cut", "site", CUT),
    ("power", 0.0, AWAY_S, "power_off", "site", POWER),
    ("killed", 0.0, AWAY_S, "agent_killed", "site", KILLED),
    ("hung", 0.0, AWAY_S, "agent_hung", "site", HUNG),
    ("isp", 0.0, AWAY_S, "isp_down", "isp", "biznet"),
    ("lossy", SECOND_S, TROUBLED_S, "link_lossy", "site", CUT),
    ("slow", SECOND_S, TROUBLED_S, "link_slow", "site", POWER),
    ("point", SECOND_S, TROUBLED_S, "access_point_off", "site", KILLED),
    ("clock", SECOND_S, TROUBLED_S, "clock_wrong", "site", HUNG),
    ("feeder", SECOND_S, AWAY_S, "district_power_down", "power_area", "feeder-1"),
    ("tower", SECOND_S, AWAY_S, "backhaul_down", "backhaul", "tower-1"),
]
TRUTH = Counter(
    {
        ("site_offline", (CUT,), "link"): 1,
        ("site_offline", (POWER,), "power"): 1,
        ("site_offline", (KILLED,), "agent"): 1,
        ("site_offline", (HUNG,), "agent"): 1,
        ("group_outage", tuple(ISP), "isp"): 1,
        ("site_degraded", (CUT,), "unknown"): 1,
        ("site_degraded", (POWER,), "unknown"): 1,
        ("access_point_offline", (KILLED,), "access_point"): 1,
        ("group_outage", tuple(ISP), "power"): 1,
        ("group_outage", tuple(TOWER), "isp"): 1,
        **{("site_offline", (site,), "isp"): 1 for site in (*ISP, *TOWER)},
        **{("site_offline", (site,), "power"): 1 for site in ISP},
    }
)
"""Kind, sites and verdict of all that the ledger must hold: one of each, and nothing else."""


def story_toml(events: list[tuple[str, float, float, str, str, str]], real: list[str]) -> str:
    """A story file; its sites stand in town.csv beside it."""
    lines = ["seed = 1", "start_after_s = 25", "[fleet]", 'sites = "town.csv"']
    lines.append(f"real = {json.dumps(real)}")
    for name, at_s, lasts_s, what, by, target in events:
        lines += ["[[event]]", f'id = "{name}"', f"at_s = {at_s}", f"lasts_s = {lasts_s}"]
        lines += [f'what = "{what}"', f'{by} = "{target}"']
    return "\n".join([*lines, ""])


def registry() -> str:
    """What the sites share, as a table."""
    return "\n".join(["site,name,district,isp,backhaul,power_area", *_ROWS, ""])


def rows() -> list[dict[str, str]]:
    """The same, read."""
    return list(csv.DictReader(registry().splitlines()))


def command(folder: Path, broker: Broker) -> list[str]:
    """The program, as a bench starts it."""
    return [
        *(sys.executable, "-m", "bench.truth.realsites"),
        *("--broker", f"127.0.0.1:{broker.port}", "--story", str(folder / "story.toml")),
        *("--journal", str(folder / "journal.jsonl"), "--minutes", "10"),
        *("--window-s", str(WINDOW_S), "--keepalive-s", str(KEEPALIVE_S)),
    ]


# What is refused, and what is played


def test_only_the_real_sites_and_what_strikes_them_are_played() -> None:
    found: Plan = plan(story_toml(EVENTS, [CUT, ISP[1]]), rows())
    assert [row["site"] for row in found.rows] == [CUT, ISP[1]]
    assert [(event.id, struck) for event, struck in found.events] == [
        ("cut", [CUT]),
        ("isp", [ISP[1]]),
        ("lossy", [CUT]),
        ("feeder", [ISP[1]]),
    ]


def test_story_time_begins_when_the_story_says_so() -> None:
    text = story_toml(EVENTS, SITES)
    assert plan(text, rows()).begins_at is None
    text = text.replace("[fleet]", '[fleet]\nbegins_at = "2026-01-01T00:00:00Z"')
    assert plan(text, rows()).begins_at == 1_767_225_600.0


@pytest.mark.parametrize(
    ("real", "events", "said"),
    [
        ([], EVENTS, "no site is real"),
        (["nobody"], EVENTS, "names 'nobody', which the registry does not have"),
        (
            SITES,
            [*EVENTS, ("again", 5.0, 1.0, "agent_hung", "site", KILLED)],
            "event again: the agent of killed-0001 is down by killed already",
        ),
    ],
)
def test_a_story_that_real_sites_cannot_play_is_refused(
    real: list[str], events: list[tuple[str, float, float, str, str, str]], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        plan(story_toml(events, real), rows())


def _refused(capsys: pytest.CaptureFixture[str], folder: Path, broker: str) -> str:
    files = ("--story", str(folder / "story.toml"), "--journal", str(folder / "journal.jsonl"))
    assert main(["--broker", broker, *files, "--minutes", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_who_is_not_root_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in _refused(capsys, tmp_path, "127.0.0.1:1")


@pytest.mark.needs_root
def test_a_missing_story_and_a_broker_that_refuses_are_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "story.toml" in _refused(capsys, tmp_path, "127.0.0.1:1")
    (tmp_path / "story.toml").write_text(story_toml(EVENTS, SITES))
    (tmp_path / "town.csv").write_text(registry())
    assert "no broker at 127.0.0.1:1: " in _refused(capsys, tmp_path, "127.0.0.1:1")
    assert "HOST:PORT" in _refused(capsys, tmp_path, "127.0.0.1")
    assert not (tmp_path / "journal.jsonl").exists()


# The door to the broker


@pytest.fixture
def core() -> Iterator[Namespace]:
    with Namespace() as namespace:
        for address in {BROKER, WEB, RESOLVER}:
            namespace.ip("addr", "add", f"{address}/32", "dev", "lo")
        yield namespace


def _knock(core: Namespace) -> socket.socket | None:
    with inside(core.name):
        knocking = socket.socket()
    knocking.settimeout(10)
    try:
        knocking.connect((BROKER, PORT))
    except ConnectionRefusedError:
        knocking.close()
        return None
    return knocking


def _is_shut(core: Namespace) -> bool:
    knocking = _knock(core)
    if knocking is not None:
        knocking.close()
    return knocking is None


@pytest.mark.needs_root
def test_the_door_is_shut_while_the_broker_refuses_and_what_passed_it_ends(
    core: Namespace, broker: Broker
) -> None:
    door = Core(core.name, ("127.0.0.1", broker.port))
    try:
        with until(lambda: _knock(core), 20, "the door to open") as connection:
            connection.sendall(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc")
            assert connection.recv(4) == b"\x20\x02\x00\x00"  # CONNACK: the broker's own
            broker.kill9()
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        until(lambda: _is_shut(core), 20, "the door to shut")
        broker.start()
        until(lambda: _knock(core), 20, "the door to open again").close()
    finally:
        door.close()


# What is left when it is killed


@pytest.mark.needs_root
def test_nothing_is_left_of_real_sites_whose_bench_was_killed(
    tmp_path: Path, broker: Broker
) -> None:
    (tmp_path / "story.toml").write_text(story_toml([], [CUT]))
    (tmp_path / "town.csv").write_text(registry())
    process = subprocess.Popen(command(tmp_path, broker), env=child_environment())
    folder = tmp_path / "journal.d"
    try:
        log = folder / CUT / "agent.log"
        until(lambda: log.exists() and "connected to" in log.read_text(), 60, "the agent")
    finally:
        process.kill()
        process.wait()
    agent = int((folder / CUT / "pid").read_text())
    names = (folder / "namespaces").read_text().split()
    assert len(names) == 5  # the core, an ISP, a gateway, a device, an access point
    until(lambda: not Path(f"/proc/{agent}").exists(), 20, "the agent to be gone")
    until(lambda: not set(names) & set(_namespaces()), 20, "the namespaces to be gone")


@pytest.mark.needs_root
def test_the_guard_removes_what_it_was_told_of_and_nothing_else(tmp_path: Path) -> None:
    with Namespace() as foreign:
        guard = Guard(tmp_path / "namespaces")
        mine = guard.namespace()
        assert {mine.name, foreign.name} <= set(_namespaces())
        guard.close()
        assert mine.name not in _namespaces()
        assert foreign.name in _namespaces()


def _namespaces() -> list[str]:
    return [line.split()[0] for line in sh("ip", "netns", "list").splitlines()]


# The whole story


class Told(NamedTuple):
    """What the journal says, what the store holds, and what the ledger says at the end."""

    journal: books.Journal
    stored: Counter[books.Name]
    incidents: list[dict[str, Any]]
    boots: dict[str, set[str]]
    code: int
    left: set[str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("realsites")
    (folder / "story.toml").write_text(story_toml(EVENTS, SITES))
    (folder / "town.csv").write_text(registry())
    health = {"offline_confirm_s": 2, "silence_windows": 20, "clear_windows": 3}
    with City(folder / "city", None, [], also=SITES, health=health) as city:
        city.pantau("sites", "import", str(folder / "town.csv"))
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                command(folder, city.broker), env=child_environment(), stdout=said, stderr=said
            )
        try:
            until(lambda: _ended(folder, process), 300, "all events to be over")
            with contextlib.suppress(AssertionError):  # what is missing then, a test tells
                until(lambda: ledger(city) == TRUTH and _at_rest(city), 120, "the whole truth")
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        finally:
            process.kill()
            process.wait()
            print((folder / "said").read_text())
        names = (folder / "journal.d" / "namespaces").read_text().split()
        readings = {site: list(city.rows("readings", site)) for site in SITES}
        return Told(
            books.Journal((folder / "journal.jsonl").read_text().splitlines()),
            books.stored(city.database),
            list(city.rows("incidents")),
            {site: {row["boot"] for row in told} for site, told in readings.items()},
            code,
            set(names) & set(_namespaces()),
        )


def _ended(folder: Path, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, (folder / "said").read_text()
    journal = folder / "journal.jsonl"
    return journal.exists() and journal.read_text().count('"end"') == len(EVENTS)


def _at_rest(city: City) -> bool:
    over = all(one["status"] == "resolved" for one in city.rows("incidents"))
    return over and set(city.status().values()) == {"online"}


def kinds(incidents: list[dict[str, Any]]) -> Counter[tuple[str, tuple[str, ...], str]]:
    """Incidents as `TRUTH` tells them."""
    return Counter(
        (one["kind"], tuple(sorted(one["sites"])), one["cause"]["verdict"]) for one in incidents
    )


def ledger(city: City) -> Counter[tuple[str, tuple[str, ...], str]]:
    """The ledger as it is now."""
    return kinds(list(city.rows("incidents")))


@pytest.mark.slow
@pytest.mark.needs_root
def test_the_ledger_tells_of_real_agents_the_truth_and_nothing_else(told: Told) -> None:
    assert kinds(told.incidents) == TRUTH


@pytest.mark.slow
@pytest.mark.needs_root
def test_every_reading_that_real_agents_made_is_stored_once(told: Told) -> None:
    assert books.readings(told.journal.made, told.stored, set()) == []
    assert told.stored == told.journal.made
    assert {site for site, _, _ in told.journal.made} == set(SITES)


@pytest.mark.slow
@pytest.mark.needs_root
def test_every_event_is_played_for_as_long_as_it_was_to_last(told: Told) -> None:
    assert told.journal.played.keys() == {event[0] for event in EVENTS}
    for name, _, lasts_s, *_ in EVENTS:
        began, ended = told.journal.played[name]
        assert ended is not None
        assert ended - began > lasts_s - 1


@pytest.mark.slow
@pytest.mark.needs_root
def test_a_power_cut_is_a_new_boot_and_a_restarted_agent_is_none(told: Told) -> None:
    boots = {site: len(found) for site, found in told.boots.items()}
    assert boots == {site: 2 if site in (POWER, *ISP) else 1 for site in SITES}
    assert len({boot for found in told.boots.values() for boot in found}) == len(SITES) + 4


@pytest.mark.slow
@pytest.mark.needs_root
def test_it_ends_in_order_and_leaves_no_namespace(told: Told) -> None:
    assert told.code == 0
    assert told.left == set()
