"""Why a site was away: told from what it was before and after. Pure.

Power:  a new kernel boot that began inside the gap.
Link:   the same boot, and the agent went on measuring: its readings stand on
        one unbroken grid of windows across the gap.
Agent:  the same boot, but the grid is broken: the agent itself was not running.
Unknown otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET

from agent.wire import Reading
from server.model import Cause

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
    before: LastSeen, after: Reading, stream: str, sent_uptime_s: float, gap_s: float
) -> Cause:
    """The cause of a gap, from the first reading after it.

    Args:
        before: the newest reading before the gap.
        after: the first live reading after it.
        stream: the stream of `after`.
        sent_uptime_s: uptime of the device when it sent `after`.
        gap_s: from the last sign of life to the receipt of `after`.
    """
    if after.boot != before.boot:
        return _after_new_boot(sent_uptime_s, gap_s)
    same = f"same boot: uptime went on from {before.uptime_s:.0f} s to {after.uptime_s:.0f} s"
    if stream != before.stream:
        return Cause("agent", 0.6, (same, "the agent began a new stream"))
    if after.window_s != before.window_s:
        return Cause("link", 0.6, (same, "the window changed meanwhile"))
    grid_s = (after.seq - before.seq) * before.window_s
    ran_s = after.uptime_s - before.uptime_s
    tolerance_s = _GRID_TOLERANCE_S + _GRID_TOLERANCE_RATIO * before.window_s
    if abs(ran_s - grid_s) > tolerance_s:
        count = after.seq - before.seq
        measured = f"but {count} x {before.window_s:g} s measured in these {ran_s:.0f} s"
        return Cause("agent", 0.8, (same, measured))
    kept = f"the agent measured on through the gap (seq {before.seq} to {after.seq})"
    silences = _silences(after)
    return Cause("link", 0.95 if silences else 0.85, (same, kept, *silences))


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


def _silences(reading: Reading) -> tuple[str, ...]:
    if reading.dead is UNSET:
        return ()
    return tuple(
        f"{edge.rung} silent from {edge.start} to {edge.end or 'now'}" for edge in reading.dead
    )
