"""The month's bytes of a metered link: counted, spread, and never passed."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.metered import (
    DAY_S,
    MARGIN,
    STEPS,
    Costs,
    Ledger,
    Reckoning,
    decide,
    dispensable,
    left_s,
    pace,
    reckon,
    saved,
    slowed,
    spend,
)

START_S = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
COSTS = Costs(
    window_s=60.0, echo_interval_s=1.0, round=504, probes=6_000, reading=3_000, keepalive_s=15.0
)
MB = 1_000_000
LAST = len(STEPS) - 1


def _december(day: float) -> Reckoning:
    return Reckoning(START_S + day * DAY_S, 0.0)


@pytest.mark.parametrize("costs", [COSTS, COSTS._replace(window_s=10.0, echo_interval_s=0.9)])
def test_each_step_takes_less_than_the_one_before(costs: Costs) -> None:
    paces = [pace(step, costs) for step in range(len(STEPS))]
    assert paces == sorted(paces, reverse=True)
    assert len(set(paces)) >= len(STEPS) - 1


def test_a_budget_that_suffices_slows_nothing() -> None:
    assert decide(0, 0, 10_000 * MB, 31 * DAY_S, COSTS) == 0
    assert slowed(0, COSTS) == []


def test_it_slows_tests_then_echoes_and_probes_then_windows() -> None:
    assert [slowed(step, COSTS) for step in range(len(STEPS))] == [
        [],
        ["tests", "echoes", "probes"],
        ["tests", "echoes", "probes"],
        *[["tests", "echoes", "probes", "windows"]] * 4,
    ]


def test_it_slows_down_at_once_and_goes_faster_step_by_step_with_room_to_spare() -> None:
    budget = 100 * MB
    assert decide(0, 90 * MB, budget, 20 * DAY_S, COSTS) == LAST
    assert decide(LAST, 0, 10_000 * MB, 20 * DAY_S, COSTS) == LAST - 1
    left = 20 * DAY_S
    just = int(pace(2, COSTS) * left / (1 - MARGIN)) + 1
    assert decide(2, 0, just, left, COSTS) == 2
    assert decide(3, 0, just, left, COSTS) == 3
    assert decide(3, 0, int(just * 1.2), left, COSTS) == 2


def test_a_budget_that_is_passed_already_leaves_the_last_step() -> None:
    assert decide(0, 200 * MB, 100 * MB, DAY_S, COSTS) == LAST
    assert dispensable(200 * MB, 100 * MB, DAY_S, COSTS) == 0


def test_a_month_begins_with_nothing_used() -> None:
    ledger = spend(Ledger(), 5, _december(30.9))
    assert (ledger.month, ledger.used) == ("2026-12", 5)
    ledger = spend(ledger, 7, _december(31.1))
    assert (ledger.month, ledger.used) == ("2027-01", 7)


def test_a_clock_that_was_wrong_takes_no_byte_out_of_the_account() -> None:
    ledger = spend(Ledger(), 100, _december(3))
    ledger = spend(ledger, 10, _december(3000))
    ledger = spend(ledger, 1, _december(5000))
    ledger = spend(ledger, 1000, _december(4))
    assert (ledger.month, ledger.used) == ("2026-12", 1111)
    back = spend(ledger, 5, _december(-400))
    assert back.used == 1116
    assert spend(back, 0, _december(5)).used == 1116


def test_bytes_of_a_time_without_a_clock_go_to_the_month_that_is_known_or_comes_to_be() -> None:
    before_all = spend(Ledger(), 3, None)
    assert (before_all.used, spend(before_all, 4, _december(2)).used) == (3, 7)
    known = spend(spend(Ledger(), 100, _december(2)), 5, None)
    assert (known.month, known.used) == ("2026-12", 105)


def test_time_goes_on_by_reckoning_where_the_clock_is_set_by_more_than_a_day() -> None:
    assert reckon(None, 12.0, 0.0, False) is None
    known = reckon(None, START_S, 100.0, True)
    assert known == Reckoning(START_S, 100.0)
    assert reckon(known, START_S + 65, 160.0, True) == Reckoning(START_S + 65, 160.0)
    for wall_s, synced in ((START_S + 40 * DAY_S, True), (12.0, False)):
        assert reckon(known, wall_s, 160.0, synced) == Reckoning(START_S + 60, 160.0)


def test_what_is_left_of_a_month_is_counted_to_its_end() -> None:
    assert left_s(_december(30)) == DAY_S
    assert left_s(None) == 31 * DAY_S


def test_a_test_takes_what_was_saved_and_by_command_what_the_last_step_spares() -> None:
    budget, left = 310 * MB, 21 * DAY_S
    assert saved(40 * MB, budget, left) == pytest.approx(55 * MB, rel=0.01)
    assert saved(100 * MB, budget, left) == 0
    spare = dispensable(40 * MB, budget, left, COSTS)
    assert spare == pytest.approx(310 * MB * 0.95 - 40 * MB - pace(LAST, COSTS) * left, rel=0.01)


class Month:
    """An agent over a month: what it really used, and what it knows of that."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311  # a seeded test
        self.ledger = Ledger()
        self.step, self.now_s, self.truth = 0, START_S, 0
        self.known: Reckoning | None = None
        self.wrong_by_s = 0.0
        self.synced = True
        self.readings: list[float] = []

    def window(self, budget: int) -> None:
        """One window, a test where there is room, perhaps a trouble."""
        window_s = STEPS[self.step].window_for(COSTS.window_s)
        self.now_s += window_s
        used = int(pace(self.step, COSTS) * window_s * self.rng.uniform(0.7, 1.04))
        wall_s = self.now_s + self.wrong_by_s
        self.known = reckon(self.known, wall_s, self.now_s, self.synced)
        left = left_s(self.known)
        if self.step == 0:
            used += min(saved(self.ledger.used, budget, left), self.rng.randrange(25 * MB))
        if self.rng.random() < 0.01:
            used += self.rng.randrange(50_000)  # a new connection, a backlog
        self.truth += used
        self.ledger = spend(self.ledger, used, self.known)
        self.step = decide(self.step, self.ledger.used, budget, left, COSTS)
        self.readings.append(self.now_s)

    def trouble(self) -> None:
        """A power cut takes the window under way; the clock goes wrong or comes right."""
        lot = self.rng.random()
        if lot < 0.002:
            lost = int(pace(self.step, COSTS) * self.rng.uniform(0, 60))
            self.truth += lost
            self.step, self.known = 0, None
            self.synced, self.wrong_by_s = False, -self.rng.uniform(0, 3000) * DAY_S
        elif lot < 0.003:
            self.wrong_by_s = self.rng.uniform(-40, 4000) * DAY_S
        elif lot < 0.03:
            self.synced, self.wrong_by_s = True, 0.0


@pytest.mark.slow
@pytest.mark.parametrize("budget_mb", [80, 150, 400, 1000, 3000])
@pytest.mark.parametrize("seed", range(2))
def test_a_month_with_power_cuts_and_wrong_clocks_stays_within_its_budget(
    budget_mb: int, seed: int
) -> None:
    month = Month(seed)
    while month.now_s < _december(31).wall_s - 3600:
        month.window(budget_mb * MB)
        month.trouble()
    assert month.truth <= budget_mb * MB
    gaps = [b - a for a, b in zip(month.readings, month.readings[1:], strict=False)]
    assert max(gaps) <= 3600
    if budget_mb < 1000:
        assert month.truth >= 0.4 * budget_mb * MB  # and it made use of it


@settings(max_examples=40)
@given(
    hour=st.integers(0, 700),
    first_mb=st.integers(200, 2000),
    then_mb=st.integers(100, 2000),
    seed=st.integers(0, 1000),
)
def test_a_budget_that_changes_midway_is_kept_as_far_as_it_can_be(
    hour: int, first_mb: int, then_mb: int, seed: int
) -> None:
    """Without troubles, and in steps of an hour, so that it is quick."""
    rng = random.Random(seed)  # noqa: S311  # a seeded test
    step, used, bound = 0, 0, 0.0
    for now in range(31 * 24 - 1):
        budget = (then_mb if now >= hour else first_mb) * MB
        left = left_s(_december(now / 24))
        if now == hour:  # what presence and readings alone take from here on is the least
            bound = max(budget, used + pace(LAST, COSTS) * left)
        step = decide(step, used, budget, left, COSTS)
        used += int(pace(step, COSTS) * 3600 * rng.uniform(0.7, 1.0))
    assert used <= bound


def test_a_window_keeps_the_echoes_that_a_judgement_needs() -> None:
    for slow in STEPS:
        window_s = slow.window_for(COSTS.window_s)
        assert window_s / slow.echo_interval_for(COSTS.echo_interval_s, window_s) >= 11


def test_probes_run_in_every_so_many_windows_or_in_none() -> None:
    assert [n for n in range(10) if STEPS[2].has_probes(n)] == [0, 5]
    assert not any(STEPS[LAST].has_probes(n) for n in range(10))
