"""The registry's CSV: each rule by a file that breaks it alone, and what Excel makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import registry
from server.model import Site
from server.registry import CsvError

FILES = Path(__file__).parent / "csv"
EXAMPLE = Path(__file__).parents[2] / "examples" / "sites.csv"
HEADER = "site,name,district,isp"
PASAR = Site("bitung-01", "Pasar Girian", "lembeh-selatan", "telkom")

BROKEN = dict(line.split(": ", 1) for line in (FILES / "expected.txt").read_text().splitlines())
"""The name of each file and the error it must give."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_line_column_and_mend(name: str) -> None:
    with pytest.raises(CsvError) as refused:
        registry.parse((FILES / f"{name}.csv").read_text())

    assert str(refused.value) == BROKEN[name]


def test_every_broken_file_has_its_text() -> None:
    assert {path.stem for path in FILES.glob("*.csv")} == set(BROKEN)


def test_the_example_is_forty_sites_in_eight_districts_and_five_isps() -> None:
    sites = registry.parse(EXAMPLE.read_text())

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
        f'{HEADER}\n"bitung-01","Pasar Girian","Lembeh Selatan","Telkom"\n',
        f"{HEADER}\n bitung-01 , Pasar Girian, LEMBEH  SELATAN ,telkom\n",
        "isp,district,name,site\nTelkom,Lembeh-Selatan,Pasar Girian,bitung-01\n",
    ],
    ids=["plain", "no last newline", "Excel", "blank rows", "quotes", "blanks", "other order"],
)
def test_these_all_say_the_same(text: str) -> None:
    assert registry.parse(text) == [PASAR]


def test_every_column_is_taken_over() -> None:
    text = ",".join(registry.COLUMNS) + (
        '\nbitung-01,"Pasar, Girian",Girian,Telkom,20 Mbps,1.4432,-125.18,Asia/Jayapura,fibre,PLN 3'
    )

    assert registry.parse(text) == [
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
        )
    ]


def test_what_is_left_out_is_not_known() -> None:
    assert (PASAR.latitude, PASAR.contract, PASAR.timezone) == (None, "", "Asia/Makassar")


def test_a_site_that_is_as_it_was_is_no_change() -> None:
    assert registry.changes([PASAR], {PASAR.id: PASAR}) == []


def test_a_new_site_is_told_by_name_and_place() -> None:
    [change] = registry.changes([PASAR], {})

    assert change.text() == "+ bitung-01  Pasar Girian (lembeh-selatan, telkom)"


def test_a_changed_site_is_told_by_what_differs() -> None:
    before = Site("bitung-01", "Pasar", "girian", "telkom")
    [change] = registry.changes([PASAR], {PASAR.id: before})

    assert change.text() == (
        "~ bitung-01  name 'Pasar' -> 'Pasar Girian', district 'girian' -> 'lembeh-selatan'"
    )


def test_a_retired_site_that_is_imported_again_is_in_service_again() -> None:
    before = Site("bitung-01", "Pasar Girian", "lembeh-selatan", "telkom", retired=True)
    [change] = registry.changes([PASAR], {PASAR.id: before})

    assert change.site.retired is False
    assert change.text().startswith("+ bitung-01")


def test_sites_that_the_file_does_not_name_stay() -> None:
    other = Site("bitung-02", "Kantor", "maesa", "icon")

    assert registry.changes([], {other.id: other}) == []
