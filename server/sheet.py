"""The cells of sites.csv and their rules, every fault named by line and column. Pure.

Needs nothing but Python: `server.registry` makes sites of the rows, and a controller, which has
no more, judges its inventory by them (deploy/ansible/sites_csv.py).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator

REQUIRED = ("site", "name", "district", "isp")
COLUMNS = (
    *REQUIRED, "contract", "latitude", "longitude", "timezone", "backhaul", "power_area",
    "address", "access_points", "valid_from", "valid_to",
)  # fmt: skip
_BEGIN = f"begin with {','.join(COLUMNS[:10])}"
DEFAULT_TIMEZONE = "Asia/Makassar"

_SITE = re.compile(r"[a-z0-9][a-z0-9-]{1,62}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_DEGREES = {"latitude": 90, "longitude": 180}

Cells = dict[str, str]
"""A row by its columns; each cell stripped."""


class CsvError(Exception):
    """A list of sites that cannot be used; the text names line, column and mend."""


def rows(text: str, is_zone: Callable[[str], bool]) -> Iterator[tuple[int, Cells]]:
    """Each row that is not blank, with the line on which it begins.

    Args:
        is_zone: whether a name is that of a time zone.

    Raises:
        CsvError: a bad header, a row that is too short or too long, or a bad cell.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if header:
                    row = _by_column(header, cells, line)
                    for name, fault in _faults(row, is_zone):
                        raise CsvError(f"line {line}, column {name}: {fault}")
                    yield line, row
                else:
                    header = [cell.strip() for cell in cells]
                    _check_header(header, line)
            line = reader.line_num + 1
    except csv.Error as err:
        raise CsvError(f"line {line}: not CSV: {err}; save it so") from None
    if not header:
        raise CsvError(f"line 1: the file is empty; {_BEGIN}")


def _check_header(header: list[str], line: int) -> None:
    if len(header) == 1 and ";" in header[0]:
        raise CsvError(f"line {line}: the columns are separated by ';'; save the file with commas")
    for name in header:
        if name not in COLUMNS:
            raise CsvError(f"line {line}: unknown column {name!r}; there are {','.join(COLUMNS)}")
        if header.count(name) > 1:
            raise CsvError(f"line {line}: column {name} stands twice; keep one of them")
    for name in REQUIRED:
        if name not in header:
            raise CsvError(f"line {line}: column {name} is missing; {_BEGIN}")


def _by_column(header: list[str], cells: list[str], line: int) -> Cells:
    count = f"{len(cells)} cells, but the header has {len(header)}"
    if len(cells) < len(header):
        missing = header[len(cells)]
        raise CsvError(f"line {line}, column {missing}: the row ends before it: {count}; add them")
    if len(cells) > len(header):
        raise CsvError(f"line {line}, after column {header[-1]}: {count}; a comma in a name?")
    return {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _faults(row: Cells, is_zone: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Column and fault, with its mend, of what cannot be meant."""
    for name in REQUIRED:
        if not row[name]:
            yield name, "is empty; fill it in"
    if not _SITE.fullmatch(row["site"]):
        yield "site", f"{row['site']!r} is no site id; use a-z, 0-9 and '-', 2 to 63 characters"
    for name in ("district", "isp"):
        if not re.search(r"[a-z0-9]", row[name].lower()):
            yield name, f"nothing is left of {row[name]!r} as a topic; use letters"
    for name, limit in _DEGREES.items():
        text = row.get(name, "")
        if text and not (_NUMBER.fullmatch(text) and -limit <= float(text) <= limit):
            between = f"-{limit} and {limit}"
            yield name, f"{text!r} is not between {between}; write degrees such as 1.4432"
    zone = row.get("timezone") or DEFAULT_TIMEZONE
    if not is_zone(zone):
        yield "timezone", f"{zone!r} is no time zone; write one such as {DEFAULT_TIMEZONE}"
    address = row.get("address", "")
    if address and not _ADDRESS.fullmatch(address):
        yield "address", f"{address!r} is no address; write one such as 10.8.0.23 or a host's name"
    points = row.get("access_points", "").split()
    for point in points:
        if points.count(point) > 1:
            yield "access_points", f"{point!r} stands twice; keep one of them"
