"""Local periods: months, days, times, zones, and what cannot be meant."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from server.periods import PeriodError, period, steps, zone

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()


def utc(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("begin", "end", "name", "first", "last"),
    [
        ("2026-10", None, "WITA", "2026-09-30 16:00", "2026-10-31 16:00"),
        ("2026-10", None, "wib", "2026-09-30 17:00", "2026-10-31 17:00"),
        ("2026-10", "2026-12", "Asia/Jayapura", "2026-09-30 15:00", "2026-11-30 15:00"),
        ("2026-12", None, "UTC", "2026-12-01 00:00", "2027-01-01 00:00"),
        ("2026-10-05", None, "WITA", "2026-10-04 16:00", "2026-10-05 16:00"),
        ("2026-10-05", "2026-10-07", "WITA", "2026-10-04 16:00", "2026-10-06 16:00"),
        (
            "2026-10-05 08:30",
            "2026-10-05T01:00:00Z",
            "WITA",
            "2026-10-05 00:30",
            "2026-10-05 01:00",
        ),
        ("2027-01", None, "WITA", "2026-12-31 16:00", "2027-01-15 08:00"),  # up to now
    ],
)
def test_a_period_is_between_two_local_times(
    begin: str, end: str | None, name: str, first: str, last: str
) -> None:
    found = period(begin, end, zone(name), NOW)

    assert (utc(found.from_ms), utc(found.to_ms)) == (first, last)


def test_a_period_is_made_of_calendar_months_that_keep_their_whole_length() -> None:
    found = period("2026-10-15", "2026-12-02", zone("WITA"), NOW)
    day = 86_400_000

    assert [
        (one.name, (one.to_ms - one.from_ms) // day, one.whole_ms // day) for one in found.months
    ] == [
        ("2026-10", 17, 31),
        ("2026-11", 30, 30),
        ("2026-12", 1, 31),
    ]
    assert (found.months[0].from_ms, found.months[-1].to_ms) == (found.from_ms, found.to_ms)


@pytest.mark.parametrize(
    ("begin", "end", "fault"),
    [
        ("yesterday", None, "--from: 'yesterday' is no time; write 2024-04-01 or"),
        ("2026-13", None, "--from: '2026-13-01' is no time"),
        ("2026-10", "2026-02-30", "--to: '2026-02-30' is no time"),
        ("2026-10", "2026-10", "--to: 2026-10 is not after --from 2026-10"),
        ("2026-10", "2026-09", "--to: 2026-09 is not after --from 2026-10"),
        ("2026-10-05 08:30", None, "--to: is missing"),
        ("2027-02", None, "--from: 2027-02 is still to come"),
        ("2100-12", None, "--from: 2101-01-01 00:00:00 is not between the years"),
        ("1066-01", None, "--from: 1066-01-01 00:00:00 is not between the years"),
    ],
)
def test_a_period_that_cannot_be_meant_is_refused_with_its_option(
    begin: str, end: str | None, fault: str
) -> None:
    with pytest.raises(PeriodError) as caught:
        period(begin, end, "Asia/Makassar", NOW)

    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize("name", ["WEST", "", "../etc/passwd", "Asia"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PeriodError, match=r"^--zone: .* is no time zone; write WIB"):
        zone(name)


def test_steps_fill_a_period_and_days_keep_to_midnight_over_a_clock_change() -> None:
    day = period("2026-10-05", None, zone("WITA"), NOW)
    assert len(steps(day, "1h")) == 25
    assert steps(day, "7h")[-1] == day.to_ms
    change = period("2026-10-24", "2026-10-27", "Europe/Berlin", NOW)
    assert [utc(at) for at in steps(change, "1d")] == [
        *("2026-10-23 22:00", "2026-10-24 22:00", "2026-10-25 23:00", "2026-10-26 23:00"),
    ]


@pytest.mark.parametrize("step", ["", "h", "0h", "1", "-1h", "1w", "1.5h", "²h", "1m"])
def test_a_step_that_is_none_or_makes_too_many_is_refused(step: str) -> None:
    with pytest.raises(PeriodError, match=r"^--step: "):
        steps(period("2026-10", None, zone("WITA"), NOW), step)
