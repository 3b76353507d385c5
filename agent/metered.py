"""How the agent keeps within the month's bytes of a metered link. Pure: time is an argument.

Rules
 1. A month is one of UTC. All bytes are counted in one sum, and of each month it is kept
    where it began: a clock that went wrong and came back finds its month again, with what
    was used meanwhile.
 2. A process that knew the time once goes on by its own reckoning, where the clock is not
    synchronised any more, or was set by more than a day. Until then no month is known: bytes
    go to the one that was known last.
 3. What is left, less a margin of 5 %, is spread evenly over what is left of the month; of a
    month that is not known, over 31 days. The agent takes the lightest of `STEPS` whose pace
    fits: at once where it must slow down, step by step and with 10 % to spare where it may
    go faster.
 4. Slowed are first the tests, then echoes and probes, then the windows. The last step still
    measures and reports once an hour: presence and readings never end, also where a budget
    was cut below what is used already.
 5. A test takes only what was saved so far against an even use of the month; by command also
    what the last step could do without.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

DAY_S = 86_400.0
MONTH_S = 31 * DAY_S
MARGIN = 0.05
_EASE = 1.1
_MONTHS_KEPT = 3
_KEEPALIVE_BYTES = 250
"""A ping and its answer over TLS, with their acknowledgements (measured: 218)."""


class Slowing(NamedTuple):
    """How slow: the least seconds between two echoes to a target, every how many windows the
    probes run that cross the link (0: never), and the least length of a window in seconds."""

    echo_s: float
    probes_every: int
    window_s: float

    def echo_interval_for(self, interval_s: float, window_s: float) -> float:
        """The time between two echoes where `interval_s` is asked for, in such a window."""
        return max(interval_s, min(self.echo_s, window_s / 11))

    def has_probes(self, number: int) -> bool:
        """Whether probes that cross the link run in the window of that number."""
        return self.probes_every > 0 and number % self.probes_every == 0

    def window_for(self, window_s: float) -> float:
        """The length of a window where `window_s` is asked for."""
        return max(window_s, self.window_s)


STEPS = (
    Slowing(0.0, 1, 0.0),
    Slowing(2.0, 2, 0.0),
    Slowing(5.0, 5, 0.0),
    Slowing(10.0, 5, 120.0),
    Slowing(27.0, 4, 300.0),
    Slowing(80.0, 4, 900.0),
    Slowing(320.0, 0, 3600.0),
)
"""Within each window there are 11 echoes still: its loss can be judged."""
UNSLOWED = STEPS[0]

What = Literal["tests", "echoes", "probes", "windows"]


class Costs(NamedTuple):
    """What measuring takes, in bytes at IP level.

    ``round`` is one echo to each target beyond the gateway and its answer, ``probes`` one run
    of the probes that cross the link, ``reading`` one reading on its way to the server.
    """

    window_s: float
    echo_interval_s: float
    round: int
    probes: int
    reading: int
    keepalive_s: float


class Reckoning(NamedTuple):
    """What time it was (seconds since 1970) at a moment of CLOCK_BOOTTIME."""

    wall_s: float
    at_s: float


def reckon(
    before: Reckoning | None, wall_s: float, at_s: float, clock_synced: bool
) -> Reckoning | None:
    """What time it is, None where that is not known yet (rule 2)."""
    if before is None:
        return Reckoning(wall_s, at_s) if clock_synced else None
    expected_s = before.wall_s + at_s - before.at_s
    believed = clock_synced and abs(wall_s - expected_s) <= DAY_S
    return Reckoning(wall_s if believed else expected_s, at_s)


class Ledger(Struct, frozen=True):
    """All bytes ever, and what they were when each of the last months began (rule 1).

    ``month`` is the one that it is; empty until one was known.
    """

    total: int = 0
    month: str = ""
    began: dict[str, int] = {}

    @property
    def used(self) -> int:
        return self.total - self.began.get(self.month, 0)


def spend(ledger: Ledger, count_bytes: int, now: Reckoning | None) -> Ledger:
    """The ledger with bytes more, in the month that it is now."""
    total = ledger.total + count_bytes
    if now is None:
        return replace(ledger, total=total)
    month = month_of(now.wall_s)
    began = dict(ledger.began)
    if month not in began:
        is_first = not began or month < min(began)
        began[month] = min(began.values(), default=0) if is_first else ledger.total
    kept = {month, *sorted(began)[-_MONTHS_KEPT:]}
    return Ledger(total, month, {one: at for one, at in began.items() if one in kept})


def month_of(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m")


def recovered(ledger: Ledger, month: str, used: int) -> Ledger:
    """The ledger where a later witness says that `used` bytes were used in `month`."""
    if month < ledger.month:
        return ledger
    if month == ledger.month:
        return replace(ledger, total=ledger.total + max(0, used - ledger.used))
    return Ledger(ledger.total + used, month, {**ledger.began, month: ledger.total})


def left_s(now: Reckoning | None) -> float:
    """How long the month still lasts."""
    if now is None:
        return MONTH_S
    at = datetime.fromtimestamp(now.wall_s, UTC)
    end = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return max(1.0, end.timestamp() - now.wall_s)


def pace(step: int, costs: Costs) -> float:
    """Bytes a second at a step, tests not counted."""
    slow = STEPS[step]
    window_s = slow.window_for(costs.window_s)
    echo_s = slow.echo_interval_for(costs.echo_interval_s, window_s)
    probes = costs.probes / slow.probes_every if slow.probes_every else 0.0
    beat = _KEEPALIVE_BYTES / costs.keepalive_s
    return beat + costs.round / echo_s + (costs.reading + probes) / window_s


def decide(before: int, used: int, budget: int, left: float, costs: Costs) -> int:
    """The step to go on with (rule 3).

    Args:
        before: the step until now.
        used, budget: bytes of this month.
        left: seconds of this month.
        costs: what measuring takes.
    """
    allowed = (budget * (1 - MARGIN) - used) / left
    fit = next((n for n in range(len(STEPS)) if pace(n, costs) <= allowed), len(STEPS) - 1)
    if fit >= before:
        return fit
    return before - 1 if pace(before - 1, costs) * _EASE <= allowed else before


def saved(used: int, budget: int, left: float) -> int:
    """Bytes saved against an even use of the month (rule 5); 0 where there are none."""
    return max(0, int(budget * (1 - MARGIN) * (1 - left / MONTH_S)) - used)


def dispensable(used: int, budget: int, left: float, costs: Costs) -> int:
    """Bytes that the last step does not need; 0 where there are none."""
    return max(0, int(budget * (1 - MARGIN) - used - pace(len(STEPS) - 1, costs) * left))


def slowed(step: int, costs: Costs) -> list[What]:
    """What is slowed, in the order of rule 4."""
    slow = STEPS[step]
    window_s = slow.window_for(costs.window_s)
    found: dict[What, bool] = {
        "tests": step > 0,
        "echoes": slow.echo_interval_for(costs.echo_interval_s, window_s) > costs.echo_interval_s,
        "probes": slow.probes_every != 1,
        "windows": window_s > costs.window_s,
    }
    return [name for name, is_slow in found.items() if is_slow]
