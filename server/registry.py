"""The registry's CSV: rows to dated terms, every fault named by line and column. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from agent.wire import is_site, slug
from server import dates, terms
from server.model import UNREGISTERED, Site, SiteTerm

COLUMNS = (
    "site",
    "name",
    "district",
    "isp",
    "contract",
    "latitude",
    "longitude",
    "timezone",
    "backhaul",
    "power_area",
    "address",
    "access_points",
    "valid_from",
    "valid_to",
)
REQUIRED = COLUMNS[:4]
DEFAULT_TIMEZONE = "Asia/Makassar"

_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")

Refuse = Callable[[str], "CsvError"]


class CsvError(Exception):
    """A CSV that cannot be imported; the text names line and column."""


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
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: dict[str, list[Row]] = {}
    try:
        header = [cell.strip() for cell in next(reader)]
        _check_header(header)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = _row(header, cells, reader.line_num, now, valid_from)
            rows.setdefault(row.site.id, []).append(row)
    except StopIteration:
        raise CsvError(f"line 1: the file is empty; begin with {','.join(COLUMNS[:10])}") from None
    except csv.Error as err:
        raise CsvError(f"line {reader.line_num}: not CSV: {err}") from None
    for of_site in rows.values():
        _refuse_overlap(of_site, "valid_from" in header)
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


def _check_header(header: list[str]) -> None:
    if len(header) == 1 and ";" in header[0]:
        raise CsvError("line 1: the columns are separated by ';'; save the file with commas")
    for name in header:
        if name not in COLUMNS:
            raise CsvError(f"line 1: unknown column {name!r}; there are {','.join(COLUMNS)}")
        if header.count(name) > 1:
            raise CsvError(f"line 1: column {name} stands twice")
    for name in REQUIRED:
        if name not in header:
            raise CsvError(f"line 1: column {name} is missing")


def _row(header: list[str], row: list[str], line: int, now: float, valid_from: str | None) -> Row:
    if len(row) != len(header):
        count = f"{len(row)} cells, but the header has {len(header)}"
        if len(row) < len(header):
            raise CsvError(
                f"line {line}, column {header[len(row)]}: the row ends before it: {count}"
            )
        raise CsvError(f"line {line}, after column {header[-1]}: {count}; a comma in a name?")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}

    def refuse(name: str, text: str) -> CsvError:
        return CsvError(f"line {line}, column {name}: {text}")

    def moment(name: str, text: str | None) -> float | None:
        try:
            return dates.instant(text, site.timezone) if text else None
        except dates.DateError as err:
            raise refuse(name, str(err)) from None

    site = _site(cells, refuse)
    begin = moment("valid_from", cells.get("valid_from") or valid_from)
    end = moment("valid_to", cells.get("valid_to"))
    if end is not None and end <= (now if begin is None else begin):
        beginning = "now" if begin is None else dates.told(begin, site.timezone)
        raise refuse("valid_to", f"{cells['valid_to']} is not after {beginning}, when it begins")
    return Row(site, now if begin is None else begin, end, line, begin is not None)


def _site(cells: dict[str, str], refuse: Callable[[str, str], CsvError]) -> Site:
    def cell(name: str) -> str:
        return cells.get(name, "")

    for name in REQUIRED:
        if not cell(name):
            raise refuse(name, "is empty")
    if not is_site(cell("site")):
        raise refuse(
            "site", f"{cell('site')!r} is no site id; use a-z, 0-9 and '-', 2 to 63 characters"
        )
    for name in ("district", "isp"):
        if slug(cell(name)) == UNREGISTERED:
            raise refuse(name, f"nothing is left of {cell(name)!r} as a topic; use letters")
    return Site(
        id=cell("site"),
        name=cell("name"),
        district=slug(cell("district")),
        isp=slug(cell("isp")),
        contract=cell("contract"),
        latitude=_degrees(cell("latitude"), 90, lambda text: refuse("latitude", text)),
        longitude=_degrees(cell("longitude"), 180, lambda text: refuse("longitude", text)),
        timezone=_timezone(cell("timezone"), lambda text: refuse("timezone", text)),
        backhaul=cell("backhaul"),
        power_area=cell("power_area"),
        address=_address(cell("address"), lambda text: refuse("address", text)),
        access_points=_names(cell("access_points"), lambda text: refuse("access_points", text)),
    )


def _degrees(text: str, limit: int, refuse: Refuse) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise refuse(f"{text!r} is no number; write degrees such as 1.4432") from None
    if not -limit <= value <= limit:
        raise refuse(f"{text} is not between -{limit} and {limit}")
    return value


def _timezone(text: str, refuse: Refuse) -> str:
    name = text or DEFAULT_TIMEZONE
    if not dates.is_zone(name):
        raise refuse(f"{name!r} is no time zone; write one such as {DEFAULT_TIMEZONE}")
    return name


def _address(text: str, refuse: Refuse) -> str:
    if text and not _ADDRESS.fullmatch(text):
        raise refuse(f"{text!r} is no address; write one such as 10.8.0.23 or a host's name")
    return text


def _names(text: str, refuse: Refuse) -> tuple[str, ...]:
    names = text.split()
    for name in names:
        if names.count(name) > 1:
            raise refuse(f"{name!r} stands twice")
    return tuple(names)
