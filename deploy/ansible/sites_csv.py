"""sites.csv as a controller reads it, that has Python alone.

The rules are those of `pantau sites import`: server/sheet.py and server/dates.py, by their paths,
since what else the server needs a controller lacks. One thing is stricter: the inventory has a
site once, whatever its dates. And one is not: a site whose `valid_to` has passed is there as long
as its row, so that no play stops for the date alone, and `retire.yml` finds it.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_SERVER = Path(__file__).parents[2] / "server"
_SHEET: dict[str, Any] = runpy.run_path(str(_SERVER / "sheet.py"))
_DATES: dict[str, Any] = runpy.run_path(str(_SERVER / "dates.py"))
_HAS_ZONES: bool = _DATES["is_zone"](_SHEET["DEFAULT_TIMEZONE"])
"""A controller without tzdata judges neither zones nor dates: the import does."""

CsvError: type[Exception] = _SHEET["CsvError"]


def rows(file: Path, now: float, warn: Callable[[str], object] = str) -> list[dict[str, str]]:
    """The rows of the file, each cell stripped.

    Args:
        now: when a row begins that says nothing else.
        warn: takes what the import will refuse, and is no fault here.

    Raises:
        CsvError: the first fault that is in it: file, line and column, with the mend.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        return list(_rows(text, now, lambda told: warn(f"{file}: {told}")))
    except OSError as err:
        raise CsvError(f"{file}: {err.strerror}; put the list of sites there") from None
    except UnicodeDecodeError as err:
        raise CsvError(f"{file}: not UTF-8 at byte {err.start}; save it so") from None
    except CsvError as err:
        raise CsvError(f"{file}: {err}") from None


def _rows(text: str, now: float, warn: Callable[[str], object]) -> Iterator[dict[str, str]]:
    found: dict[str, int] = {}
    for line, row in _SHEET["rows"](text, _DATES["is_zone"] if _HAS_ZONES else bool):
        if _HAS_ZONES:
            _check_dates(row, line, now, warn)
        site = row["site"]
        if site in found:
            raise CsvError(
                f"line {line}, column site: {site!r} already stands in line {found[site]};"
                " keep one of them"
            )
        found[site] = line
        yield row


def _check_dates(row: dict[str, str], line: int, now: float, warn: Callable[[str], object]) -> None:
    zone = row.get("timezone") or _SHEET["DEFAULT_TIMEZONE"]
    moments: dict[str, float | None] = {}
    for name in ("valid_from", "valid_to"):
        text = row.get(name, "")
        try:
            moments[name] = _DATES["instant"](text, zone) if text else None
        except ValueError as err:  # DateError is one, and says what to write
            raise CsvError(f"line {line}, column {name}: {err}") from None
    begin, end = moments["valid_from"], moments["valid_to"]
    place = f"line {line}, column valid_to: {row.get('valid_to')}"
    if begin is not None and end is not None and end <= begin:
        raise CsvError(f"{place} is not after its valid_from; mend one of them")
    if begin is None and end is not None and end <= now:
        warn(
            f"{place} has passed, which the import refuses; delete the row, or give its valid_from"
        )
