"""When a throughput test runs, waits with a reason, or is too dear."""

from __future__ import annotations

import random

import pytest

from agent.budget import DAY_S, RETRY_S, Decision, Ledger, Plan, Situation, decide, spent, too_dear
from agent.helpers.throughput import FailedError, parse_iperf3

NOW_S = 1_795_000_000.0
PLAN = Plan(4, 100_000_000, max_clients=2, max_cpu_ratio=0.5, backup_links=("wwan0",))
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


def test_a_test_that_failed_costs_as_much_as_the_largest() -> None:
    ledger = spent(spent(Ledger(), 20_000_000, NOW_S), None, NOW_S)

    assert ledger.month_bytes == 40_000_000


@pytest.mark.parametrize(
    ("text", "why"), [("", "no report"), ("[]", "no report"), ('{"error":"busy"}', "iperf3: busy")]
)
def test_a_report_of_iperf3_that_is_none_is_told(text: str, why: str) -> None:
    with pytest.raises(FailedError, match=why):
        parse_iperf3(text)
