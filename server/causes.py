"""Why a site was away: told from what it was before and after. Pure.

Power:  a new kernel boot that began inside the gap.
Link:   the same boot, and the agent went on measuring: its readings stand on
        one unbroken grid of windows across the gap.
Agent:  the same boot, but most of the time between was not measured, and the agent
        counts its starts or began a new stream: it was not running. Where readings
        do not tell, the same boot is the link, less sure.
Unknown otherwise.

This is the first guess, made from the one reading that ends an outage; `server.review`
judges again when the backlog has come. Here are also the causes of groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from msgspec import UNSET

from agent.wire import Reading
from server.model import Cause

NOT_DOWN = "not down"
"""How the evidence begins where an agent measured a working site all through."""
STARTS_UNTOLD = "its readings do not tell whether the agent was started anew"
_LINES = 4
_GRID_TOLERANCE_S = 1.5
_GRID_TOLERANCE_RATIO = 0.02


class LastSeen(NamedTuple):
    """The newest reading of a site before the gap."""

    boot: str
    stream: str
    seq: int
    uptime_s: float
    window_s: float


def explain(
    before: LastSeen | None, after: Reading, stream: str, sent_uptime_s: float, gap_s: float
) -> Cause:
    """The cause of a gap, from the first reading after it.

    Args:
        before: the newest reading before the gap; None: there is none.
        after: the first live reading after it.
        stream: the stream of `after`.
        sent_uptime_s: uptime of the device when it sent `after`.
        gap_s: from the last sign of life to the receipt of `after`.
    """
    if before is None:
        return Cause(evidence=("no reading before the outage",))
    if after.boot != before.boot:
        return _after_new_boot(sent_uptime_s, gap_s)
    same = f"same boot: uptime went on from {before.uptime_s:.0f} s to {after.uptime_s:.0f} s"
    if stream != before.stream:
        return Cause("agent", 0.6, (same, "the agent began a new stream"))
    if after.window_s != before.window_s:
        return Cause("link", 0.6, (same, "the window changed meanwhile"))
    grid_s = (after.seq - before.seq) * before.window_s
    ran_s = after.uptime_s - before.uptime_s
    if abs(ran_s - grid_s) > grid_tolerance_s(before.window_s):
        count = after.seq - before.seq
        measured = f"but {count} x {before.window_s:g} s measured in these {ran_s:.0f} s"
        away_s = ran_s - before.window_s  # the last window may be measured after the return
        if away_s / 2 <= grid_s - before.window_s < away_s:  # a busy device loses a few, too
            return Cause("link", 0.7, (same, measured))
        if counts_starts(after):
            return Cause("agent", 0.8, (same, measured))
        return Cause("link", 0.6, (same, measured, STARTS_UNTOLD))
    kept = f"the agent measured on through the gap (seq {before.seq} to {after.seq})"
    silent = shortened(silences(after))
    return Cause("link", 0.95 if silent else 0.85, (same, kept, *silent))


def ended_in_order(reason: str) -> Cause:
    """Of a site whose agent said that it ends, and did not come back."""
    return Cause("agent", 0.95, (f"the agent had ended in order: {reason}",))


def counts_starts(reading: Reading) -> bool:
    """Whether an agent tells how often it was started, so that one that stood still shows."""
    return reading.host is not UNSET and reading.host.agent_restarts is not UNSET


def grid_tolerance_s(window_s: float) -> float:
    """How far a window's end may be off the grid of windows."""
    return _GRID_TOLERANCE_S + _GRID_TOLERANCE_RATIO * window_s


def _after_new_boot(sent_uptime_s: float, gap_s: float) -> Cause:
    if sent_uptime_s < gap_s:
        return Cause(
            "power",
            0.85,
            (f"new boot, uptime {sent_uptime_s:.0f} s is below the gap of {gap_s:.0f} s",),
        )
    return Cause(
        "unknown",
        0.0,
        (f"new boot, but uptime {sent_uptime_s:.0f} s exceeds the gap of {gap_s:.0f} s",),
    )


def silences(reading: Reading) -> tuple[str, ...]:
    """The silences of a reading, one line each."""
    if reading.dead is UNSET:
        return ()
    return tuple(
        f"{edge.rung} silent from {edge.start} to {edge.end or 'now'}" for edge in reading.dead
    )


def shortened(lines: Sequence[str]) -> tuple[str, ...]:
    """The first and the last of many lines of evidence: an alert is read, and has a size."""
    left_out = len(lines) - 2 * _LINES
    if left_out <= 1:
        return tuple(lines)
    return (*lines[:_LINES], f"and {left_out} more silences", *lines[-_LINES:])


def of_site_taken_out(known: Cause) -> Cause:
    """Of an outage whose site leaves service before it is back: what was a guess stays one."""
    if known.verdict == "agent":
        return known
    return Cause(evidence=(*known.evidence, "taken out of service before it was back"))


_SHARED = {"isp": "isp", "backhaul": "isp", "power_area": "power"}
"""What a group's dimension alone lets guess."""


def of_group(dimension: str, members: int, returned: Collection[Cause]) -> Cause:
    """Why many sites went together.

    Args:
        dimension: what they share, such as ``isp telkom``; or ``everything``.
        members: how many they are.
        returned: the causes of those that are back.
    """
    name = dimension.partition(" ")[0]
    went = f"{members} sites of {dimension} went together"
    if dimension == "everything":
        went = f"{members} sites, nearly all there are, went together: we may have been blind"
    verdicts = Counter(one.verdict for one in returned if one.verdict != "unknown")
    for verdict, count in verdicts.most_common(1):
        if 2 * count <= len(returned):
            break
        cut = verdict in ("link", "isp")
        if cut and 2 * sum(map(_not_down, returned)) > len(returned):
            return _path_alone(went, returned)
        found = "isp" if cut and name in ("isp", "backhaul") else "link" if cut else verdict
        shown = f"{count} of {len(returned)} that are back show {'link' if cut else verdict}"
        confidence = 0.95 if found == _SHARED.get(name) else 0.8
        return Cause(found, confidence, (went, shown))
    guess = _SHARED.get(name)
    return Cause(guess, 0.6, (went,)) if guess and not verdicts else Cause(evidence=(went,))


def _not_down(cause: Cause) -> bool:
    return any(text.startswith(NOT_DOWN) for text in cause.evidence)


def _path_alone(went: str, returned: Collection[Cause]) -> Cause:
    count = sum(map(_not_down, returned))
    text = f"{NOT_DOWN} at {count} of {len(returned)}: only the way to the centre was lost"
    return Cause(evidence=(went, text))


def of_access_points(unreachable: int, known: int, *, gateway_ok: bool) -> Cause:
    """Why access points are away, from the reading that shows it.

    Args:
        unreachable: how many of the site's.
        known: how many it has.
        gateway_ok: whether the site's own gateway answered.
    """
    told = f"{unreachable} of {known} access points unreachable while the agent lives"
    if unreachable < known:
        return Cause("access_point", 0.9, (told,))
    if gateway_ok:
        return Cause("access_point", 0.7, (told, "all of them: their switch or its supply"))
    return Cause("access_point", 0.5, (told, "the site's gateway does not answer either"))


def of_points_in(reading: Reading) -> Cause | None:
    """The same of one reading; None when none of its access points is away."""
    points = () if reading.access_points is UNSET else reading.access_points.values()
    away = sum(point.reachable is False for point in points)
    gateway_ok = reading.ladder.gateway == "ok"
    return of_access_points(away, len(points), gateway_ok=gateway_ok) if away else None
