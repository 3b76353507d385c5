"""The registry's CSV: rows to dated terms, every fault named by line and column. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agent.wire import slug
from server import dates, sheet, terms
from server.model import Site, SiteTerm
from server.sheet import Cells, CsvError


class Row(NamedTuple):
    """A site as a line has it, and from when to when that is meant."""

    site: Site
    valid_from: float
    valid_to: float | None
    line: int
    dated: bool = True
    """Whether somebody wrote when it begins; otherwise that is now."""


class Change(NamedTuple):
    """What an import would do to one site."""

    site: str
    rows: tuple[Row, ...]
    before: tuple[SiteTerm, ...]
    after: tuple[SiteTerm, ...]

    @property
    def added(self) -> bool:
        """Whether the site was out of the registry, or never in it."""
        begin = self.rows[0].valid_from
        return all(one.valid_to is not None and one.valid_to <= begin for one in self.before)

    def text(self) -> str:
        """For a person: a line for each thing that changes."""
        lines, stands = [], self.before
        for row in self.rows:
            after = terms.entered(stands, row.site, row.valid_from, row.valid_to)
            if after != stands:
                lines.append(self._line(row, terms.in_force(stands, row.valid_from)))
            stands = after
        return "\n".join(lines)

    def _line(self, row: Row, before: SiteTerm | None) -> str:
        site, zone = row.site, row.site.timezone
        named = row.dated or row.valid_to is not None
        when = f", {dates.period(row.valid_from, row.valid_to, zone)}" if named else ""
        if before is None or before.site == site:
            sign = "+" if self.added else "~"
            return f"{sign} {site.id}  {site.name} ({site.district}, {site.isp}){when}"
        return f"~ {site.id}  {differing(before.site, site)}{when}"


def differing(before: Site, after: Site) -> str:
    """What differs between two states of a site."""
    return ", ".join(
        f"{name} {old!r} -> {new!r}"
        for name in Site.__slots__
        if (old := getattr(before, name)) != (new := getattr(after, name))
    )


def parse(text: str, now: float, valid_from: str | None = None) -> list[Row]:
    """The rows of a CSV file, those of one site in the order of their dates.

    Args:
        now: from when a row is valid that says nothing else.
        valid_from: a date for the rows that have none, in the zone of each site.

    Raises:
        CsvError: a bad header, a row with a bad cell, or validity that overlaps.
    """
    rows: dict[str, list[Row]] = {}
    has_dates = False
    for line, cells in sheet.rows(text, dates.is_zone):
        has_dates = "valid_from" in cells
        row = _row(cells, line, now, valid_from)
        rows.setdefault(row.site.id, []).append(row)
    for of_site in rows.values():
        _refuse_overlap(of_site, has_dates)
        of_site.sort(key=lambda row: row.valid_from)
    return [row for of_site in rows.values() for row in of_site]


def changes(
    rows: Iterable[Row], known: Mapping[str, tuple[SiteTerm, ...]]
) -> tuple[list[Change], int]:
    """What an import would add or change, and how many sites it leaves alone.

    Sites that are absent stay.
    """
    by_site: dict[str, list[Row]] = {}
    for row in rows:
        by_site.setdefault(row.site.id, []).append(row)
    found = []
    for name, of_site in by_site.items():
        before = after = known.get(name, ())
        for row in of_site:
            after = terms.entered(after, row.site, row.valid_from, row.valid_to)
        if after != before:
            found.append(Change(name, tuple(of_site), before, after))
    return found, len(by_site) - len(found)


def _refuse_overlap(rows: list[Row], has_dates: bool) -> None:
    """Each line of a site against those above it, so that the lower one is named."""
    for number, row in enumerate(rows):
        for other in rows[:number]:
            if row.valid_from == other.valid_from:
                mend = "give each its own valid_from" if has_dates else "keep one of them"
                raise CsvError(
                    f"line {row.line}, column site: {row.site.id!r} already stands"
                    f" in line {other.line}; {mend}"
                )
            first, second = sorted((other, row), key=lambda one: one.valid_from)
            if first.valid_to is not None and second.valid_from < first.valid_to:
                column = "valid_from" if row is second else "valid_to"
                told = dates.period(other.valid_from, other.valid_to, other.site.timezone)
                raise CsvError(
                    f"line {row.line}, column {column}: overlaps line {other.line},"
                    f" which is valid {told}; let one end where the other begins"
                )


def _row(cells: Cells, line: int, now: float, valid_from: str | None) -> Row:
    site = _site(cells)

    def moment(name: str, text: str | None) -> float | None:
        try:
            return dates.instant(text, site.timezone) if text else None
        except dates.DateError as err:
            raise CsvError(f"line {line}, column {name}: {err}") from None

    begin = moment("valid_from", cells.get("valid_from") or valid_from)
    end = moment("valid_to", cells.get("valid_to"))
    if end is not None and end <= (now if begin is None else begin):
        told = "has passed; delete the row, or give its valid_from"
        if begin is not None:
            beginning = dates.told(begin, site.timezone)
            told = f"is not after {beginning}, when it begins; mend one of them"
        raise CsvError(f"line {line}, column valid_to: {cells['valid_to']} {told}")
    return Row(site, now if begin is None else begin, end, line, begin is not None)


def _site(cells: Cells) -> Site:
    return Site(
        id=cells["site"],
        name=cells["name"],
        district=slug(cells["district"]),
        isp=slug(cells["isp"]),
        contract=cells.get("contract", ""),
        latitude=_degrees(cells.get("latitude")),
        longitude=_degrees(cells.get("longitude")),
        timezone=cells.get("timezone") or sheet.DEFAULT_TIMEZONE,
        backhaul=cells.get("backhaul", ""),
        power_area=cells.get("power_area", ""),
        address=cells.get("address", ""),
        access_points=tuple(cells.get("access_points", "").split()),
    )


def _degrees(text: str | None) -> float | None:
    return float(text) if text else None
