"""The registry's CSV: each rule by a file that breaks it alone, and what Excel makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server import dates, registry, sheet
from server.model import Site, SiteTerm
from server.sheet import CsvError

FILES = Path(__file__).parent / "csv"
EXAMPLE = Path(__file__).parents[2] / "examples" / "sites.csv"
HEADER = "site,name,district,isp"
NOW = 1_790_000_000.0  # 2026-09-21 22:13:20 WITA
PASAR = Site("bitung-01", "Pasar Girian", "lembeh-selatan", "telkom")

BROKEN = dict(line.split(": ", 1) for line in (FILES / "expected.txt").read_text().splitlines())
"""The name of each file and the error it must give."""


def parsed(text: str) -> list[Site]:
    return [row.site for row in registry.parse(text, NOW)]


def at(text: str) -> float:
    return dates.instant(text, "Asia/Makassar")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_line_column_and_mend(name: str) -> None:
    with pytest.raises(CsvError) as refused:
        registry.parse((FILES / f"{name}.csv").read_text(), NOW)

    assert str(refused.value) == BROKEN[name]


def test_every_broken_file_has_its_text() -> None:
    assert {path.stem for path in FILES.glob("*.csv")} == set(BROKEN)


def test_the_example_is_forty_sites_in_eight_districts_and_five_isps() -> None:
    sites = parsed(EXAMPLE.read_text())

    assert len(sites) == 40
    assert {site.district for site in sites} == {
        *("aertembaga", "girian", "lembeh-selatan", "lembeh-utara"),
        *("madidir", "maesa", "matuari", "ranowulu"),
    }
    assert {site.isp for site in sites} == {"telkom", "biznet", "infotek", "icon", "indosat"}


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\nbitung-01,Pasar Girian,Lembeh Selatan,Telkom\n",
        f"{HEADER}\nbitung-01,Pasar Girian,Lembeh Selatan,Telkom",
        f"\ufeff{HEADER}\r\nbitung-01,Pasar Girian,Lembeh Selatan,Telkom\r\n",
        f"{HEADER}\r\n\r\nbitung-01,Pasar Girian,Lembeh Selatan,Telkom\r\n,,,\r\n",
        f"\n\n,,,\n{HEADER}\nbitung-01,Pasar Girian,Lembeh Selatan,Telkom",
        f'{HEADER}\n"bitung-01","Pasar Girian","Lembeh Selatan","Telkom"\n',
        f"{HEADER}\n bitung-01 , Pasar Girian, LEMBEH  SELATAN ,telkom\n",
        "isp,district,name,site\nTelkom,Lembeh-Selatan,Pasar Girian,bitung-01\n",
    ],
    ids=[
        "plain",
        "no last newline",
        "Excel",
        "blank rows",
        "blank rows before the header",
        "quotes",
        "blanks",
        "other order",
    ],
)
def test_these_all_say_the_same(text: str) -> None:
    assert parsed(text) == [PASAR]


def test_every_column_is_taken_over() -> None:
    text = ",".join(sheet.COLUMNS) + (
        '\nbitung-01,"Pasar, Girian",Girian,Telkom,20 Mbps,1.4432,-125.18,Asia/Jayapura,fibre,PLN 3'
        ",10.8.0.23,ap-1 ap-2,,"
    )

    assert parsed(text) == [
        Site(
            id="bitung-01",
            name="Pasar, Girian",
            district="girian",
            isp="telkom",
            contract="20 Mbps",
            latitude=1.4432,
            longitude=-125.18,
            timezone="Asia/Jayapura",
            backhaul="fibre",
            power_area="PLN 3",
            address="10.8.0.23",
            access_points=("ap-1", "ap-2"),
        )
    ]


def test_what_is_left_out_is_not_known() -> None:
    assert (PASAR.latitude, PASAR.contract, PASAR.timezone) == (None, "", "Asia/Makassar")


def change(*rows: str, **known: tuple[SiteTerm, ...]) -> registry.Change | None:
    """What importing these rows (site, isp, valid_from, valid_to) changes of the only site."""
    lines = (f"bitung-01,Pasar,Girian,{row}" for row in rows)
    text = "\n".join([f"{HEADER},valid_from,valid_to", *lines])
    changes, _ = registry.changes(registry.parse(text, NOW), {"bitung-01": known.get("known", ())})
    return changes[0] if changes else None


def site(isp: str, **fields: object) -> Site:
    return replace(Site("bitung-01", "Pasar", "girian", isp), **fields)  # type: ignore[arg-type]  # the caller names fields


def stories(change: registry.Change | None) -> list[tuple[str, float, float | None]]:
    """The terms that come out: ISP, from, to."""
    assert change is not None
    return [(one.site.isp, one.valid_from, one.valid_to) for one in change.after]


TELKOM = (SiteTerm(site("telkom"), 1000.0),)


def test_a_site_that_is_as_it_was_is_no_change() -> None:
    assert change("Telkom,,", known=TELKOM) is None
    rows = registry.parse(f"{HEADER}\nbitung-01,Pasar,Girian,Telkom", NOW)
    assert registry.changes(rows, {"bitung-01": TELKOM}) == ([], 1)


def test_a_new_site_is_valid_from_now_and_told_by_name_and_place() -> None:
    made = change("Telkom,,")

    assert made is not None
    assert made.text() == "+ bitung-01  Pasar (girian, telkom)"
    assert made.added
    assert stories(made) == [("telkom", NOW, None)]


def test_a_changed_site_is_told_by_what_differs_and_its_past_stays() -> None:
    known = (SiteTerm(site("telkom", name="Lama"), 1000.0),)
    made = change("Biznet,,", known=known)

    assert made is not None
    assert made.text() == "~ bitung-01  name 'Lama' -> 'Pasar', isp 'telkom' -> 'biznet'"
    assert not made.added
    assert stories(made) == [("telkom", 1000.0, NOW), ("biznet", NOW, None)]


def test_a_backdated_change_ends_the_term_before_it() -> None:
    made = change("Biznet,2024-04-01,", known=TELKOM)

    april = at("2024-04-01")
    assert stories(made) == [("telkom", 1000.0, april), ("biznet", april, None)]
    assert made is not None
    assert made.text() == ("~ bitung-01  isp 'telkom' -> 'biznet', from 2024-04-01 00:00 WITA")


def test_a_backdated_change_lasts_until_the_next_one_that_is_known() -> None:
    later = at("2024-07-01")
    known = (SiteTerm(site("telkom"), 1000.0, later), SiteTerm(site("icon"), later))
    april = at("2024-04-01")

    assert stories(change("Biznet,2024-04-01,", known=known)) == [
        *(("telkom", 1000.0, april), ("biznet", april, later), ("icon", later, None)),
    ]


def test_a_change_that_is_found_to_be_older_is_one_term_from_then() -> None:
    known = (SiteTerm(site("telkom"), 1000.0, NOW - 10), SiteTerm(site("icon"), NOW - 10))
    april = at("2024-04-01")

    assert stories(change("Icon,2024-04-01,", known=known)) == [
        *(("telkom", 1000.0, april), ("icon", april, None)),
    ]


def test_a_change_for_a_time_ends_as_it_was_before() -> None:
    first, last = at("2024-04-01"), at("2024-05-01")
    made = change("Biznet,2024-04-01,2024-05-01", known=TELKOM)

    assert stories(made) == [
        *(("telkom", 1000.0, first), ("biznet", first, last), ("telkom", last, None)),
    ]
    assert made is not None
    assert made.text().endswith("from 2024-04-01 00:00 WITA to 2024-05-01 00:00 WITA")


def test_a_change_to_come_is_told_with_its_date() -> None:
    made = change("Biznet,2027-01-01,", known=TELKOM)

    new_year = at("2027-01-01")
    assert stories(made) == [("telkom", 1000.0, new_year), ("biznet", new_year, None)]


def test_one_file_can_hold_the_whole_history_of_a_site_in_any_order() -> None:
    made = change("Biznet,2024-04-01,", "Telkom,2023-01-01,")

    first, second = at("2023-01-01"), at("2024-04-01")
    assert stories(made) == [("telkom", first, second), ("biznet", second, None)]
    assert made is not None
    assert made.text().splitlines() == [
        "+ bitung-01  Pasar (girian, telkom), from 2023-01-01 00:00 WITA",
        "~ bitung-01  isp 'telkom' -> 'biznet', from 2024-04-01 00:00 WITA",
    ]
    assert change("Biznet,2024-04-01,", "Telkom,2023-01-01,", known=made.after) is None


def test_dates_are_in_the_zone_of_each_site() -> None:
    text = (
        f"{HEADER},timezone\nbitung-01,Pasar,Girian,Telkom,Asia/Jakarta\n"
        "bitung-02,Pos,Girian,Telkom,Asia/Jayapura\n"
    )
    west, east = registry.parse(text, NOW, "2024-04-01")

    assert west.valid_from - east.valid_from == 2 * 3600


def test_a_retired_site_that_is_imported_again_is_in_service_again() -> None:
    known = (SiteTerm(site("telkom"), 1000.0, NOW - 60),)
    made = change("Telkom,,", known=known)

    assert made is not None
    assert made.added
    assert made.text() == "+ bitung-01  Pasar (girian, telkom)"
    assert stories(made) == [("telkom", 1000.0, NOW - 60), ("telkom", NOW, None)]


def test_sites_that_the_file_does_not_name_stay() -> None:
    assert registry.changes([], {"bitung-01": TELKOM}) == ([], 0)
