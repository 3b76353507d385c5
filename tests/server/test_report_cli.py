"""``pantau report`` as a process on a real store that ingest wrote: figures, forms, faults."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server import cli, report
from server.model import Contract, Maintenance, Site
from server.periods import Period
from server.store import Store
from tests.server.centre import Centre
from tests.server.made import Device, identity
from tests.server.test_cli import Run, configured

MIDNIGHT = datetime(2026, 1, 15, tzinfo=UTC).timestamp()
HOUR = ("--from", "2026-01-15 00:00", "--to", "2026-01-15 01:00", "--zone", "UTC")
SITES = (
    Site("maesa-01", "Taman", "maesa", "telkom", "t-1"),
    Site("maesa-02", "Kantor", "maesa", "biznet"),
    Site("girian-01", "Pasar", "girian", "telkom", "t-1"),
)
TERMS = Contract(
    "t-1",
    0.0,
    availability_ratio=0.9,
    price=310_000.0,
    restitution=((0.9, 0.1),),
    excludes=("maintenance",),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An hour: one site up, one failing for 12 minutes, one never heard from."""
    folder = tmp_path_factory.mktemp("report")
    centre = Centre(folder, *SITES)
    with centre.store.transaction():
        centre.store.put_contract("t-1", [TERMS], MIDNIGHT)
        work = Maintenance("m", "site", "maesa-01", MIDNIGHT + 600, MIDNIGHT + 840)
        centre.store.put_maintenance(work)
    good, bad = (
        Device(site=name, booted_at=MIDNIGHT - 900, stream=identity(name))
        for name in ("maesa-02", "maesa-01")
    )
    for minute in range(1, 61):
        at = MIDNIGHT + 60 * minute
        failing = {"ladder": {"domestic": "fail", "world": "fail"}} if 11 <= minute <= 22 else {}
        centre.hears(good.live(at), bad.live(at, **failing))
        centre.waits(at)
    centre.store.close()
    return configured(folder)


def rows(run: Run, *words: str) -> list[dict[str, Any]]:
    [told] = run("report", "availability", "--json", *HOUR, *words).objects
    found: list[dict[str, Any]] = told["rows"]
    return found


def test_a_report_tells_numerator_denominator_excluded_and_unmeasured(run: Run) -> None:
    never, bad, good = rows(run, "--by", "site")

    assert [one["site"] for one in (never, bad, good)] == ["girian-01", "maesa-01", "maesa-02"]
    assert (good["numerator_min"], good["denominator_min"], good["availability_ratio"]) == (
        60,
        60,
        1,
    )
    assert (bad["numerator_min"], bad["denominator_min"]) == (48, 56)
    assert (bad["excluded_min"], bad["excluded_maintenance_min"]) == (4, 4)
    assert (bad["kept"], bad["promised_ratio"], bad["site_months_broken"]) == (False, 0.9, 1)
    assert bad["restitution"][0]["formula"] == (
        "0.1 x 310000.00 IDR x 0.0013 months = 41.67 IDR"  # an hour of January
    )
    assert (never["unmeasured_min"], never["availability_ratio"], never["kept"]) == (60, None, None)


def test_rows_are_by_the_names_asked_for_and_total_is_everything(run: Run) -> None:
    told = rows(run, "--by", "district,isp")

    assert [(one["district"], one["isp"], one["sites"]) for one in told] == [
        *(("girian", "telkom", 1), ("maesa", "biznet", 1), ("maesa", "telkom", 1)),
    ]
    [whole] = run("report", "availability", "--json", *HOUR).objects
    assert whole["total"]["numerator_min"] == 108
    assert [one["isp"] for one in whole["rows"]] == ["biznet", "telkom"]


def test_the_stored_readings_give_the_same_figure_as_the_ledger(run: Run) -> None:
    [ledger] = run("report", "availability", "--json", *HOUR, "--by", "site").objects
    [anew] = run("report", "availability", "--json", "--recompute", *HOUR, "--by", "site").objects

    assert (ledger["same_as_ledger"], anew["same_as_ledger"]) == (None, True)
    assert anew["rows"] == ledger["rows"]


@pytest.mark.parametrize("kind", ["availability", "online"])
def test_a_report_is_of_one_moment_though_ingest_writes_meanwhile(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre, seen = Centre(tmp_path, *SITES), []
    configured(tmp_path)

    def meanwhile(store: Store, period: Period, **more: bool) -> Any:
        for _ in range(2):
            seen.append(len(list(store.quarantined())))
            with centre.store.transaction():
                centre.store.quarantine(MIDNIGHT, "topic", "reason", b"")
        return facts(store, period, **more)

    facts = report._facts
    monkeypatch.setattr(report, "_facts", meanwhile)
    words = ["report", kind, *HOUR, "--config", str(tmp_path / "server.toml")]
    args = cli.build_parser("report").parse_args(words)
    assert args.run(args) == 0
    assert seen == [0, 0]


def test_a_ledger_that_differs_from_its_readings_is_named(tmp_path: Path) -> None:
    centre = Centre(tmp_path, SITES[0])
    device = Device(site="maesa-01")
    centre.hears(device.live(MIDNIGHT + 60))
    with centre.store.transaction():
        [(_, spans)] = centre.store.all_spans(MIDNIGHT, MIDNIGHT + 3600)
        centre.store.paint("maesa-01", [spans[0]._replace(code=2)])
    centre.store.close()
    ran = configured(tmp_path)("report", "availability", "--recompute", *HOUR)

    assert ran.code == 1
    assert ran.err == "pantau: the stored readings and the ledger differ, at maesa-01\n"


def test_a_person_gets_a_table_with_the_formula(run: Run) -> None:
    out = run("report", "availability", *HOUR, "--by", "contract,site").out

    assert out.startswith("availability from 2026-01-15 00:00 UTC to 2026-01-15 01:00 UTC\n")
    assert "85.714%" in out
    assert "t-1 maesa-01: 0.1 x 310000.00 IDR x 0.0013 months = 41.67 IDR" in out


def test_csv_has_a_line_of_names_and_one_for_each_row(run: Run) -> None:
    ran = run("report", "availability", "--csv", *HOUR, "--by", "site")
    told = list(csv.DictReader(io.StringIO(ran.out)))

    assert [one["site"] for one in told] == ["girian-01", "maesa-01", "maesa-02"]
    assert (told[1]["numerator_min"], told[1]["restitution"]) == ("48.0", "41.67 IDR")


def test_the_online_share_is_told_step_by_step(run: Run) -> None:
    [told] = run("report", "online", "--json", *HOUR, "--step", "30m").objects

    assert [one["sites_up"] for one in told["steps"]] == [1.6, 2.0]
    assert [one["online_ratio"] for one in told["steps"]] == [0.8, 1.0]
    assert told["total"]["online_of_all_ratio"] == 0.6
    assert run("report", "online", *HOUR).out.splitlines()[-1].split()[-5:-3] == ["90.0%", "60.0%"]
    assert len(run("report", "online", "--csv", *HOUR, "--step", "15m").out.splitlines()) == 5


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("availability", "--from", "soon"), "--from: 'soon' is no time"),
        (("availability", "--from", "2026-01", "--to", "2026-01"), "--to: 2026-01 is not after"),
        (("availability", "--from", "2026-01", "--zone", "WEST"), "--zone: 'WEST' is no time zone"),
        (("availability", "--from", "2026-01", "--by", "isp,city"), "--by: 'city' is none of isp"),
        (("online", "--from", "2026-01-15", "--step", "1w"), "--step: '1w' is no step"),
        (("online", "--from", "2099-01"), "--from: 2099-01 is still to come"),
    ],
)
def test_a_period_that_cannot_be_meant_is_one_clear_error(
    run: Run, words: tuple[str, ...], fault: str
) -> None:
    ran = run("report", *words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"pantau: {fault}")
    assert len(ran.err.splitlines()) == 1
