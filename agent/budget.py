"""When a throughput test may run. Pure: time and chance are arguments.

Rules
 1. Tests come at random: the time to the next is drawn from an exponential distribution
    (RFC 2330, section 11.1.1), so that no rhythm of the day is preferred or avoided.
 2. There are never more than `per_day` within 24 hours, those by command included; by
    command one may run beyond that.
 3. A test that is due waits, with a reason, while people use the link, the processor is
    busy, the uplink is a backup, or the clock cannot tell the month; it is looked at again
    after `RETRY_S`.
 4. No test begins, by command or not, that would probably pass the month's bytes: one takes
    as many as the largest before it that ended well, and `likely_bytes` before the first.
 5. None begins either where a metered link has not enough to spare, a quarter more than that;
    and one that passes what it may take is ended.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

DAY_S = 86_400.0
RETRY_S = 600.0
_ROOM = 1.25


@dataclass(frozen=True)
class Plan:
    """What the configuration allows."""

    per_day: int
    monthly_bytes: int
    max_clients: int
    max_cpu_ratio: float
    backup_links: tuple[str, ...]
    likely_bytes: int


class Situation(NamedTuple):
    """How it is now; None where it is not known, which keeps nothing from running.

    ``spare_bytes`` is what the budget of a metered link has for a test.
    """

    clock_synced: bool
    active_clients: int | None
    cpu_ratio: float | None
    uplink: str | None
    spare_bytes: int | None = None


class Ledger(Struct, frozen=True):
    """What is remembered over restarts; times are seconds since 1970."""

    next_s: float | None = None
    tests: tuple[float, ...] = ()
    month: str = ""
    month_bytes: int = 0
    largest_bytes: int = 0


class Decision(NamedTuple):
    """Whether to run one now, or why one that is due does not; and what to remember."""

    run: bool
    why_not: str | None
    ledger: Ledger


def decide(
    ledger: Ledger, plan: Plan, now: Situation, now_s: float, rng: random.Random
) -> Decision:
    """Whether a test that the plan makes due runs now (rules 1 to 4)."""
    if plan.per_day == 0 or not now.clock_synced:
        return Decision(False, None, ledger)
    mean_s = DAY_S / plan.per_day
    if ledger.next_s is None or ledger.next_s > now_s + 20 * mean_s:  # first, or a clock put right
        return Decision(False, None, replace(ledger, next_s=now_s + rng.expovariate(1 / mean_s)))
    if now_s < ledger.next_s:
        return Decision(False, None, ledger)
    why_not = (
        _unfit(plan, now)
        or _too_many(ledger, plan, now_s)
        or too_dear(ledger, plan, now_s)
        or beyond_spare(ledger, plan, now.spare_bytes)
    )
    if why_not is not None:
        return Decision(False, f"skipped: {why_not}", replace(ledger, next_s=now_s + RETRY_S))
    return Decision(True, None, replace(ledger, next_s=now_s + rng.expovariate(1 / mean_s)))


def _unfit(plan: Plan, now: Situation) -> str | None:
    if now.active_clients is not None and now.active_clients > plan.max_clients:
        return f"{now.active_clients} clients are active, more than {plan.max_clients}"
    if now.cpu_ratio is not None and now.cpu_ratio > plan.max_cpu_ratio:
        return f"the processor is busy ({now.cpu_ratio:.2f}, more than {plan.max_cpu_ratio:g})"
    if now.uplink in plan.backup_links:
        return f"the uplink {now.uplink} is a backup"
    return None


def _too_many(ledger: Ledger, plan: Plan, now_s: float) -> str | None:
    if len(_of_a_day(ledger, now_s)) < plan.per_day:
        return None
    return f"{plan.per_day} tests ran within 24 hours"


def too_dear(ledger: Ledger, plan: Plan, now_s: float) -> str | None:
    """Why the month has no bytes left for a test; None where it has (rule 4)."""
    used = ledger.month_bytes if ledger.month == _month(now_s) else 0
    likely = ledger.largest_bytes or plan.likely_bytes
    if used + likely <= plan.monthly_bytes:
        return None
    return f"{used / 1e6:.0f} of {plan.monthly_bytes / 1e6:.0f} MB of this month are used"


def beyond_spare(ledger: Ledger, plan: Plan, spare_bytes: int | None) -> str | None:
    """Why the budget of a metered link has nothing for a test; None where it has (rule 5)."""
    takes = int(ledger.largest_bytes * _ROOM) or plan.likely_bytes
    if spare_bytes is None or takes <= spare_bytes:
        return None
    spare_mb = f"{spare_bytes / 1e6:.0f} MB"
    return f"a test takes about {takes / 1e6:.0f} MB, this metered link has {spare_mb} to spare"


def most_bytes(
    ledger: Ledger, plan: Plan, spare_bytes: int | None, now_s: float, *, forced: bool
) -> int | None:
    """After how many bytes a test ends, done or not (rule 5); None: it may take what it takes."""
    used = ledger.month_bytes if ledger.month == _month(now_s) else 0
    bounds = [] if forced else [max(0, plan.monthly_bytes - used)]
    bounds += [] if spare_bytes is None else [spare_bytes]
    return min(bounds, default=None)


def spent(ledger: Ledger, count_bytes: int, now_s: float, *, whole: bool = True) -> Ledger:
    """The ledger after a test; one that failed is no measure of the next (``whole``)."""
    same_month = ledger.month == _month(now_s)
    return replace(
        ledger,
        tests=(*_of_a_day(ledger, now_s), now_s),
        month=_month(now_s),
        month_bytes=count_bytes + (ledger.month_bytes if same_month else 0),
        largest_bytes=max(ledger.largest_bytes, count_bytes if whole else 0),
    )


def _of_a_day(ledger: Ledger, now_s: float) -> tuple[float, ...]:
    """The tests within a day of now; of a clock that was wrong by more, none."""
    return tuple(at_s for at_s in ledger.tests if abs(now_s - at_s) < DAY_S)


def _month(now_s: float) -> str:
    return datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m")
