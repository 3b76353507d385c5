"""Dates and times as people write them, to seconds since 1970. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

_WRITTEN = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_YEARS = (2000, 2100)
_SHORT = {"Asia/Jakarta": "WIB", "Asia/Makassar": "WITA", "Asia/Jayapura": "WIT"}


class DateError(ValueError):
    """Something that is no date; the text says what to write."""


def instant(text: str, zone: str) -> float:
    """The moment that `text` names: a date (its midnight) or a date and a time.

    Args:
        text: such as ``2024-04-01``, ``2024-04-01 08:30`` or ``2024-04-01T08:30:00Z``.
        zone: the time zone where the text names none, such as ``Asia/Makassar``.

    Raises:
        DateError: it is none.
    """
    try:
        if not _WRITTEN.fullmatch(text):
            raise ValueError(text)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise DateError(f"{text!r} is no time; write 2024-04-01 or 2024-04-01 08:30") from None
    return moment(found, zone)


def moment(value: date | datetime, zone: str) -> float:
    """The same of what TOML has read: a date, or a date and time with or without an offset.

    Raises:
        DateError: it is of no year that can be meant.
    """
    first, last = _YEARS
    if not first <= value.year <= last:
        raise DateError(f"{value} is not between the years {first} and {last}")
    when = value if isinstance(value, datetime) else datetime.combine(value, time())
    return (when if when.tzinfo else when.replace(tzinfo=ZoneInfo(zone))).timestamp()


def is_zone(name: str) -> bool:
    """Whether there is a time zone of that name."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


def told(at: float, zone: str) -> str:
    """A moment for a person: to the minute, or to the second where that says more."""
    when = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone))
    clock = f"{when:%H:%M}" if not when.second else f"{when:%H:%M:%S}"
    return f"{when:%Y-%m-%d} {clock} {_SHORT.get(zone) or when.tzname()}"


def period(from_at: float, to_at: float | None, zone: str) -> str:
    """From when to when, for a person."""
    begin = f"from {told(from_at, zone)}" if from_at > 0 else "from the beginning"
    return begin if to_at is None else f"{begin} to {told(to_at, zone)}"


def zone(name: str) -> str:
    """The time zone of its name, or of Indonesia's short one, such as ``WITA``.

    Raises:
        DateError: there is none.
    """
    found = next((long for long, short in _SHORT.items() if short == name.upper()), name)
    if not is_zone(found):
        raise DateError(f"{name!r} is no time zone; write WIB, WITA, WIT or such as Asia/Makassar")
    return found
