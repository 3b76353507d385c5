"""Statements: rows, promises and restitution worked out by hand; the online share."""

from __future__ import annotations

import pytest

from server.model import Contract, Site, SiteTerm
from server.online import online
from server.sla import Book, Month, Record, Share, Tally
from server.statement import statement

DAY = 86_400_000
OCTOBER = Month("2026-10", 0, 31 * DAY, 31 * DAY)
NOVEMBER = Month("2026-11", 31 * DAY, 61 * DAY, 30 * DAY)
STEPS = ((0.99, 0.05), (0.95, 0.1), (0.9, 0.25))
TERMS = Contract("t-1", 0.0, availability_ratio=0.99, price=300_000.0, restitution=STEPS)


def share(
    name: str,
    up: int,
    down: int,
    *,
    month: Month = OCTOBER,
    days: tuple[int, int] | None = None,
    district: str = "maesa",
    isp: str = "telkom",
    terms: Contract | None = TERMS,
) -> Share:
    begin, end = days or (month.from_ms // DAY, month.to_ms // DAY)
    site = Site(name, name, district, isp, terms.id if terms else "")
    return Share(site, terms, month, begin * DAY, end * DAY, Tally(up, down))


@pytest.mark.parametrize(
    ("up", "down", "shares"),
    [
        (99, 1, 0.0),  # what is just kept is kept
        (98, 2, 0.05),
        (949, 51, 0.1),  # the largest of the steps that it is below
        (1, 9, 0.25),
        (0, 5, 0.25),
        (0, 0, 0.0),  # not measured: nothing is judged
    ],
)
def test_restitution_is_the_largest_share_that_availability_is_below(
    up: int, down: int, shares: float
) -> None:
    [row] = statement([share("a", up, down)], ["isp"])

    assert [due.amount for due in row.dues] == ([shares * 300_000] if shares else [])
    assert (row.judged, row.broken) == (int(up + down > 0), int(shares > 0))


def test_the_formula_says_how_an_amount_comes_about() -> None:
    [row] = statement([share("a", 97, 3, month=NOVEMBER, days=(31, 46))], ["site"])

    assert row.dues[0].formula == "0.05 x 300000.00 IDR x 0.5000 months = 7500.00 IDR"
    assert (row.promised, row.kept) == (0.99, False)


def test_each_site_and_month_is_judged_by_itself_and_rows_add_up() -> None:
    told = [
        share("a", 100, 0),
        share("a", 90, 10, month=NOVEMBER),
        share("b", 98, 2, isp="biznet"),
        share("c", 50, 50, terms=None, isp="biznet"),
    ]
    biznet, telkom = statement(told, ["isp"])

    assert (telkom.sites, telkom.tally, telkom.judged, telkom.broken) == (1, Tally(190, 10), 2, 1)
    assert telkom.kept is False
    assert [due.amount for due in telkom.dues] == [30_000.0]
    assert (biznet.names, biznet.sites, biznet.promised, biznet.kept) == (
        ("biznet",),
        2,
        None,
        None,
    )
    [whole] = statement(told, [])
    assert whole.tally == Tally(338, 62)
    assert sum(due.amount for due in whole.dues) == 45_000.0


def test_a_month_split_by_district_is_judged_whole_and_paid_once() -> None:
    """98 of 100 up in the first part, 100 of 100 in the other: 99 % in all is kept."""
    told = [
        share("a", 98, 2, days=(0, 10)),
        share("a", 100, 0, days=(10, 31), district="girian"),
    ]
    assert [row.dues for row in statement(told, ["district"])] == [(), ()]

    told[1] = share("a", 96, 4, days=(10, 31), district="girian")
    girian, maesa = statement(told, ["district"])
    assert girian.dues[0].months == pytest.approx(21 / 31)
    assert girian.dues[0].amount + maesa.dues[0].amount == pytest.approx(15_000.0)
    assert (girian.judged, maesa.judged, statement(told, [])[0].judged) == (1, 1, 1)


def test_the_online_share_is_that_of_each_step() -> None:
    hour = 3_600_000

    def site(name: str, *spans: tuple[int, int, int]) -> Record:
        return Record([SiteTerm(Site(name, name, "maesa", "telkom"), 0.0)], spans)

    records = [
        site("a", (-hour, 5 * hour, 0)),
        site("b", (-hour, hour // 2, 0), (hour // 2, 3 * hour, 2), (3 * hour, 5 * hour, 0)),
        site("never-heard"),
        Record(
            [SiteTerm(Site("later", "later", "maesa", "telkom"), 3 * 3600.0)], ((0, 9 * hour, 0),)
        ),
    ]
    steps = online(records, Book(), [0, hour, 2 * hour, 3 * hour, 4 * hour])

    assert [(one.up / hour, one.down / hour, one.unmeasured / hour) for one in steps] == [
        *((1.5, 0.5, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (3.0, 0.0, 1.0)),
    ]
    assert [one.online_ratio for one in steps] == [0.75, 0.5, 0.5, 1.0]
    assert [one.online_of_all_ratio for one in steps] == [0.5, 1 / 3, 1 / 3, 0.75]
