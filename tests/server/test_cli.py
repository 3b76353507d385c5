"""The command ``pantau`` as a process: what it prints, how it exits, what it cannot do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from server.model import Site
from tests.server.centre import Centre
from tests.server.made import Device, Message, identity

PANTAU = Path(sys.executable).with_name("pantau")
START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
SITES = (
    Site("maesa-01", "Taman Kesatuan", "maesa", "telkom"),
    Site("maesa-02", "Kantor [Lurah]", "maesa", "biznet", timezone="Asia/Jakarta"),
    Site("girian-01", "Pasar", "girian", "telkom", "20 Mbps", 1.44, 125.1, "Asia/Jayapura"),
    Site("girian-02", "Puskesmas", "girian", "icon"),
)
READING = {"received_at", "taken_at_corrected", "time_uncertain", "site", "stream"}


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Its JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


def pantau(*arguments: str | Path) -> Ran:
    done = subprocess.run(
        [PANTAU, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def configured(folder: Path) -> Run:
    """Runs commands on the store in `folder`."""
    config = folder / "server.toml"
    config.write_text(f'[store]\nurl = "sqlite://{folder}/pantau.db"\n')
    return lambda *arguments: pantau(*arguments, "--config", config)


@pytest.fixture
def fresh(tmp_path: Path) -> Run:
    """No database yet."""
    return configured(tmp_path)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four sites, one each online, degraded, offline, unknown, and one that nobody registered."""
    folder = tmp_path_factory.mktemp("city")
    centre = Centre(folder, *SITES)
    good, lossy, cut, alien = (
        Device(site=name, booted_at=START - 900, stream=identity(name))
        for name in ("maesa-01", "maesa-02", "girian-01", "alien-01")
    )
    cut.synced = False
    centre.hears(cut.live(START - 300))
    centre.waits(START - 150)
    centre.hears(cut.live(START - 100))
    for at in (START, START + 60, START + 120):
        centre.hears(good.live(at), lossy.live(at, ladder={"world": "fail"}), alien.live(at))
        centre.waits(at)
    for site in ("maesa-01", "maesa-02"):
        centre.hears(Message(f"pantau/v1/sites/{site}/presence", b"{}", False, START + 121))
    centre.store.close()
    return configured(folder)


def test_status_counts_and_lists_every_site(city: Run) -> None:
    [told] = city("status", "--json").objects

    assert {name: told[name] for name in ("online", "degraded", "offline", "unknown")} == {
        "online": 2,
        "degraded": 1,
        "offline": 1,
        "unknown": 1,
    }
    rows = {row["site"]: row for row in told["sites"]}
    assert rows["maesa-02"] == {
        "site": "maesa-02",
        "status": "degraded",
        "district": "maesa",
        "isp": "biznet",
        "since": "2027-01-15T08:02:00.000Z",
        "registered": True,
        "reasons": ["world failing"],
        "flapping": False,
        "maintenance": False,
    }
    assert (rows["girian-02"]["status"], rows["girian-02"]["since"]) == ("unknown", None)
    alien = rows["alien-01"]
    assert (alien["district"], alien["isp"], alien["registered"]) == ("-", "-", False)


@pytest.mark.parametrize(
    ("options", "sites"),
    [
        (["--district", "maesa"], {"maesa-01", "maesa-02"}),
        (["--district", "Girian", "--isp", "Telkom"], {"girian-01"}),
        (["--isp", "-"], {"alien-01"}),
        (["--district", "nowhere"], set()),
    ],
)
def test_status_can_be_narrowed(city: Run, options: list[str], sites: set[str]) -> None:
    [told] = city("status", "--json", *options).objects

    assert {row["site"] for row in told["sites"]} == sites
    assert told["online"] + told["degraded"] + told["offline"] + told["unknown"] == len(sites)


def test_status_shows_a_person_the_worst_first_in_each_sites_own_time(city: Run) -> None:
    ran = city("status")
    first, _, *rows = ran.out.splitlines()

    assert first == ("5 sites: 2 online (40%), 1 degraded (20%), 1 offline (20%), 1 unknown (20%)")
    assert [row.split()[0] for row in rows] == [
        *("girian-01", "maesa-02", "girian-02"),
        *("maesa-01", "alien-01"),
    ]
    assert "2027-01-15 16:58:20 WIT" in rows[0]
    assert "Kantor [Lurah]" in rows[1]
    assert rows[1].split()[-5:] == ["2027-01-15", "15:02:00", "WIB", "world", "failing"]
    assert "2027-01-15 16:00:00 WITA" in rows[3]
    assert "(unregistered)" in rows[4]


def test_incidents_are_alerts_with_their_revisions(city: Run) -> None:
    resolved, firing, degraded = city("incidents", "--json").objects

    assert [one["status"] for one in (resolved, firing, degraded)] == [
        *("resolved", "firing", "firing"),
    ]
    assert [one["kind"] for one in (firing, degraded)] == ["site_offline", "site_degraded"]
    assert (resolved["sites"], resolved["site_count"], resolved["group"]) == (
        ["girian-01"],
        1,
        None,
    )
    assert resolved["cause"].keys() == {"verdict", "confidence", "evidence"}
    first, last = resolved.pop("revisions")
    at = last.pop("at")
    assert last == resolved
    assert at == resolved["resolved_at"] == "2027-01-15T07:58:20.000Z"
    assert (first["revision"], last["revision"], first["resolved_at"]) == (1, 2, None)


def test_alerts_are_what_fires(city: Run) -> None:
    alerts = city("alerts", "--json").objects

    assert [one["kind"] for one in alerts] == ["site_offline", "site_degraded"]
    assert "revisions" not in alerts[0]


@pytest.mark.parametrize("command", ["incidents", "alerts"])
def test_tables_of_incidents_are_for_people(city: Run, command: str) -> None:
    lines = city(command).out.splitlines()

    assert "Kantor [Lurah] is degraded: world failing" in lines[-1]
    assert "2027-01-15 14:59:00 WIB" in lines[-1]
    assert "still firing" in lines[-1]


def test_readings_are_as_on_the_wire_with_ours_behind(city: Run) -> None:
    told = city("readings", "girian-01", "--json").objects

    assert [one["seq"] for one in told] == [1, 2]
    assert told[0].keys() == READING | {
        *("seq", "boot", "taken_at", "uptime_s", "clock", "window_s", "agent", "ladder"),
    }
    first = told[0]
    assert (first["site"], first["stream"]) == ("girian-01", identity("girian-01"))
    assert first["received_at"] == "2027-01-15T07:55:00.000Z"
    assert first["taken_at"] == "2027-01-16T07:55:00.000Z"
    assert first["taken_at_corrected"] == "2027-01-15T07:55:00.000Z"
    assert first["time_uncertain"] is False


def test_readings_of_an_unregistered_site_are_shown(city: Run) -> None:
    ran = city("readings", "alien-01")

    assert len(ran.out.splitlines()) == 3
    assert ran.out.splitlines()[0].endswith("1  2027-01-15 16:00:00 WITA")


def test_a_registered_site_without_readings_has_none(city: Run) -> None:
    assert city("readings", "girian-02", "--json") == Ran(0, "", "")


def test_quarantine_says_when_where_why_and_how_much(city: Run) -> None:
    first, _ = city("quarantine", "--json").objects
    assert first == {
        "at": "2027-01-15T08:02:01.000Z",
        "topic": "pantau/v1/sites/maesa-01/presence",
        "reason": "Object missing required field `v`",
        "bytes": 2,
        "head": "{}",
    }

    lines = city("quarantine").out.splitlines()
    assert lines[1].endswith("sites/maesa-02/presence  2 bytes: Object missing required field `v`")


def test_sites_list_shows_the_registry(city: Run) -> None:
    told = city("sites", "list", "--json").objects

    assert [one["site"] for one in told] == sorted(site.id for site in SITES)
    assert told[0] == {
        "site": "girian-01",
        "name": "Pasar",
        "district": "girian",
        "isp": "telkom",
        "contract": "20 Mbps",
        "latitude": 1.44,
        "longitude": 125.1,
        "timezone": "Asia/Jayapura",
        "backhaul": "",
        "power_area": "",
        "retired": False,
        "address": "",
        "access_points": [],
    }
    assert "Kantor [Lurah]" in city("sites", "list").out


def test_sites_show_tells_how_one_site_stands(city: Run) -> None:
    [told] = city("sites", "show", "girian-01", "--json").objects
    assert (told["site"], told["status"]) == ("girian-01", "offline")
    assert told["streams"] == [{"stream": identity("girian-01"), "through": 2, "lost": 0}]
    assert told["last_24_h"].keys() == {"up_s", "down_s", "unmeasured_s"}

    shown = city("sites", "show", "girian-01").out
    assert re.search(r"^status +offline since 2027-01-15 16:58:20 WIT$", shown, re.MULTILINE)
    assert re.search(r"^last reading +2027-01-15 16:58:20 WIT$", shown, re.MULTILINE)
    assert re.search(r"^ +no sign of life for 150 s$", shown, re.MULTILINE)


HEADER = "site,name,district,isp\n"


@pytest.fixture
def csv(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "sites.csv").write_text(text)
        return tmp_path / "sites.csv"

    return write


def test_an_import_adds_changes_and_leaves_alone(fresh: Run, csv: Callable[[str], Path]) -> None:
    first = csv(HEADER + "aa-1,Satu,Maesa,Icon\naa-2,Dua,Maesa,Icon\naa-3,Tiga,Maesa,Icon\n")
    assert fresh("sites", "import", first) == Ran(
        0,
        "+ aa-1  Satu (maesa, icon)\n+ aa-2  Dua (maesa, icon)\n+ aa-3  Tiga (maesa, icon)\n"
        "3 added, 0 changed, 0 unchanged\n",
        "",
    )

    second = csv(HEADER + "aa-1,Satu,Maesa,Icon\naa-2,Dua,Girian,Icon\naa-4,Empat,Maesa,Icon\n")
    assert fresh("sites", "import", second).out == (
        "~ aa-2  district 'maesa' -> 'girian'\n+ aa-4  Empat (maesa, icon)\n"
        "1 added, 1 changed, 1 unchanged\n"
    )
    told = {one["site"]: one["district"] for one in fresh("sites", "list", "--json").objects}
    assert told == {"aa-1": "maesa", "aa-2": "girian", "aa-3": "maesa", "aa-4": "maesa"}


def test_a_dry_run_shows_what_would_change_and_changes_nothing(
    fresh: Run, csv: Callable[[str], Path], tmp_path: Path
) -> None:
    file = csv(HEADER + "aa-1,Satu,Maesa,Icon\n")
    ran = fresh("sites", "import", file, "--dry-run")

    assert (
        ran.out == "+ aa-1  Satu (maesa, icon)\n1 would be added, 0 would be changed, 0 unchanged\n"
    )
    assert not (tmp_path / "pantau.db").exists()
    fresh("sites", "import", file)
    changed = csv(HEADER + "aa-1,Satu,Maesa,Indosat\n")
    ran = fresh("sites", "import", changed, "--dry-run")
    assert ran.out.splitlines()[0] == "~ aa-1  isp 'icon' -> 'indosat'"
    assert fresh("sites", "list", "--json").objects[0]["isp"] == "icon"


def test_an_import_with_a_bad_row_imports_nothing(
    fresh: Run, csv: Callable[[str], Path], tmp_path: Path
) -> None:
    file = csv(HEADER + "aa-1,Satu,Maesa,Icon\nAA-2,Dua,Maesa,Icon\n")

    assert fresh("sites", "import", file) == Ran(
        1,
        "",
        f"pantau: {file}: line 3, column site: 'AA-2' is no site id;"
        " use a-z, 0-9 and '-', 2 to 63 characters; nothing was imported\n",
    )
    assert not (tmp_path / "pantau.db").exists()


def test_an_import_takes_what_excel_saves(fresh: Run, csv: Callable[[str], Path]) -> None:
    file = csv("")
    file.write_bytes(b"\xef\xbb\xbfsite,name,district,isp\r\naa-1,Satu,Maesa,Icon\r\n")

    assert fresh("sites", "import", file).out.endswith("\n1 added, 0 changed, 0 unchanged\n")


def test_an_import_refuses_what_is_not_utf8(fresh: Run, csv: Callable[[str], Path]) -> None:
    file = csv("")
    file.write_bytes(HEADER.encode() + b"aa-1,Caf\xe9,Maesa,Icon\n")

    assert (
        fresh("sites", "import", file).err == f"pantau: {file}: not UTF-8 at byte 31; save it so\n"
    )


def test_a_retired_site_is_marked_and_can_come_back(fresh: Run, csv: Callable[[str], Path]) -> None:
    file = csv(HEADER + "aa-1,Satu,Maesa,Icon\n")
    fresh("sites", "import", file)

    assert fresh("sites", "retire", "aa-1").code == 0
    assert "Satu (retired)" in fresh("sites", "list").out
    assert fresh("status", "--json").objects[0]["sites"] == []
    again = fresh("sites", "retire", "aa-1")
    assert (again.code, again.err) == (1, "pantau: aa-1 is already retired\n")
    assert fresh("sites", "import", file).out.endswith("\n1 added, 0 changed, 0 unchanged\n")
    assert fresh("sites", "list", "--json").objects[0]["retired"] is False


def test_the_whole_example_can_be_imported(fresh: Run) -> None:
    example = Path(__file__).parents[2] / "examples" / "sites.csv"

    assert fresh("sites", "import", example).out.endswith("\n40 added, 0 changed, 0 unchanged\n")
    assert fresh("status").out.startswith("40 sites: 0 online (0%)")


NO_SITE = "pantau: no site 'nobody' in the registry; see 'pantau sites list'\n"


@pytest.mark.parametrize(
    ("command", "err"),
    [
        (["sites", "show", "nobody"], NO_SITE),
        (["sites", "retire", "nobody"], NO_SITE),
        (["readings", "nobody"], "pantau: no site 'nobody'; see 'pantau sites list'\n"),
        (
            ["sites", "import", "/nowhere.csv"],
            "pantau: /nowhere.csv: cannot be read: No such file or directory\n",
        ),
    ],
)
def test_what_cannot_be_done_exits_with_1_and_one_line(
    city: Run, command: list[str], err: str
) -> None:
    assert city(*command) == Ran(1, "", err)


READERS = [
    *(["status"], ["incidents"], ["alerts"], ["quarantine"], ["readings", "aa-1"]),
    *(["sites", "list"], ["sites", "show", "aa-1"], ["sites", "retire", "aa-1"]),
]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_without_a_database_it_says_how_one_is_made(
    fresh: Run, command: list[str], tmp_path: Path
) -> None:
    assert fresh(*command) == Ran(
        1,
        "",
        f"pantau: no database at {tmp_path}/pantau.db;"
        " 'pantau sites import' or 'pantau ingest' makes it\n",
    )


@pytest.mark.parametrize(
    ("make", "err"),
    [
        (lambda path: path.write_text("not a database\n" * 1000), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
    ],
)
def test_a_broken_database_is_one_line(
    fresh: Run, make: Callable[[Path], object], err: str, tmp_path: Path
) -> None:
    make(tmp_path / "pantau.db")

    assert fresh("status") == Ran(1, "", f"pantau: database {tmp_path}/pantau.db: {err}\n")


def test_a_database_that_is_damaged_inside_is_one_line(fresh: Run, tmp_path: Path) -> None:
    centre = Centre(tmp_path, *SITES)
    for n in range(200):
        centre.hears(*(Device(site=site.id, seq=n).live(START + n) for site in SITES))
    centre.store.close()
    whole = (tmp_path / "pantau.db").read_bytes()
    healthy = 40 * 4096  # the schema, and the first of the readings
    (tmp_path / "pantau.db").write_bytes(whole[:healthy] + b"\xa5" * (len(whole) - healthy))

    ran = fresh("readings", "maesa-01")
    assert ran.code == 1
    assert ran.err == (f"pantau: database {tmp_path}/pantau.db: database disk image is malformed\n")


def test_a_database_of_a_newer_version_is_left_alone(fresh: Run, tmp_path: Path) -> None:
    Centre(tmp_path).store._run("PRAGMA user_version = 99")  # type: ignore[attr-defined]  # to come

    assert fresh("status").err == (
        f"pantau: database {tmp_path}/pantau.db is of a newer Pantau; upgrade this one\n"
    )


def test_a_folder_that_is_missing_is_named_with_its_mend(
    tmp_path: Path, csv: Callable[[str], Path]
) -> None:
    (tmp_path / "away").mkdir()
    run = configured(tmp_path / "away")
    config = tmp_path / "away" / "server.toml"
    config.write_text(config.read_text().replace("pantau.db", "gone/pantau.db"))

    assert run("sites", "import", csv(HEADER + "aa-1,Satu,Maesa,Icon\n")) == Ran(
        2,
        "",
        f"pantau: {config}: store.url: there is no folder {tmp_path}/away/gone;"
        " make it, or name another\n",
    )
    config.write_text(config.read_text().replace("gone/pantau.db", ""))
    assert run("ingest") == Ran(
        2,
        "",
        f"pantau: {config}: store.url: {tmp_path}/away cannot be made or opened;"
        " be a user who may write there, as ingest is, or name another place\n",
    )


def test_ingest_checks_its_configuration_and_opens_nothing(tmp_path: Path) -> None:
    config, database = tmp_path / "server.toml", tmp_path / "pantau.db"
    good = f'[store]\nurl = "sqlite://{database}"\n'
    config.write_text(good)
    check = ("ingest", "--check", "--config", config)
    assert pantau(*check) == Ran(0, f"{config}: can be used\n", "")

    config.write_text(f"{good}[health]\nofline_confirm_s = 30\n")
    ran = pantau(*check)
    assert ran.code == 2
    assert f"pantau: {config}: health.ofline_confirm_s: unknown key; [health] takes" in ran.err
    assert not database.exists()


@pytest.mark.parametrize("command", [["ingest"], ["status"], ["sites", "list"]], ids=" ".join)
def test_a_bad_configuration_exits_with_2_and_one_line(command: list[str], tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text("[health]\noffline_confirm_s = 0\n")

    assert pantau(*command, "--config", config) == Ran(
        2,
        "",
        f"pantau: {config}: health.offline_confirm_s: 0.0 is not possible; give a number above 0\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["frob"], ["sites"], ["sites", "show"], ["readings"], ["status", "--frob"]),
        *(["--json"], ["--vers"], ["status", "--js"], ["sites", "import", "--dry", "x.csv"]),
        *(["fr\nob"], ["status", "a\n\u2028b"]),
    ],
    ids=ascii,
)
def test_wrong_usage_exits_with_2_and_one_line(arguments: list[str]) -> None:
    ran = pantau(*arguments)

    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert re.match(r"pantau[a-z ]*: .*; see 'pantau[a-z ]* --help'$", ran.err)


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"pantau \d+\.\d+\.\d+\n", pantau("--version").out)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More sites than a pipe holds."""
    folder = tmp_path_factory.mktemp("crowd")
    configured(folder)
    sites = (Site(f"site-{n}", f"Nama {n}", "maesa", "telkom") for n in range(3000))
    Centre(folder, *sites).store.close()
    return folder / "server.toml"


@pytest.mark.parametrize("command", ["status", "status --json", "sites list", "sites list --json"])
def test_a_reader_that_has_seen_enough_is_no_failure(crowd: Path, command: str) -> None:
    script = f"{PANTAU} {command} --config {crowd} | head -c 20; echo; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )

    assert (done.stderr, done.stdout.splitlines()[1]) == ("", "0")


def test_a_name_with_line_breaks_stays_on_its_line_of_json(
    fresh: Run, csv: Callable[[str], Path]
) -> None:
    fresh("sites", "import", csv(HEADER + 'aa-1,"Dua\nbaris",Maesa,Icon\n'))

    assert fresh("sites", "list", "--json").objects[0]["name"] == "Dua\nbaris"


def test_a_reading_that_was_sent_over_several_lines_stays_on_one(tmp_path: Path) -> None:
    centre = Centre(tmp_path)
    device = Device()
    device.reading(1000)
    device.spool[1] = msgspec.json.format(device.spool[1]) + b"\r\n"
    centre.hears(device.message(1000))
    centre.store.close()

    [told] = configured(tmp_path)("readings", device.site, "--json").objects
    assert told["seq"] == 1


def test_a_time_that_no_zone_can_hold_is_shown_in_utc(tmp_path: Path) -> None:
    centre = Centre(tmp_path, SITES[0])
    device = Device(site=SITES[0].id)
    device.reading(START, taken_at="9999-12-31T23:59:59.000Z")
    centre.hears(device.message(START + 1, 1))
    centre.store.close()

    ran = configured(tmp_path)("readings", device.site)

    assert (ran.code, ran.err) == (0, "")
    assert "9999-12-31T23:59:59.000Z" in ran.out
