"""The registry's CSV: rows to sites, every fault named by line and column. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import NamedTuple
from zoneinfo import ZoneInfo

from agent.wire import is_site, slug
from server.model import UNREGISTERED, Site

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
)
REQUIRED = COLUMNS[:4]
DEFAULT_TIMEZONE = "Asia/Makassar"


class CsvError(Exception):
    """A CSV that cannot be imported; the text names line and column."""


class Change(NamedTuple):
    """What an import would do to one site."""

    site: Site
    before: Site | None

    def text(self) -> str:
        """One line for a person."""
        if self.before is None or self.before.retired:
            return f"+ {self.site.id}  {self.site.name} ({self.site.district}, {self.site.isp})"
        differing = [
            f"{name} {old!r} -> {new!r}"
            for name in Site.__slots__
            if (old := getattr(self.before, name)) != (new := getattr(self.site, name))
        ]
        return f"~ {self.site.id}  {', '.join(differing)}"


def parse(text: str) -> list[Site]:
    """The sites of a CSV file.

    Raises:
        CsvError: a bad header, or a row with a bad cell or a site named twice.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
        _check_header(header)
        sites: dict[str, tuple[Site, int]] = {}
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            site = _site(header, row, reader.line_num)
            if site.id in sites:
                raise CsvError(
                    f"line {reader.line_num}, column site: {site.id!r} already stands"
                    f" in line {sites[site.id][1]}; keep one of them"
                )
            sites[site.id] = (site, reader.line_num)
    except StopIteration:
        raise CsvError(f"line 1: the file is empty; begin with {','.join(COLUMNS)}") from None
    except csv.Error as err:
        raise CsvError(f"line {reader.line_num}: not CSV: {err}") from None
    return [site for site, _ in sites.values()]


def changes(sites: list[Site], known: dict[str, Site]) -> list[Change]:
    """What an import of `sites` would add or change; sites that are absent stay."""
    return [Change(site, known.get(site.id)) for site in sites if known.get(site.id) != site]


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


def _site(header: list[str], row: list[str], line: int) -> Site:
    if len(row) != len(header):
        raise CsvError(f"line {line}: {len(row)} cells, but the header has {len(header)}")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}

    def cell(name: str) -> str:
        return cells.get(name, "")

    def refuse(name: str, text: str) -> CsvError:
        return CsvError(f"line {line}, column {name}: {text}")

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
    )


def _degrees(text: str, limit: int, refuse: Callable[[str], CsvError]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise refuse(f"{text!r} is no number; write degrees such as 1.4432") from None
    if not -limit <= value <= limit:
        raise refuse(f"{text} is not between -{limit} and {limit}")
    return value


def _timezone(text: str, refuse: Callable[[str], CsvError]) -> str:
    name = text or DEFAULT_TIMEZONE
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise refuse(f"{name!r} is no time zone; write one such as {DEFAULT_TIMEZONE}") from None
    return name
