"""When a throughput test runs, waits with a reason, or is too dear."""

from __future__ import annotations

import math
import random

import pytest

from agent.budget import (
    DAY_S,
    RETRY_S,
    Decision,
    Ledger,
    Plan,
    Situation,
    beyond_spare,
    decide,
    most_bytes,
    spent,
    too_dear,
)
from agent.helpers.throughput import FailedError, parse_iperf3

NOW_S = 1_795_000_000.0
PLAN = Plan(4, 100_000_000, 2, 0.5, backup_links=("wwan0",), likely_bytes=25_000_000)
QUIET = Situation(clock_synced=True, active_clients=0, cpu_ratio=0.1, uplink="eth0")
DUE = Ledger(next_s=NOW_S - 1)


def _decide(ledger: Ledger, now: Situation = QUIET) -> Decision:
    return decide(ledger, PLAN, now, NOW_S, random.Random(1))  # noqa: S311  # a seeded test


def test_a_test_that_is_due_on_a_quiet_link_runs() -> None:
    assert _decide(DUE).run


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"active_clients": 3}, "skipped: 3 clients are active, more than 2"),
        ({"cpu_ratio": 0.6}, "skipped: the processor is busy (0.60, more than 0.5)"),
        ({"uplink": "wwan0"}, "skipped: the uplink wwan0 is a backup"),
        (
            {"spare_bytes": 3_000_000},
            "skipped: a test takes about 25 MB, this metered link has 3 MB to spare",
        ),
    ],
)
def test_what_is_not_fit_waits_and_says_why(changed: dict[str, object], why: str) -> None:
    decision = _decide(DUE, QUIET._replace(**changed))

    assert (decision.run, decision.why_not) == (False, why)
    assert decision.ledger.next_s == NOW_S + RETRY_S


def test_an_unsynchronised_clock_and_no_due_time_run_nothing() -> None:
    assert not _decide(DUE, QUIET._replace(clock_synced=False)).run
    first = _decide(Ledger())
    assert (first.run, first.ledger.next_s is not None) == (False, True)


def test_there_are_never_more_than_so_many_within_a_day() -> None:
    rng, ledger = random.Random(7), Ledger()  # noqa: S311  # a seeded test
    ran: list[float] = []
    for minute in range(60 * 24 * 30):
        now_s = NOW_S + 60 * minute
        decision = decide(ledger, PLAN, QUIET, now_s, rng)
        ledger = decision.ledger
        if decision.run:
            ran.append(now_s)
            ledger = spent(ledger, 1000, now_s)

    assert len(ran) > 60
    assert all(later - first >= DAY_S for first, later in zip(ran, ran[4:], strict=False))


def test_a_month_without_bytes_runs_nothing_and_the_next_one_does() -> None:
    ledger = spent(Ledger(), 60_000_000, NOW_S)

    assert too_dear(ledger, PLAN, NOW_S) == "60 of 100 MB of this month are used"
    assert too_dear(ledger, PLAN, NOW_S + 32 * DAY_S) is None


def test_a_test_needs_a_quarter_more_than_the_largest_before_it() -> None:
    ledger = spent(Ledger(), 40_000_000, NOW_S - 2 * DAY_S)

    assert beyond_spare(ledger, PLAN, 50_000_000) is None
    assert beyond_spare(ledger, PLAN, 49_999_999) is not None
    assert beyond_spare(ledger, PLAN, None) is None


def test_a_test_ends_at_the_nearer_of_both_budgets() -> None:
    ledger = spent(Ledger(), 40_000_000, NOW_S)

    assert most_bytes(ledger, PLAN, None, NOW_S, forced=False) == 60_000_000
    assert most_bytes(ledger, PLAN, 30_000_000, NOW_S, forced=False) == 30_000_000
    assert most_bytes(ledger, PLAN, 30_000_000, NOW_S, forced=True) == 30_000_000
    assert most_bytes(ledger, PLAN, None, NOW_S, forced=True) is None


def test_the_times_between_tests_are_exponential() -> None:
    rng = random.Random(3)  # noqa: S311  # a seeded test
    mean_s = DAY_S / PLAN.per_day
    waits = [decide(Ledger(), PLAN, QUIET, 0.0, rng).ledger.next_s or 0.0 for _ in range(4000)]

    assert sum(waits) / len(waits) == pytest.approx(mean_s, rel=0.05)
    for share in (0.5, 1.0, 2.0):  # P(wait > t) = exp(-t / mean)
        longer = sum(wait > share * mean_s for wait in waits) / len(waits)
        assert longer == pytest.approx(math.exp(-share), abs=0.03)


@pytest.mark.parametrize(
    ("text", "why"), [("", "no report"), ("[]", "no report"), ('{"error":"busy"}', "iperf3: busy")]
)
def test_a_report_of_iperf3_that_is_none_is_told(text: str, why: str) -> None:
    with pytest.raises(FailedError, match=why):
        parse_iperf3(text)
