"""Periods of local time, as people write them. Pure."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from server.dates import DateError, instant, is_zone
from server.edges import ms
from server.sla import Month

ZONES = {"WIB": "Asia/Jakarta", "WITA": "Asia/Makassar", "WIT": "Asia/Jayapura"}
"""Indonesia's zones by their short names."""
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_STEP = re.compile(r"0*[1-9]\d{0,3}", re.ASCII)
_UNITS_S = {"m": 60, "h": 3_600, "d": 86_400}
_MOST_STEPS = 10_000


class PeriodError(ValueError):
    """A period that cannot be meant; the text says which option, and what to write."""


class Period(NamedTuple):
    """A time to report on, and the calendar months that it is made of."""

    from_ms: int
    to_ms: int
    zone: str
    months: tuple[Month, ...]


def zone(name: str) -> str:
    """The time zone of a short name, or of its own.

    Raises:
        PeriodError: there is none of that name.
    """
    found = ZONES.get(name.upper(), name)
    if not is_zone(found):
        raise PeriodError(
            f"--zone: {name!r} is no time zone; write WIB, WITA, WIT or such as Asia/Makassar"
        )
    return found


def period(begin: str, end: str | None, in_zone: str, now: float) -> Period:
    """The period between two local times; what is yet to come is left off.

    Args:
        begin: a month (``2026-10``), a date, or a date and time.
        end: the same; the period ends where that begins. None: the month or the day
            that `begin` names.

    Raises:
        PeriodError: it cannot be meant.
    """
    from_at = _instant("--from", begin, in_zone)
    to_at = _after(begin, in_zone) if end is None else _instant("--to", end, in_zone)
    if to_at <= from_at:
        raise PeriodError(
            f"--to: {end} is not after --from {begin}; the period ends where --to begins"
        )
    if from_at >= now:
        raise PeriodError(f"--from: {begin} is still to come")
    from_ms, to_ms = ms(from_at), ms(min(to_at, now))
    return Period(from_ms, to_ms, in_zone, tuple(_months(from_ms, to_ms, in_zone)))


def steps(of: Period, step: str) -> list[int]:
    """The edges of equal parts of a period, the first and the last among them.

    Args:
        step: such as ``15m``, ``1h`` or ``1d``; the last part may be shorter. Days go
            from midnight to midnight, also where a clock is set forward.

    Raises:
        PeriodError: it is none, or makes too many parts.
    """
    number, unit = step[:-1], step[-1:]
    if unit not in _UNITS_S or not _STEP.fullmatch(number):
        raise PeriodError(f"--step: {step!r} is no step; write such as 15m, 1h or 1d")
    step_s = int(number) * _UNITS_S[unit]
    if (of.to_ms - of.from_ms) > step_s * 1000 * _MOST_STEPS:
        raise PeriodError(f"--step: {step} makes more than {_MOST_STEPS} steps; take a longer one")
    if unit != "d":
        return [*range(of.from_ms, of.to_ms, step_s * 1000), of.to_ms]
    at = datetime.fromtimestamp(of.from_ms / 1000, ZoneInfo(of.zone))
    edges = []
    while (edge := ms(at.timestamp())) < of.to_ms:
        edges.append(edge)
        at += timedelta(days=int(number))
    return [*edges, of.to_ms]


def _instant(option: str, text: str, in_zone: str) -> float:
    try:
        return instant(f"{text}-01" if _MONTH.fullmatch(text) else text, in_zone)
    except DateError as err:
        raise PeriodError(f"{option}: {err}") from None


def _after(begin: str, in_zone: str) -> float:
    """The end of the month or the day that `begin` names."""
    if _MONTH.fullmatch(begin):
        return _instant("--from", f"{_next(date.fromisoformat(begin + '-01'))}", in_zone)
    if _DAY.fullmatch(begin):
        return _instant("--from", f"{date.fromisoformat(begin) + timedelta(days=1)}", in_zone)
    raise PeriodError("--to: is missing; only a month or a day stands alone in --from")


def _next(first: date) -> date:
    """The first day of the next month."""
    return (first + timedelta(days=31)).replace(day=1)


def _months(from_ms: int, to_ms: int, in_zone: str) -> list[Month]:
    first = datetime.fromtimestamp(from_ms / 1000, ZoneInfo(in_zone)).date().replace(day=1)
    found = []
    while (begin := ms(instant(f"{first}", in_zone))) < to_ms:
        after = _next(first)
        end = ms(instant(f"{after}", in_zone))
        found.append(Month(f"{first:%Y-%m}", max(begin, from_ms), min(end, to_ms), end - begin))
        first = after
    return found
