"""``pantau report``: availability and the online share of any local period."""

from __future__ import annotations

import argparse
import math
import time
from typing import NamedTuple

import msgspec

from server import forms, past, periods, statement, timeline
from server.edges import merged, ms
from server.online import online
from server.periods import Period, PeriodError
from server.show import CommandError, UsageError, open_for
from server.sla import Book, Outage, Record, account
from server.statement import DIMENSIONS
from server.store import Store


class _Facts(NamedTuple):
    """What a report is made of."""

    book: Book
    records: dict[str, Record]
    same: bool | None
    """Whether the stored readings give the ledger's spans; None: not asked."""
    differing: tuple[str, ...]


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau report …``."""
    report = commands.add_parser("report", help="availability, restitution, the online share")
    kinds = report.add_subparsers(dest="kind", metavar="REPORT", required=True)
    one = kinds.add_parser("availability", help="who had service how long, and what is due")
    _add_period(one)
    one.add_argument(
        "--by",
        metavar="NAMES",
        default="isp",
        help=f"a row for each: {','.join(DIMENSIONS)} (default isp)",
    )
    one.add_argument(
        "--recompute",
        action="store_true",
        help="from the stored readings, and say whether the ledger has the same",
    )
    one.set_defaults(run=availability)
    one = kinds.add_parser("online", help="which share of the sites was online, over time")
    _add_period(one)
    one.add_argument(
        "--step", metavar="STEP", default="1h", help="such as 15m, 1h or 1d (default 1h)"
    )
    one.set_defaults(run=online_share)


def _add_period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="begin",
        metavar="TIME",
        required=True,
        help="a month (2026-10), a date, or a date and time",
    )
    parser.add_argument(
        "--to",
        dest="end",
        metavar="TIME",
        help="the same, no longer part of it (default: the end of that month or day)",
    )
    parser.add_argument(
        "--zone",
        metavar="ZONE",
        default="WITA",
        help="whose midnights: WIB, WITA, WIT or such as Asia/Makassar (default WITA)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one object")
    form.add_argument("--csv", action="store_true", help="a line of names, then one for each row")


def _period(args: argparse.Namespace) -> Period:
    try:
        return periods.period(args.begin, args.end, periods.zone(args.zone), time.time())
    except PeriodError as err:
        raise UsageError(str(err)) from None


def availability(args: argparse.Namespace) -> int:
    """Availability by the names asked for, and all together."""
    by = _dimensions(args.by)
    period = _period(args)
    with open_for(args) as store, store.snapshot():
        facts = _facts(store, period, recompute=args.recompute)
    shares = []
    for record in facts.records.values():
        shares += account(record, facts.book, period.months)
    rows = statement.statement(shares, by)
    whole = statement.statement(shares, ())
    if args.json:
        body = forms.availability_body(period, by, rows, whole, same=facts.same)
        print(msgspec.json.encode(body).decode())
    elif args.csv:
        forms.availability_csv(by, rows)
    else:
        forms.availability_table(period, by, rows, whole)
        if facts.same:
            print("recomputed from the stored readings: the same figures as the ledger's")
    if facts.same is False:
        raise CommandError(
            "the stored readings and the ledger differ, at " + _some(facts.differing)
        )
    return 0


def _dimensions(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in DIMENSIONS:
            raise UsageError(f"--by: {name!r} is none of {', '.join(DIMENSIONS)}")
    return list(dict.fromkeys(names))


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more sites" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _facts(store: Store, period: Period, *, recompute: bool = False) -> _Facts:
    alive_at = store.alive_at()
    absences = merged(
        [
            *((ms(begin), ms(end)) for begin, end, _ in store.absences()),
            # What came after ingest last proved that it hears, nobody heard.
            *([] if alive_at is None else [(ms(alive_at), max(period.to_ms, ms(alive_at)))]),
        ]
    )
    book = Book(store.contracts(), store.maintenances(), absences)
    from_at = (period.from_ms - book.margin_ms) / 1000
    to_at = (period.to_ms + book.margin_ms) / 1000
    outages: dict[str, list[Outage]] = {}
    for row in store.outages(from_at, to_at):
        ends = math.inf if row.resolved_at is None else row.resolved_at
        one = Outage(ms(row.opened_at), ms(min(ends, to_at)), row.verdict)
        outages.setdefault(row.site, []).append(one)
    spans = dict(store.all_spans(from_at, to_at))
    differing: list[str] = []
    terms = store.terms_all()
    if recompute:
        for site in terms:
            anew = timeline.clipped(past.rebuilt(store, site), from_at, to_at)
            if anew != spans.get(site, []):
                differing.append(site)
            spans[site] = anew
    records = {
        site: Record(
            those,
            [(int(a * 1000), int(b * 1000), code) for a, b, code in spans.get(site, ())],
            outages.get(site, ()),
        )
        for site, those in terms.items()
    }
    same = not differing if recompute else None
    return _Facts(book, records, same, tuple(differing))


def online_share(args: argparse.Namespace) -> int:
    """The online share, step by step."""
    period = _period(args)
    try:
        edges = periods.steps(period, args.step)
    except PeriodError as err:
        raise UsageError(str(err)) from None
    with open_for(args) as store, store.snapshot():
        facts = _facts(store, period)
    steps = online(facts.records.values(), facts.book, edges)
    if args.json:
        print(msgspec.json.encode(forms.online_body(period, steps)).decode())
    elif args.csv:
        forms.online_csv(steps)
    else:
        forms.online_table(period, steps)
    return 0
