"""From what is known of a site to availability: who was to serve, and did. Pure.

Times are whole milliseconds since 1970, so that sums are exact and do not depend
on their order. Periods are half-open: the first instant belongs to it, the last not.

Rules
 1. Only the time in which the registry knows the site counts. It is cut into shares,
    each under one district, one ISP, one version of the contract's terms, and
    within one calendar month.
 2. What a reading says goes first: *up* where domestic or world answered, degraded
    or not; *down* where the agent ran and neither answered, from the first lost
    echo to the first answer where the agent saw them. Spans that miss each other
    by no more than 1 s adjoin: the later one begins where the earlier ends.
 3. What no reading covers while we could not hear is *unmeasured*.
 4. What else no reading covers is *down* inside an outage whose cause is power,
    link or isp.
 5. All other time is *unmeasured*: the agent was not running, an access point or
    an unknown cause took it away, or the site was never heard from. Unmeasured time
    is charged to nobody: it counts neither for nor against.
 6. An *outage* is a run of down that nothing else interrupts. It is taken whole,
    beyond the edges of the period and of the shares.
 7. Down time may be excluded, by the terms in force at that instant, for the first
    of these that holds: *maintenance*, when it lies in announced work on the site,
    its contract, district or ISP; *power*, when it lies in an outage whose cause is
    power; *grace*, when its outage lasts no longer than ``grace_s``. Work that is
    cancelled ends then. Without terms maintenance alone is excluded.
 8. Up is never excluded: service given counts, whenever it was given.
 9. Availability is up / (up + down), where down is what is left of it after rule 7.
    Where nothing was measured there is none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from server.edges import Edges, length, merged, ms, parts, without
from server.model import Contract, Maintenance, Site, SiteTerm

UP, DOWN, UNMEASURED = 0, 1, 2
"""The states of a moment. Codes 1 and 2 of a stored span are both down."""
CHARGED = frozenset({"power", "link", "isp"})
"""Causes whose outages are down where no reading covers them."""
SEAM_MS = 1_000

Segment = tuple[int, int, int]
"""From, to, state; or from, to, code of a stored span."""
_WITHOUT_TERMS = Contract(id="", valid_from=0.0)


class Outage(NamedTuple):
    """A time without sign of life, and its cause."""

    from_ms: int
    to_ms: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one site; each in order and without overlap."""

    terms: Sequence[SiteTerm]
    spans: Sequence[Segment] = ()
    outages: Sequence[Outage] = ()


class Month(NamedTuple):
    """What a period has of one calendar month."""

    name: str
    from_ms: int
    to_ms: int
    whole_ms: int
    """How long all of the month is."""


class Tally(NamedTuple):
    """Milliseconds of each kind."""

    up: int = 0
    down: int = 0
    maintenance: int = 0
    power: int = 0
    grace: int = 0
    unmeasured: int = 0

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(*map(int.__add__, self, other))

    @property
    def denominator(self) -> int:
        """What counts."""
        return self.up + self.down

    @property
    def excluded(self) -> int:
        """Down that the terms do not charge."""
        return self.maintenance + self.power + self.grace

    @property
    def availability(self) -> float | None:
        """Rule 9."""
        return self.up / self.denominator if self.denominator else None


class Share(NamedTuple):
    """A site's time under one ISP, district and version of terms, in one month."""

    site: Site
    terms: Contract | None
    month: Month
    from_ms: int
    to_ms: int
    tally: Tally


@dataclass(slots=True)
class Book:
    """What holds for all sites."""

    contracts: dict[str, tuple[Contract, ...]] = field(default_factory=dict)
    maintenances: Sequence[Maintenance] = ()
    absences: Sequence[Edges] = ()
    """When we could not hear; see `merged`."""
    works: dict[tuple[str, ...], list[Edges]] = field(default_factory=dict)
    """Announced work by place, as far as it was asked for."""

    @property
    def margin_ms(self) -> int:
        """How far beyond a period facts may decide on what lies inside (rule 6)."""
        graces = [ms(one.grace_s) for those in self.contracts.values() for one in those]
        return max([*graces, 2 * SEAM_MS])

    def work(self, site: Site) -> list[Edges]:
        """When work was announced for a site, as the registry has it there."""
        place = (site.id, site.contract, site.district, site.isp)
        if place not in self.works:
            meant = zip(("site", "contract", "district", "isp"), place, strict=True)
            here = {(scope, name) for scope, name in meant if name}
            found = [one for one in self.maintenances if (one.scope, one.name) in here]
            self.works[place] = merged(_working(one) for one in found)
        return self.works[place]


def _working(one: Maintenance) -> Edges:
    ends = one.to_at if one.cancelled_at is None else min(one.to_at, one.cancelled_at)
    return ms(one.from_at), ms(ends)


def segments(record: Record, absences: Sequence[Edges], from_ms: int, to_ms: int) -> list[Segment]:
    """Rules 2 to 5: the states that fill a period, without gap or overlap; neighbours differ."""
    found: list[Segment] = []
    at = from_ms
    for begin, end, code in record.spans:
        if begin >= to_ms:
            break
        if end <= at:
            continue
        if begin - at > SEAM_MS:
            _uncovered(found, at, begin, record.outages, absences)
            at = begin
        end = min(end, to_ms)
        _append(found, at, end, DOWN if code else UP)
        at = end
    if at < to_ms:
        _uncovered(found, at, to_ms, record.outages, absences)
    return found


def _uncovered(
    found: list[Segment],
    from_ms: int,
    to_ms: int,
    outages: Sequence[Outage],
    absences: Sequence[Edges],
) -> None:
    """What no reading covers."""
    charged = [
        (max(one.from_ms, from_ms), min(one.to_ms, to_ms))
        for one in _touching(outages, from_ms, to_ms)
        if one[2] in CHARGED
    ]
    at = from_ms
    for begin, end in without(charged, absences) if charged else ():
        _append(found, at, begin, UNMEASURED)
        _append(found, max(at, begin), end, DOWN)
        at = max(at, end)
    _append(found, at, to_ms, UNMEASURED)


def _append(found: list[Segment], begin: int, end: int, state: int) -> None:
    if end <= begin:
        return
    if found and found[-1][2] == state:
        begin = found.pop()[0]
    found.append((begin, end, state))


def account(record: Record, book: Book, months: Sequence[Month]) -> list[Share]:
    """The shares of a site in a period, in order.

    Args:
        record: covers the period and `Book.margin_ms` on both sides of it.
        months: the period, which they fill.
    """
    margin = book.margin_ms
    states = segments(record, book.absences, months[0].from_ms - margin, months[-1].to_ms + margin)
    ends = [end for _, end, _ in states]
    power = [(one.from_ms, one.to_ms) for one in record.outages if one.verdict == "power"]
    found = []
    for month in months:
        for begin, end, term in parts(record.terms, month.from_ms, month.to_ms):
            if term is None:
                continue
            work = book.work(term.site) if book.maintenances else []
            of_contract = book.contracts.get(term.site.contract, ())
            for from_ms, to_ms, terms in parts(of_contract, begin, end):
                first = bisect_right(ends, from_ms)
                tally = _tally(states, first, from_ms, to_ms, terms or _WITHOUT_TERMS, work, power)
                found.append(Share(term.site, terms, month, from_ms, to_ms, tally))
    return found


def _tally(
    states: list[Segment],
    first: int,
    from_ms: int,
    to_ms: int,
    terms: Contract,
    work: list[Edges],
    power: list[Edges],
) -> Tally:
    """Rules 6 to 8 over one share."""
    sums = [0, 0, 0]
    in_work = in_power = in_grace = 0
    work = work if "maintenance" in terms.excludes else []
    power = power if "power" in terms.excludes else []
    grace_ms = ms(terms.grace_s)
    for begin, end, state in islice(states, first, None):
        if begin >= to_ms:
            break
        lasted = end - begin
        if begin < from_ms:
            begin = from_ms
        if end > to_ms:
            end = to_ms
        sums[state] += end - begin
        if state != DOWN:
            continue
        rest = [(begin, end)]
        before = end - begin
        for_work = without(rest, work) if work else rest
        left = length(for_work)
        in_work += before - left
        if power:
            for_work = without(for_work, power)
            in_power += left - length(for_work)
            left = length(for_work)
        if lasted <= grace_ms:
            in_grace += left
    charged = sums[DOWN] - in_work - in_power - in_grace
    return Tally(sums[UP], charged, in_work, in_power, in_grace, sums[UNMEASURED])


def _touching(outages: Sequence[Outage], from_ms: int, to_ms: int) -> Iterator[Outage]:
    place = max(0, bisect_right(outages, (from_ms,)) - 1)
    while place < len(outages) and outages[place][0] < to_ms:
        if outages[place][1] > from_ms:
            yield outages[place]
        place += 1
