"""The rules of sites.csv, for a controller that has Python alone.

The same as `pantau sites import` has (server/registry.py), which needs packages that a controller
lacks; tests/deploy/test_sites_csv.py holds the two against each other. One thing is stricter: the
inventory has a site once, whatever its dates.
"""

from __future__ import annotations

import csv
import io
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DATES: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "server" / "dates.py"))
REQUIRED = ("site", "name", "district", "isp")
COLUMNS = (
    *REQUIRED, "contract", "latitude", "longitude", "timezone", "backhaul", "power_area",
    "address", "access_points", "valid_from", "valid_to",
)  # fmt: skip
_ZONE = "Asia/Makassar"
_HAS_ZONES: bool = _DATES["is_zone"](_ZONE)
"""A controller without tzdata judges neither zones nor dates: the import does."""
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{1,62}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
_DEGREES = {"latitude": 90, "longitude": 180}


class CsvError(Exception):
    """A fault: file, line and column, with the mend."""


def rows(file: Path, now: float) -> list[dict[str, str]]:
    """The rows of the file, each cell stripped.

    Args:
        now: when a row begins that says nothing else.

    Raises:
        CsvError: the first fault that is in it.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as err:
        raise CsvError(f"{file}: {err.strerror}; put the list of sites there") from None
    except UnicodeDecodeError as err:
        raise CsvError(f"{file}: not UTF-8 at byte {err.start}; save it so") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return _rows(reader, now)
    except CsvError as err:
        raise CsvError(f"{file}: {err}") from None
    except csv.Error as err:
        raise CsvError(f"{file}: line {reader.line_num}: not CSV: {err}; save it so") from None


def _rows(reader: Any, now: float) -> list[dict[str, str]]:
    header = [cell.strip() for cell in next(reader, [])]
    _check_header(header)
    found: dict[str, int] = {}
    result = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num
        row = _check_length(header, cells, line)
        for name, fault in _faults(row, now):
            raise CsvError(f"line {line}, column {name}: {fault}")
        site = row["site"]
        if site in found:
            raise CsvError(
                f"line {line}, column site: {site!r} already stands in line {found[site]};"
                " keep one of them"
            )
        found[site] = line
        result.append(row)
    return result


def _check_header(header: list[str]) -> None:
    begin = f"begin with {','.join(COLUMNS[:10])}"
    if not header:
        raise CsvError(f"line 1: the file is empty; {begin}")
    if len(header) == 1 and ";" in header[0]:
        raise CsvError("line 1: the columns are separated by ';'; save the file with commas")
    for name in header:
        if name not in COLUMNS:
            raise CsvError(f"line 1: unknown column {name!r}; there are {','.join(COLUMNS)}")
        if header.count(name) > 1:
            raise CsvError(f"line 1: column {name} stands twice; keep one of them")
    for name in REQUIRED:
        if name not in header:
            raise CsvError(f"line 1: column {name} is missing; {begin}")


def _check_length(header: list[str], cells: list[str], line: int) -> dict[str, str]:
    count = f"{len(cells)} cells, but the header has {len(header)}"
    if len(cells) < len(header):
        missing = header[len(cells)]
        raise CsvError(f"line {line}, column {missing}: the row ends before it: {count}; add them")
    if len(cells) > len(header):
        raise CsvError(f"line {line}, after column {header[-1]}: {count}; a comma in a name?")
    return {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _faults(row: dict[str, str], now: float) -> Iterator[tuple[str, str]]:
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
        if text and not _is_within(text, limit):
            yield (
                name,
                f"{text!r} is not between -{limit} and {limit}; write degrees such as 1.4432",
            )
    zone = row.get("timezone") or _ZONE
    if _HAS_ZONES and not _DATES["is_zone"](zone):
        yield "timezone", f"{zone!r} is no time zone; write one such as {_ZONE}"
    address = row.get("address", "")
    if address and not _ADDRESS.fullmatch(address):
        yield "address", f"{address!r} is no address; write one such as 10.8.0.23 or a host's name"
    points = row.get("access_points", "").split()
    for point in points:
        if points.count(point) > 1:
            yield "access_points", f"{point!r} stands twice; keep one of them"
    if _HAS_ZONES:
        yield from _date_faults(row, zone, now)


def _is_within(text: str, limit: int) -> bool:
    try:
        return -limit <= float(text) <= limit
    except ValueError:
        return False


def _date_faults(row: dict[str, str], zone: str, now: float) -> Iterator[tuple[str, str]]:
    moments: dict[str, float | None] = {}
    for name in ("valid_from", "valid_to"):
        text = row.get(name, "")
        try:
            moments[name] = _DATES["instant"](text, zone) if text else None
        except ValueError as err:  # DateError is one, and says what to write
            yield name, str(err)
    begin, end = moments.get("valid_from"), moments.get("valid_to")
    if end is not None and end <= (now if begin is None else begin):
        yield "valid_to", f"{row['valid_to']} is not after its beginning; write a later one"
