"""The commands that enter what is agreed: sites with dates, contracts, maintenance, rules."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.model import Site
from tests.server.centre import Centre
from tests.server.made import Device, identity
from tests.server.test_cli import Ran, Run, configured

EXAMPLES = Path(__file__).parents[2] / "examples"
HEADER = "site,name,district,isp,contract,timezone\n"
SITES = (
    HEADER
    + "aa-1,Satu,Maesa,Telkom,c-1,\naa-2,Dua,Maesa,Icon,,\naa-3,Tiga,Girian,Icon,,Asia/Jakarta\n"
)
CONTRACT = '[[contract]]\nid = "c-1"\nvalid_from = 2024-04-01\nprice = 100\nfloor_rtt_ms = 75\n'
RULES = "[isp.icon]\nraise_windows = 5\n"

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Run:
    """Three sites, valid since 2023."""
    made = configured(tmp_path)
    assert made("sites", "import", write("all.csv", SITES), "--valid-from", "2023-01-01").code == 0
    return made


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same three sites, for commands that change nothing."""
    folder = tmp_path_factory.mktemp("unchanged")
    (folder / "all.csv").write_text(SITES)
    made = configured(folder)
    assert made("sites", "import", folder / "all.csv").code == 0
    return made


def failed(ran: Ran) -> str:
    """The one line of what cannot be done."""
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    return ran.err


def test_a_change_with_a_date_leaves_what_was_before(run: Run, write: Write) -> None:
    changed = write("new.csv", HEADER + "aa-1,Satu,Maesa,Biznet,c-2,\n")
    told = "~ aa-1  isp 'telkom' -> 'biznet', contract 'c-1' -> 'c-2', from 2024-04-01 00:00 WITA\n"
    dry = run("sites", "import", changed, "--valid-from", "2024-04-01", "--dry-run")
    assert dry.out == told + "0 would be added, 1 would be changed, 0 unchanged\n"
    assert run("sites", "list", "--json").objects[0]["isp"] == "telkom"

    ran = run("sites", "import", changed, "--valid-from", "2024-04-01")
    assert ran == Ran(0, told + "0 added, 1 changed, 0 unchanged\n", "")
    assert run("sites", "list", "--json").objects[0]["isp"] == "biznet"
    old, new = run("sites", "history", "aa-1", "--json").objects
    assert (old["isp"], old["valid_from"], old["valid_to"]) == (
        *("telkom", "2022-12-31T16:00:00.000Z", "2024-03-31T16:00:00.000Z"),
    )
    assert (new["isp"], new["valid_from"], new["valid_to"]) == ("biznet", old["valid_to"], None)
    assert run("sites", "history", "aa-1").out.splitlines() == [
        "from 2023-01-01 00:00 WITA to 2024-04-01 00:00 WITA: Satu (maesa, telkom), contract c-1",
        "from 2024-04-01 00:00 WITA: isp 'telkom' -> 'biznet', contract 'c-1' -> 'c-2'",
    ]


def test_a_change_to_come_is_in_the_history_and_not_yet_in_the_list(run: Run, write: Write) -> None:
    changed = write("new.csv", HEADER + "aa-1,Satu,Maesa,Biznet,c-2,\n")
    assert run("sites", "import", changed, "--valid-from", "2099-01-01").code == 0

    assert run("sites", "list", "--json").objects[0]["isp"] == "telkom"
    assert [one["isp"] for one in run("sites", "history", "aa-1", "--json").objects] == [
        *("telkom", "biznet"),
    ]


def test_a_site_that_retires_has_an_end(run: Run) -> None:
    assert run("sites", "retire", "aa-1").code == 0

    [one] = run("sites", "history", "aa-1", "--json").objects
    assert one["valid_to"] is not None
    assert run("sites", "list", "--json").objects[0]["retired"] is True


ENDS = "site,name,district,isp,valid_from,valid_to\n"
PLAIN = "site,name,district,isp\n"


def ends(run: Run, site: str) -> list[object]:
    """When each term of a site ends."""
    return [one["valid_to"] for one in run("sites", "history", site, "--json").objects]


def test_the_usual_file_keeps_the_end_that_is_known_of_a_site(tmp_path: Path, write: Write) -> None:
    run = configured(tmp_path)
    row = "aa-9,Satu,Maesa,Telkom"
    run("sites", "import", write("a.csv", ENDS + f"{row},2024-01-01,2099-01-01\n"))

    ran = run("sites", "import", write("b.csv", f"{PLAIN}{row}\n"))
    assert ran.out == "0 added, 0 changed, 1 unchanged\n"
    assert ends(run, "aa-9") == ["2098-12-31T16:00:00.000Z"]

    ran = run("sites", "import", write("b.csv", ENDS + f"{row},2099-01-01,\n"))
    assert ran.out.endswith("1 added, 0 changed, 0 unchanged\n")
    assert ends(run, "aa-9") == [None]


def test_a_correction_leaves_a_site_that_has_ended_out_of_service(
    tmp_path: Path, write: Write
) -> None:
    run = configured(tmp_path)
    run("sites", "import", write("a.csv", f"{ENDS}aa-9,Satu,Maesa,Telkom,2024-01-01,2025-06-01\n"))
    corrected = write("b.csv", PLAIN + "aa-9,Satu,Maesa,Biznet\n")

    assert run("sites", "import", corrected, "--valid-from", "2024-04-01").code == 0
    assert ends(run, "aa-9") == ["2024-03-31T16:00:00.000Z", "2025-05-31T16:00:00.000Z"]
    assert run("sites", "list", "--json").objects == []


def test_a_site_that_retired_comes_back_from_now(run: Run, write: Write) -> None:
    assert run("sites", "retire", "aa-1").code == 0

    again = run("sites", "import", write("again.csv", HEADER + "aa-1,Satu,Maesa,Telkom,c-1,\n"))

    assert again.out.endswith("1 added, 0 changed, 0 unchanged\n")
    assert run("sites", "list", "--json").objects[0]["retired"] is False
    assert ends(run, "aa-1")[-1] is None


def test_validity_that_overlaps_imports_nothing(run: Run, write: Write) -> None:
    rows = "aa-1,Satu,Maesa,Icon,2024-01-01,2024-06-01\naa-1,Satu,Maesa,Biznet,2024-04-01,\n"
    file = write("new.csv", "site,name,district,isp,valid_from,valid_to\n" + rows)

    assert failed(run("sites", "import", file)) == (
        f"pantau: {file}: line 3, column valid_from: overlaps line 2, which is valid"
        " from 2024-01-01 00:00 WITA to 2024-06-01 00:00 WITA;"
        " let one end where the other begins; nothing was imported\n"
    )
    assert len(run("sites", "history", "aa-1", "--json").objects) == 1


def test_a_date_that_is_none_is_wrong_usage(unchanged: Run) -> None:
    ran = unchanged("sites", "import", "x.csv", "--valid-from", "1 April")

    assert ran.code == 2
    assert "--valid-from: '1 April' is no time; write 2024-04-01 or 2024-04-01 08:30" in ran.err


def test_every_change_of_a_contract_is_a_version(run: Run, write: Write) -> None:
    file = write("c.toml", CONTRACT)
    dry = run("contracts", "import", file, "--dry-run")
    assert dry.out.endswith("1 would be added, 0 would be changed, 0 unchanged\n")
    assert run("contracts", "list", "--json").objects == []
    assert run("contracts", "import", file).out.endswith("1 added, 0 changed, 0 unchanged\n")
    assert run("contracts", "import", file).out == "0 added, 0 changed, 1 unchanged\n"

    write("c.toml", CONTRACT.replace("100", "200"))
    assert run("contracts", "import", file).out == (
        "~ c-1 from 2024-04-01 00:00 WITA: price 100.0 -> 200.0\n0 added, 1 changed, 0 unchanged\n"
    )
    prices = [
        one["terms"][0]["price"] for one in run("contracts", "history", "c-1", "--json").objects
    ]
    assert prices == [100.0, 200.0]
    [first] = run("contracts", "show", "c-1", "--version", "1", "--json").objects
    [newest] = run("contracts", "show", "c-1", "--json").objects
    assert (first["price"], first["version"]) == (100.0, 1)
    assert (newest["price"], newest["valid_from"]) == (200.0, "2024-03-31T16:00:00.000Z")
    [listed] = run("contracts", "list", "--json").objects
    assert (listed["contract"], listed["version"], listed["sites"]) == ("c-1", 2, 1)
    assert "version 1, entered" in run("contracts", "history", "c-1").out
    assert "200.00 IDR a site and month" in run("contracts", "list").out
    assert run("contracts", "show", "c-1").out.splitlines()[1] == (
        "from 2024-04-01 00:00 WITA: any ISP, RTT 75 ms, excludes maintenance,"
        " 200.00 IDR a site and month"
    )


def test_the_examples_fit_each_other(tmp_path: Path) -> None:
    run = configured(tmp_path)
    assert run("sites", "import", EXAMPLES / "sites.csv").code == 0
    ran = run("contracts", "import", EXAMPLES / "contracts.toml")
    assert ran.out.endswith("5 added, 0 changed, 0 unchanged\n")
    assert run("rules", "import", EXAMPLES / "rules.toml").code == 0

    assert {one["sites"] for one in run("contracts", "list", "--json").objects} == {18, 8, 7, 4, 3}


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("contracts show x", "no contract 'x'; see 'pantau contracts list'"),
        ("contracts history x", "no contract 'x'; see 'pantau contracts list'"),
        ("contracts import /nowhere", "/nowhere: cannot be read: No such file or directory"),
        ("rules import /nowhere", "/nowhere: cannot be read: No such file or directory"),
        ("rules show x", "no site 'x' in the registry; see 'pantau sites list'"),
        ("sites history x", "no site 'x' in the registry; see 'pantau sites list'"),
        ("maintenance cancel m9", "no maintenance 'm9'; see 'pantau maintenance list'"),
        (
            "maintenance add --isp telcom --from 2026-01-01 --to 2026-01-02",
            "--isp: no site of 'telcom'; see 'pantau sites list'",
        ),
        (
            "maintenance add --site aa-1 --from 2026-01-02 --to 2026-01-01",
            "--to: is not after --from",
        ),
        (
            "maintenance add --site aa-1 --from 2026-01-01 --to 2062-01-01",
            "--to: is 13149 days after --from; give at most 31, and add what comes after",
        ),
        (
            "maintenance add --site aa-1 --from tonight --to 2026-01-01",
            "--from: 'tonight' is no time; write 2024-04-01 or 2024-04-01 08:30",
        ),
        (
            "maintenance add --isp icon --from 2026-01-01 --to 2026-01-02",
            "--zone: is missing; the sites of this isp are in Asia/Jakarta and Asia/Makassar",
        ),
        (
            "maintenance add --site aa-1 --from 2026-01-01 --to 2026-01-02 --zone Bitung",
            "--zone: 'Bitung' is no time zone; write WIB, WITA, WIT or such as Asia/Makassar",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(unchanged: Run, command: str, error: str) -> None:
    assert failed(unchanged(*command.split())) == f"pantau: {error}\n"


@pytest.mark.parametrize(
    ("command", "text", "error"),
    [
        ("contracts", CONTRACT * 2, "contract 2 (c-1) valid_from: overlaps contract 1, which is"),
        ("rules", "[isp.telcom]\nraise_windows = 5", "[isp.telcom]: no isp 'telcom' in the"),
        ("rules", "[isp.icon]\nrtt_clear_ms = 200", "[isp.icon] rtt_clear_ms: is above rtt_raise"),
        (
            "rules",
            "[isp.icon]\nrtt = 200",
            "[isp.icon] rtt: unknown key; there are offline_confirm",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_place_and_changes_nothing(
    run: Run, write: Write, command: str, text: str, error: str
) -> None:
    file = write("bad.toml", text)

    assert failed(run(command, "import", file)).startswith(f"pantau: {file}: {error}")
    assert run("rules", "history").out == run("contracts", "list", "--json").out == ""


def test_a_contract_has_no_version_that_was_never_made(run: Run, write: Write) -> None:
    run("contracts", "import", write("c.toml", CONTRACT))

    assert failed(run("contracts", "show", "c-1", "--version", "3")) == (
        "pantau: c-1 has no version 3; the newest is 1\n"
    )


def test_maintenance_is_announced_listed_and_cancelled(run: Run) -> None:
    ran = run(
        *("maintenance", "add", "--isp", "Telkom", "--note", "radio [swap]"),
        *("--from", "2099-01-01 01:00", "--to", "2099-01-01 03:00"),
    )
    assert ran == Ran(
        0, "m1: isp telkom, from 2099-01-01 01:00 WITA to 2099-01-01 03:00 WITA, 1 site\n", ""
    )
    late = (
        "maintenance",
        "add",
        "--district",
        "maesa",
        "--from",
        "2026-01-01",
        "--to",
        "2026-01-02",
    )
    assert run(*late).out.endswith("2 sites; it has already begun\n")
    begun, coming = run("maintenance", "list", "--json").objects
    assert (begun["id"], begun["state"], begun["scope"]) == ("m2", "over", "district")
    assert (coming["from"], coming["state"]) == ("2098-12-31T17:00:00.000Z", "to come")
    shown = run("maintenance", "list").out
    assert "radio [swap]" in shown
    assert "over, entered late" in shown

    assert run("maintenance", "cancel", "m1").code == 0
    assert run("maintenance", "list", "--json").objects[1]["state"] == "cancelled"
    assert failed(run("maintenance", "cancel", "m1")) == "pantau: m1 is already cancelled\n"
    assert failed(run("maintenance", "cancel", "m2")).startswith("pantau: m2 is over: it was from")


@pytest.mark.parametrize("scope", ["site", "contract", "district", "isp"])
def test_maintenance_of_an_empty_name_is_refused(unchanged: Run, scope: str) -> None:
    """The name of no contract is that of all sites without one."""
    ran = unchanged("maintenance", "add", f"--{scope}=", "--from=2026-01-01", "--to=2026-01-02")

    assert failed(ran) == f"pantau: --{scope}: is empty; write a name\n"


def test_maintenance_over_several_zones_names_its_own(run: Run) -> None:
    ran = run(
        *("maintenance", "add", "--isp", "icon", "--zone", "WIB"),
        *("--from", "2099-01-01", "--to", "2099-01-02"),
    )

    assert ran.out == "m1: isp icon, from 2099-01-01 00:00 WIB to 2099-01-02 00:00 WIB, 2 sites\n"


def test_maintenance_is_for_one_thing(unchanged: Run) -> None:
    told = unchanged("maintenance", "add", "--isp", "a", "--site", "b", "--from", "x", "--to", "y")

    assert told.code == 2
    assert "argument --site: not allowed with argument --isp" in told.err


def test_rules_are_versions_and_tell_what_says_so(run: Run, write: Write) -> None:
    run("contracts", "import", write("c.toml", CONTRACT))
    assert run("rules", "show").out == "no rules but [health] of server.toml\n"
    file = write("rules.toml", RULES)
    assert run("rules", "import", file, "--dry-run").out == (
        "+ [isp.icon] raise_windows 5\nnothing was changed\n"
    )
    assert run("rules", "import", file).out == (
        "+ [isp.icon] raise_windows 5\n"
        "version 1 is in force; a running ingest applies it within 10 s\n"
    )
    assert run("rules", "import", file).out == "nothing changes\n"

    [told] = run("rules", "show", "aa-2", "--json").objects
    assert (told["site"], told["version"]) == ("aa-2", 1)
    assert told["rules"]["raise_windows"] == {"value": 5, "source": "[isp.icon]"}
    assert told["rules"]["clear_windows"] == {"value": 5, "source": "default"}
    [told] = run("rules", "show", "aa-1", "--json").objects
    assert told["rules"]["rtt_raise_ms"] == {"value": 75.0, "source": "contract c-1"}
    assert run("rules", "show", "--json").objects == [
        {"version": 1, "tables": {"isp.icon": {"raise_windows": 5}}}
    ]
    assert "raise_windows" in run("rules", "show", "aa-2").out

    write("rules.toml", RULES.replace("5", "4"))
    run("rules", "import", file)
    first, second = run("rules", "history", "--json").objects
    assert (first["text"], second["version"]) == (RULES, 2)
    assert "  ~ [isp.icon] raise_windows 5 -> 4" in run("rules", "history").out.splitlines()


@pytest.fixture
def heard(tmp_path: Path) -> Run:
    """Two sites of one ISP with lossy minutes in the last hour, and one that was well."""
    sites = [Site(name, name, "maesa", isp) for name, isp in _ISPS.items()]
    centre, start = Centre(tmp_path, *sites), time.time() - 3600
    for name in _ISPS:
        device = Device(site=name, booted_at=start - 900, stream=identity(name))
        for minute in range(55):
            fails = name != "well-1" and 10 <= minute < 14
            centre.hears(device.live(start + 60 * minute, ladder=_FAILS if fails else _OK))
    centre.store.close()
    return configured(tmp_path)


_ISPS = {"bad-1": "telkom", "bad-2": "telkom", "well-1": "icon"}
_OK = {"domestic": "ok", "world": "ok"}
_FAILS = {"domestic": "ok", "world": "fail"}


def test_a_preview_shows_what_rules_would_have_done(heard: Run, write: Write) -> None:
    file = write("rules.toml", "[isp.telkom]\nraise_windows = 5\n[isp.icon]\nraise_windows = 9\n")
    [told] = heard("rules", "preview", file, "--days", "1", "--json").objects

    assert (told["days"], told["sites_looked_at"]) == (1.0, 3)
    assert [one["site"] for one in told["sites"]] == ["bad-1", "bad-2"]
    first = told["sites"][0]
    assert first["before"]["incidents"] - first["after"]["incidents"] == 1
    assert (first["before"]["degraded_minutes"], first["after"]["degraded_minutes"]) == (6.0, 0.0)
    [cleared] = first["cleared"]
    assert (cleared["kind"], cleared["reasons"]) == ("site_degraded", ["world failing"])
    assert first["raised"] == []
    assert (told["sum"]["cleared"], told["sum"]["raised"]) == (2, 0)
    assert told["sum"]["before"]["degraded_minutes"] == 12.0
    assert heard("rules", "history").out == ""

    lines = heard("rules", "preview", file, "--days", "1").out.splitlines()
    assert lines[0].startswith("bad-1: ")
    assert "6 -> 0 min degraded" in lines[0]
    assert lines[1].startswith("  - site_degraded ")
    assert lines[-1].startswith("3 sites looked at, 2 would have differed: ")


def body(ran: Ran) -> dict[str, Any]:
    [told] = ran.objects
    return told


def test_a_preview_can_be_narrowed(heard: Run, write: Write) -> None:
    file = write("rules.toml", "[district.maesa]\nraise_windows = 5\n")
    preview = ("rules", "preview", file, "--days", "1", "--json")

    assert body(heard(*preview, "--site", "bad-2"))["sites_looked_at"] == 1
    assert body(heard(*preview, "--isp", "Telkom"))["sites_looked_at"] == 2
    assert body(heard(*preview, "--district", "Maesa"))["sites_looked_at"] == 3
    assert failed(heard(*preview, "--isp", "nobody")) == (
        "pantau: no site in service is meant by these options; see 'pantau sites list'\n"
    )


@pytest.mark.parametrize("days", ["0", "-1", "many", "nan"])
def test_a_number_of_days_that_is_none_is_wrong_usage(unchanged: Run, days: str) -> None:
    ran = unchanged("rules", "preview", "x.toml", f"--days={days}")

    assert ran.code == 2
    assert f"'{days}' is no number of days; write one such as 7" in ran.err
