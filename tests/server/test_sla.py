"""Availability, held against a judge that goes through a period second by second."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.model import Contract, Maintenance, Scope, Site, SiteTerm
from server.sla import Book, Month, Outage, Record, Share, Tally, account

BEFORE, BEGIN, MIDDLE, END, AFTER = 0, 60, 110, 160, 220
MONTHS = (Month("1", BEGIN * 1000, MIDDLE * 1000, 100_000), Month("2", 110_000, 160_000, 50_000))
HOUR = (Month("2026-10", 0, 3_600_000, 744 * 3_600_000),)
SITE = Site("bitung-01", "Pasar", "girian", "telkom", contract="telkom-1")


def spans(*told: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return [(begin * 1000, end * 1000, code) for begin, end, code in told]


def minutes(tally: Tally) -> dict[str, float]:
    """What is not zero, in minutes."""
    return {name: value / 60_000 for name, value in tally._asdict().items() if value}


def terms(contract: str = "telkom-1") -> list[SiteTerm]:
    return [SiteTerm(Site("bitung-01", "Pasar", "girian", "telkom", contract), 0.0)]


# What each rule says, in an hour of 3600 s.

UP_THEN_SILENT = spans((0, 1800, 0), (1800, 2400, 2), (2400, 3600, 0))
GAP = spans((0, 1800, 0), (2400, 3600, 0))
GRACE = Contract("telkom-1", 0.0, grace_s=600, excludes=())
STRICT = Contract("telkom-1", 0.0, excludes=())
POWER = Contract("telkom-1", 0.0, excludes=("power",))


@pytest.mark.parametrize(
    ("told", "outages", "book", "expected"),
    [
        pytest.param(UP_THEN_SILENT, [], Book(), {"up": 50, "down": 10}, id="the readings decide"),
        pytest.param(GAP, [], Book(), {"up": 50, "unmeasured": 10}, id="no reading, no outage"),
        *(
            pytest.param(
                *(GAP, [Outage(1_800_000, 2_400_000, verdict)], Book(), {"up": 50, state: 10}),
                id=f"a gap by {verdict} is {state}",
            )
            for verdict, state in (
                *(("power", "down"), ("link", "down"), ("isp", "down")),
                *(("agent", "unmeasured"), ("unknown", "unmeasured")),
                ("access_point", "unmeasured"),
            )
        ),
        pytest.param(
            *(GAP, [Outage(1_800_000, 2_400_000, "isp")], Book(absences=[(2_100_000, 9_000_000)])),
            {"up": 50, "down": 5, "unmeasured": 5},
            id="our own absence is charged to nobody",
        ),
        pytest.param(
            *(UP_THEN_SILENT, [], Book(absences=[(0, 3_600_000)]), {"up": 50, "down": 10}),
            id="a backlog tells what we did not hear",
        ),
        pytest.param(
            *(UP_THEN_SILENT, [], Book(contracts={"telkom-1": (GRACE,)}), {"up": 50, "grace": 10}),
            id="an outage as long as the grace is excluded",
        ),
        pytest.param(
            spans((0, 1800, 0), (1800, 2400, 2), (2400, 2401, 1), (2401, 3600, 0)),
            *([], Book(contracts={"telkom-1": (GRACE,)})),
            {"up": 3599 / 60 - 601 / 60 + 1 / 60, "down": 601 / 60},
            id="one that is longer is charged whole",
        ),
        pytest.param(
            *(GAP, [Outage(1_800_000, 2_400_000, "power")]),
            Book(contracts={"telkom-1": (POWER,)}),
            {"up": 50, "power": 10},
            id="power is excluded where the terms say so",
        ),
        pytest.param(
            UP_THEN_SILENT,
            [],
            Book(maintenances=[Maintenance("m", "isp", "telkom", 1500.0, 2100.0)]),
            {"up": 50, "down": 5, "maintenance": 5},
            id="announced work is excluded, and up in it counts",
        ),
        pytest.param(
            UP_THEN_SILENT,
            [],
            Book(maintenances=[Maintenance("m", "isp", "telkom", 1500, 3600, cancelled_at=1860)]),
            {"up": 50, "down": 9, "maintenance": 1},
            id="cancelled work ends then",
        ),
        pytest.param(
            UP_THEN_SILENT,
            [],
            Book({"telkom-1": (STRICT,)}, [Maintenance("m", "isp", "telkom", 0.0, 3600.0)]),
            {"up": 50, "down": 10},
            id="work is charged where the terms do not exclude it",
        ),
        pytest.param(
            spans((0, 1800, 0), (1801, 2400, 2), (2401, 3600, 0)),
            *([], Book()),
            {"up": 50, "down": 10},
            id="a seam of a second belongs to what follows",
        ),
        pytest.param([], [], Book(), {"unmeasured": 60}, id="never heard from"),
    ],
)
def test_an_hour_is_told_by_the_rules(
    told: list[tuple[int, int, int]],
    outages: list[Outage],
    book: Book,
    expected: dict[str, float],
) -> None:
    [share] = account(Record(terms(), told, outages), book, HOUR)

    assert minutes(share.tally) == pytest.approx(expected)


def test_a_change_of_isp_and_of_terms_splits_the_period_at_the_second() -> None:
    changing = [
        SiteTerm(Site("bitung-01", "Pasar", "girian", "telkom", "telkom-1"), 0.0, 2000.0),
        SiteTerm(Site("bitung-01", "Pasar", "girian", "biznet", "biznet-1"), 2000.0),
    ]
    before = Contract("telkom-1", 0.0, 1900.0, grace_s=60, excludes=())
    book = Book({"telkom-1": (before, Contract("telkom-1", 1900.0, excludes=()))})
    shares = account(Record(changing, UP_THEN_SILENT), book, HOUR)

    assert [
        (one.site.isp, one.terms and one.terms.valid_from, one.from_ms, one.tally) for one in shares
    ] == [
        ("telkom", 0.0, 0, Tally(up=1_800_000, down=100_000)),
        ("telkom", 1900.0, 1_900_000, Tally(down=100_000)),
        ("biznet", None, 2_000_000, Tally(up=1_200_000, down=400_000)),
    ]


def test_time_outside_the_registry_counts_nowhere() -> None:
    known = [SiteTerm(SITE, 1800.0, 2100.0)]
    [share] = account(Record(known, UP_THEN_SILENT), Book(), HOUR)

    assert share.tally == Tally(down=300_000)


# The same by a judge who knows no intervals.


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A site's history over 220 seconds, and some seconds of it under other terms."""

    def edges(most: int) -> list[tuple[int, int]]:
        cuts = sorted(draw(st.sets(st.integers(BEFORE, AFTER), max_size=2 * most)))
        return [pair for pair in pairwise(cuts) if draw(st.booleans())]

    told = [(begin, end, draw(st.sampled_from((0, 0, 1, 2)))) for begin, end in edges(8)]
    verdicts = st.sampled_from(("power", "link", "isp", "agent", "unknown"))
    outages = [Outage(begin * 1000, end * 1000, draw(verdicts)) for begin, end in edges(4)]
    sites = st.builds(
        lambda isp, district, contract: Site("s", "S", district, isp, contract),
        st.sampled_from(("telkom", "biznet")),
        st.sampled_from(("girian", "maesa")),
        st.sampled_from(("one", "two", "")),
    )
    known = [SiteTerm(draw(sites), begin, end) for begin, end in edges(3)]
    return Record(known, spans(*told), outages)


@st.composite
def books(draw: st.DrawFn) -> Book:
    excludes = st.sampled_from(((), ("maintenance",), ("power",), ("maintenance", "power")))
    scopes: list[tuple[Scope, str]] = [
        *(("site", "s"), ("contract", "one"), ("district", "maesa"), ("isp", "telkom")),
    ]

    def contract(name: str) -> tuple[Contract, ...]:
        cuts = sorted(draw(st.sets(st.integers(BEFORE, AFTER), max_size=4)))
        return tuple(
            Contract(name, begin, end, grace_s=draw(st.integers(0, 30)), excludes=draw(excludes))
            for begin, end in pairwise(cuts)
        )

    works = []
    for scope, name in draw(st.lists(st.sampled_from(scopes), max_size=3)):
        begin, end = sorted(draw(st.tuples(st.integers(0, AFTER), st.integers(0, AFTER))))
        gone = draw(st.none() | st.integers(0, AFTER))
        works.append(Maintenance("m", scope, name, begin, end, cancelled_at=gone))
    cuts = sorted(draw(st.sets(st.integers(BEFORE, AFTER), max_size=4)))
    absences = [(begin * 1000, end * 1000) for begin, end in list(pairwise(cuts))[::2]]
    return Book({"one": contract("one"), "two": contract("two")}, works, absences)


def states(record: Record, book: Book) -> list[str]:
    """The state of each second."""
    codes: list[int | None] = [None] * AFTER
    for begin, end, code in record.spans:
        for second in range(begin // 1000, end // 1000):
            codes[second] = code
    found = []
    for second in range(AFTER):
        code = codes[second]
        if code is None and 0 < second < AFTER - 1 and codes[second - 1] is not None:
            code = codes[second + 1]  # a seam
        at = second * 1000
        if code is not None:
            found.append("up" if code == 0 else "down")
        elif any(begin <= at < end for begin, end in book.absences):
            found.append("unmeasured")
        elif any(
            one.from_ms <= at < one.to_ms and one.verdict in ("power", "link", "isp")
            for one in record.outages
        ):
            found.append("down")
        else:
            found.append("unmeasured")
    return found


def judged(record: Record, book: Book) -> Counter[tuple[object, ...]]:
    """Seconds by share and kind."""
    by_second = states(record, book)
    found: Counter[tuple[object, ...]] = Counter()
    for second in range(BEGIN, END):
        term = next(
            (
                one
                for one in record.terms
                if one.valid_from <= second and (one.valid_to is None or second < one.valid_to)
            ),
            None,
        )
        if term is None:
            continue
        of = book.contracts.get(term.site.contract, ())
        contract = next((one for one in of if one.valid_from <= second < (one.valid_to or 0)), None)
        excludes = contract.excludes if contract else ("maintenance",)
        kind = by_second[second]
        if kind == "down":
            first = last = second
            while first > 0 and by_second[first - 1] == "down":
                first -= 1
            while last < AFTER - 1 and by_second[last + 1] == "down":
                last += 1
            site = term.site
            place = {
                "site": site.id,
                "contract": site.contract,
                "district": site.district,
                "isp": site.isp,
            }
            if "maintenance" in excludes and any(
                place[one.scope] == one.name
                and one.from_at <= second < one.to_at
                and (one.cancelled_at is None or second < one.cancelled_at)
                for one in book.maintenances
            ):
                kind = "maintenance"
            elif "power" in excludes and any(
                one.verdict == "power" and one.from_ms <= second * 1000 < one.to_ms
                for one in record.outages
            ):
                kind = "power"
            elif contract and last - first + 1 <= contract.grace_s:
                kind = "grace"
        month = "1" if second < MIDDLE else "2"
        found[term.site, contract, month, kind] += 1
    return found


def told(shares: list[Share]) -> Counter[tuple[object, ...]]:
    found: Counter[tuple[object, ...]] = Counter()
    for share in shares:
        for kind, lasted in share.tally._asdict().items():
            assert lasted % 1000 == 0
            if lasted:
                found[share.site, share.terms, share.month.name, kind] += lasted // 1000
    return found


@given(records(), books())
def test_every_second_is_told_as_a_judge_tells_it(record: Record, book: Book) -> None:
    assert told(account(record, book, MONTHS)) == judged(record, book)


@given(records(), books(), st.integers(BEGIN + 1, END - 1))
def test_a_period_is_the_sum_of_its_parts(record: Record, book: Book, cut: int) -> None:
    def over(begin: int, end: int) -> Counter[tuple[object, ...]]:
        month = Month("1", begin * 1000, end * 1000, 100_000)
        return told(account(record, book, (month,)))

    assert over(BEGIN, cut) + over(cut, END) == over(BEGIN, END)


@given(records(), books())
def test_no_moment_counts_twice_or_is_left_out(record: Record, book: Book) -> None:
    for share in account(record, book, MONTHS):
        assert sum(share.tally) == share.to_ms - share.from_ms
