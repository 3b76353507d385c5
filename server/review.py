"""The cause of an outage, reviewed once more is known than its first reading said. Pure.

Rules, in this order
 1. A session that ended in order (stopped, upgrade, reboot) was ended on purpose:
    *agent*, unless the device came back by a new boot (rule 3).
 2. An agent that measured on into the gap, its windows on one unbroken grid of
    uptime, saw what was wrong: *link*, and on which rung. Where it reached domestic
    or world in the first of these windows and in most of them, only the way to the
    centre was lost: the site was not down, and the cause says so.
 3. A new boot that began inside the gap: *power*. Less sure where the device had
    been shut down in order or its disk had failed, surer after undervoltage.
 4. The same boot with a broken grid: the *agent* was not running, where it counts its
    starts, began a new stream, or the centre saw the line up; else the *link*, less sure.
    Nor was it running where the grid is whole and its windows lack echoes: a process that
    hung ends its window late. Windows of a dead line in at least half of the gap are the
    *link*, though a few are lacking.
 5. No reading since: *unknown*.
 6. What the neighbours did in the same minutes: a line that went with most of its
    ISP or backhaul is the *isp*'s, unless the fault was inside the site (carrier,
    gateway). Power that went with most of its area or district is surer. Of a site
    that has not reported since, the neighbours alone give a guess while it is away.
 7. What the centre's own echoes saw (the witness) confirms or contradicts: when
    they were answered all through, the line was up, so that a silent agent hung.
All is told by uptime, so that a clock that was wrong changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET

from agent.wire import Host, Reading
from server.causes import (
    NOT_DOWN,
    STARTS_UNTOLD,
    counts_starts,
    ended_in_order,
    grid_tolerance_s,
    shortened,
    silences,
)
from server.gap import HUNG_LEAST_S, RUNG_TEXTS, far, fell_silent, lowest, stood_still_s
from server.model import Cause
from server.others import Beside, all_through, with_neighbours, with_witness

_WORTH_CONFIDENCE = 0.05
_AT_FIRST = 3
"""Windows at the beginning of a gap: a line that is dead in them made it. That domestic answers
later only shows how long the agent took to find its way back to the broker."""
_INSIDE = ("carrier", "gateway")


class Told(NamedTuple):
    """One stored reading: its stream, and when it was taken, put right where needed."""

    stream: str
    taken_at: float
    reading: Reading


class Facts(NamedTuple):
    """All that is known of an outage."""

    opened_at: float
    resolved_at: float | None
    before: Told | None  # the newest reading of the time before
    after: Sequence[Told] = ()  # those after it, until the end and the one that ended it
    parted: str = ""  # how the session ended, where it did so in order
    beside: Sequence[Beside] = ()
    answered_s: float = 0.0  # how long, of the gap, the centre's own echoes were answered
    unanswered_s: float = 0.0  # and how long they were not


class Review(NamedTuple):
    """A cause that replaces another, and why."""

    cause: Cause
    why: str


def revise(known: Cause, facts: Facts, because: str) -> Review | None:
    """What an incident's cause should be now; None when that says nothing new.

    Args:
        known: the cause so far.
        facts: all that is known by now.
        because: what made it worth another look, such as ``the backlog arrived``.
    """
    cause = judge(facts)
    if cause.verdict == "unknown" and known.verdict != "unknown" and not cause.evidence:
        return None
    changed = cause.verdict != known.verdict
    surer = abs(cause.confidence - known.confidence) >= _WORTH_CONFIDENCE
    if not changed and not surer and set(cause.evidence) <= set(known.evidence):
        return None
    if changed:
        return Review(cause, f"{because}: {known.verdict} became {cause.verdict}")
    return Review(cause, f"{because}: {cause.verdict} stays")


def judge(facts: Facts) -> Cause:
    """The cause of an outage from all that is known of it."""
    cause, inside = _alone(facts)
    left_unheard = facts.resolved_at is not None and not facts.after
    if not inside and not left_unheard:
        cause = with_neighbours(cause, facts.beside)
    return with_witness(cause, facts.answered_s, facts.unanswered_s)


def _alone(facts: Facts) -> tuple[Cause, bool]:
    """Rules 1 to 5: what the site's own account says; and whether the fault was inside it."""
    new_boot = facts.before and any(
        one.reading.boot != facts.before.reading.boot for one in facts.after
    )
    if facts.parted and not new_boot:
        return ended_in_order(facts.parted), False
    if facts.before is None:
        return Cause(evidence=("no reading before the outage",)), False
    if not facts.after:
        return Cause(), False
    before = facts.before.reading
    old = sorted(
        (one for one in facts.after if one.reading.boot == before.boot),
        key=lambda one: one.reading.uptime_s,
    )
    kept = _unbroken(facts.before, old)
    new = [one for one in facts.after if one.reading.boot != before.boot]
    whole = len(kept) == len(old) and not new
    stood_s = stood_still_s([one.reading for one in (facts.before, *kept)]) if whole else 0.0
    if stood_s >= HUNG_LEAST_S:
        told = f"same boot, but no echo was sent for {stood_s:.0f} s or more: it hung"
        return Cause("agent", 0.9, (told,)), False
    ran_s = kept[-1].reading.uptime_s - before.uptime_s if kept else 0.0
    if kept and (whole or ran_s >= 2 * before.window_s):
        return _measured_on(facts, kept, new)
    if new:
        return _new_boot(facts, min(new, key=lambda one: one.reading.uptime_s)), False
    dead = [one for one in old if _in_gap(one, facts) and far(one.reading) == "fail"]
    gap_s = (facts.resolved_at or old[-1].taken_at) - facts.opened_at
    dead_s = sum(one.reading.window_s for one in dead)
    if dead and 2 * dead_s >= gap_s:
        cause, inside = _measured_on(facts, dead, new)
        lacking = f"but no dead line in {max(0.0, gap_s - dead_s):.0f} s: windows are lacking"
        return Cause(cause.verdict, cause.confidence, (*cause.evidence, lacking)), inside
    return _broken(facts, old, len(kept)), False


def _unbroken(before: Told, old: Sequence[Told]) -> list[Told]:
    """The readings that follow on `before` window by window, in its stream."""
    kept: list[Told] = []
    last = before
    for one in old:
        step_s = one.reading.uptime_s - last.reading.uptime_s
        slack_s = grid_tolerance_s(one.reading.window_s)
        if one.stream != before.stream or step_s > one.reading.window_s + slack_s:
            break
        kept.append(one)
        last = one
    return kept


def _measured_on(facts: Facts, kept: list[Told], new: list[Told]) -> tuple[Cause, bool]:
    """Rule 2."""
    first, last = kept[0].reading, kept[-1].reading
    told = [f"the agent measured on through the gap (seq {first.seq} to {last.seq})"]
    if new:
        told.append(f"only {last.seq - first.seq + 1} windows later did the device start anew")
    if any(not one.reading.clock.synced for one in kept):
        told.append("its clock was not synchronised: told by uptime")
    in_gap = [one for one in kept if _in_gap(one, facts)] or kept
    failing = [one.reading for one in in_gap if far(one.reading) == "fail"]
    reached = [one for one in in_gap if far(one.reading) == "ok"]
    went_dead = any(
        far(one.reading) == "fail" or fell_silent(one.reading) for one in in_gap[:_AT_FIRST]
    )
    if len(reached) > len(failing) and not went_dead:
        only = f"{NOT_DOWN}: only the way to the centre was lost"
        seen = f"domestic or world answered in {len(reached)} of {len(in_gap)} windows of the gap"
        return Cause("link", 0.9, (only, seen, *told)), True
    failing = failing or [one.reading for one in in_gap if fell_silent(one.reading)]
    if not failing:
        return Cause("link", 0.85, tuple(told)), False
    ((rung, _),) = Counter(map(lowest, failing)).most_common(1)
    if rung is not UNSET:
        told.append(RUNG_TEXTS.get(rung, f"{rung} failing"))
    edges = dict.fromkeys(text for one in failing for text in silences(one))
    ended = [text for text in edges if not text.endswith("to now")]
    silent = shortened(ended or list(edges)[-1:])
    return Cause("link", 0.95, (*told, *silent)), rung in _INSIDE


def _in_gap(one: Told, facts: Facts) -> bool:
    """Whether most of a window lies in the gap."""
    middle_at = one.taken_at - one.reading.window_s / 2
    return facts.opened_at < middle_at < (facts.resolved_at or middle_at + 1)


def _new_boot(facts: Facts, first: Told) -> Cause:
    """Rule 3."""
    assert facts.before is not None
    began_at = first.taken_at - first.reading.uptime_s
    if began_at < facts.before.taken_at:
        return Cause(evidence=("new boot, but it began before the outage",))
    gone_s = began_at - facts.opened_at
    told = [f"new boot, begun {max(0.0, gone_s):.0f} s after the last sign of life"]
    confidence = 0.85
    was, now = _host(facts.before.reading), _host(first.reading)
    if now.last_shutdown_clean is True:
        confidence = 0.5
        told.append("but the agent had ended in order: somebody shut it down, or a battery did")
    elif now.last_shutdown_clean is False:
        confidence = 0.9
        told.append("the agent had not ended in order")
    if was.undervoltage is True or was.undervoltage_seen is True:
        confidence = max(confidence, 0.9)
        told.append("undervoltage before")
    if was.storage_read_only is True or _rose(was.storage_errors, now.storage_errors):
        confidence = min(confidence, 0.6)
        told.append("the device's disk had failed: it may have ended by itself")
    return Cause("power", confidence, tuple(told))


def _host(reading: Reading) -> Host:
    return Host() if reading.host is UNSET else reading.host


def _rose(was: object, now: object) -> bool:
    return isinstance(was, int) and isinstance(now, int) and now > was


def _broken(facts: Facts, old: list[Told], kept: int) -> Cause:
    """Rule 4."""
    assert facts.before is not None
    before, back = facts.before.reading, old[kept]
    last = old[kept - 1].reading if kept else before
    lost_s = back.reading.uptime_s - last.uptime_s - back.reading.window_s
    told = [f"same boot, but {lost_s:.0f} s were not measured"]
    was, now = _host(before).agent_restarts, _host(back.reading).agent_restarts
    if _rose(was, now):
        told.append("the agent was started anew")
    elif isinstance(was, int) and was == now:
        told.append("the agent was not started anew: it hung, or was held")
    if back.stream != facts.before.stream:
        told.append("the agent began a new stream")
    if len(told) > 1:
        return Cause("agent", 0.9, tuple(told))
    if counts_starts(back.reading) or all_through(facts.answered_s, facts.unanswered_s):
        return Cause("agent", 0.8, tuple(told))
    return Cause("link", 0.6, (*told, STARTS_UNTOLD))
