"""From shares to a statement: availability by ISP, district, contract, site; and what is due. Pure.

Rules
 1. A row adds up the shares that have its names. Its availability is that of the sums.
 2. A promise is judged for each site and calendar month under one version of terms,
    by the availability of that time alone: kept where it is not below the ratio that
    the terms promise. Where nothing was measured, nothing is judged.
 3. Restitution is due by the steps of the terms: of all steps whose ratio the
    availability is below, the largest share of the price. It is
    share x price x months, where months is the part of the calendar month that lies
    in the period and under these terms; in a row by district it is that part in the
    row's shares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.model import Contract
from server.sla import Share, Tally

DIMENSIONS = ("isp", "district", "contract", "site")
NOWHERE = "-"
"""Of a site without a contract."""


class Due(NamedTuple):
    """What is due by one step of one price."""

    share: float
    price: float
    currency: str
    months: float

    @property
    def amount(self) -> float:
        """In `currency`."""
        return self.share * self.price * self.months

    @property
    def formula(self) -> str:
        """How it comes about."""
        return (
            f"{self.share:g} x {self.price:.2f} {self.currency} x {self.months:.4f} months"
            f" = {self.amount:.2f} {self.currency}"
        )


class Row(NamedTuple):
    """One line of a statement."""

    names: tuple[str, ...]
    sites: int
    tally: Tally
    promised: float | None
    """The ratio, where it is the same for the whole row."""
    judged: int
    """Site months with a promise."""
    broken: int
    """Those of them that did not keep it."""
    dues: tuple[Due, ...]

    @property
    def kept(self) -> bool | None:
        """Whether the row as a whole has what was promised; None where that says nothing."""
        available = self.tally.availability
        if self.promised is None or available is None:
            return None
        return available >= self.promised


class _Sums:
    """What becomes a row."""

    def __init__(self) -> None:
        self.sites: set[str] = set()
        self.tally = [0] * len(Tally._fields)
        self.promised: set[float | None] = set()
        self.units: dict[_Unit, bool] = {}
        self.dues: dict[tuple[str, float, float], dict[int, int]] = {}


_Unit = tuple[str, str, float, str]
"""Site, contract, beginning of its terms, month."""


def statement(shares: Sequence[Share], by: Sequence[str]) -> list[Row]:
    """The rows, in the order of their names.

    Args:
        by: of `DIMENSIONS`; empty: one row of everything.
    """
    whole = _units(shares)
    rows: defaultdict[tuple[str, ...], _Sums] = defaultdict(_Sums)
    for one in shares:
        _add(rows[tuple([_name(one, name) for name in by])], one, whole)
    return [_row(names, rows[names]) for names in sorted(rows)]


def _name(one: Share, dimension: str) -> str:
    name = one.site.id if dimension == "site" else getattr(one.site, dimension)
    return str(name) or NOWHERE


def _unit(one: Share, terms: Contract) -> _Unit:
    return (one.site.id, terms.id, terms.valid_from, one.month.name)


def _units(shares: Iterable[Share]) -> dict[_Unit, float | None]:
    """Rule 2: the availability of each site month under one version of terms."""
    sums: dict[_Unit, tuple[int, int]] = {}
    for one in shares:
        if one.terms is not None:
            key = _unit(one, one.terms)
            up, counted = sums.get(key, (0, 0))
            sums[key] = (up + one.tally.up, counted + one.tally.denominator)
    return {key: up / counted if counted else None for key, (up, counted) in sums.items()}


def _add(sums: _Sums, one: Share, whole: dict[_Unit, float | None]) -> None:
    sums.sites.add(one.site.id)
    sums.tally = list(map(int.__add__, sums.tally, one.tally))
    terms = one.terms
    sums.promised.add(None if terms is None else terms.availability_ratio)
    if terms is None:
        return
    unit = _unit(one, terms)
    available = whole[unit]
    if available is None:
        return
    if terms.availability_ratio is not None:
        sums.units[unit] = available < terms.availability_ratio
    share = max((share for ratio, share in terms.restitution if available < ratio), default=0.0)
    if share and terms.price is not None:
        months = sums.dues.setdefault((terms.currency, share, terms.price), {})
        months[one.month.whole_ms] = months.get(one.month.whole_ms, 0) + one.to_ms - one.from_ms


def _row(names: tuple[str, ...], sums: _Sums) -> Row:
    dues = tuple(
        Due(share, price, currency, sum(part / whole for whole, part in sorted(months.items())))
        for (currency, share, price), months in sorted(sums.dues.items())
    )
    promised = next(iter(sums.promised)) if len(sums.promised) == 1 else None
    broken = sum(sums.units.values())
    tally = Tally(*sums.tally)
    return Row(names, len(sums.sites), tally, promised, len(sums.units), broken, dues)
