"""Putting right the time of readings whose device had no synchronised clock. Pure.

An *anchor* is the server's time at which a kernel boot stood at uptime 0. Each
message of a boot gives one (receipt minus ``sent_uptime_s``); delays can only
make it too late, so the earliest is the best. But a device's uptime drifts as well: one that
runs fast gives earlier anchors for ever, and they tell less of what was taken long ago.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from agent.wire import Envelope, GoodReading

Anchors = tuple[tuple[str, float], ...]

_KEPT_BOOTS = 4
_WORTH_S = 0.25  # an anchor that is better by less is not worth a write
_DRIFT_RATIO = 1e-4  # as much may a device's uptime run too fast; cheap crystals keep half of it
_FIRST_S, _LAST_S = -62_135_596_800.0, 253_402_300_799.0  # the years 1 to 9999


class When(NamedTuple):
    """When a reading was taken, and whether that was put right or stays uncertain."""

    taken_at: float
    corrected: bool
    uncertain: bool


def anchored(anchors: Anchors, envelope: Envelope, received_at: float) -> Anchors:
    """The anchors after one more message; the same object when it adds nothing."""
    epoch = received_at - envelope.sent_uptime_s
    for boot, known in anchors:
        if boot == envelope.sent_boot:
            if epoch >= known - _WORTH_S:
                return anchors
            break
    others = tuple(one for one in anchors if one[0] != envelope.sent_boot)
    return (*others[-(_KEPT_BOOTS - 1) :], (envelope.sent_boot, epoch))


def better(known: Anchors, anchors: Anchors) -> dict[str, float]:
    """The boots whose anchor is new or earlier: by how many seconds; infinite for a new boot."""
    before = dict(known)
    gains = {boot: before.get(boot, math.inf) - epoch for boot, epoch in anchors}
    return {boot: gain_s for boot, gain_s in gains.items() if gain_s > 0.0}


def reach(gains: Mapping[str, float], anchors: Anchors, now: float) -> float:
    """Since when there may be times that these boots' anchors tell better; infinite: never.

    What came before a boot began is not of that boot, and what is older than drift explains stays.
    """
    return min(
        (max(epoch, now - gains[boot] / _DRIFT_RATIO) for boot, epoch in anchors if boot in gains),
        default=math.inf,
    )


def tells_better(gain_s: float, age_s: float) -> bool:
    """Whether a time that is put right anew, and so is earlier by `gain_s`, is the better one.

    Args:
        gain_s: how much earlier.
        age_s: how long ago it was.
    """
    return gain_s > _DRIFT_RATIO * age_s


def when(good: GoodReading, anchors: Anchors) -> When:
    """When a reading was taken, by its own clock if that was synchronised."""
    if good.reading.clock.synced:
        return When(good.taken_at, corrected=False, uncertain=False)
    for boot, epoch in anchors:
        taken_at = epoch + good.reading.uptime_s
        if boot == good.reading.boot and _FIRST_S <= taken_at <= _LAST_S:
            return When(taken_at, corrected=True, uncertain=False)
    return When(good.taken_at, corrected=False, uncertain=True)
