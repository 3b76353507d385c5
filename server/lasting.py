"""When to ask neighbours and witness about an outage that still lasts. Pure but for its memory.

A site that is away cannot say why. What the others did in the same minutes, and whether
the centre's own echoes are answered, is known while it is away, and an operator wants it
then. An outage that a group or a flapping stands for is not asked about: that has a cause
of its own. Nor is one whose agent said why it ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from server.model import Cause, Incident, Kind

FIRST_S = 30.0
"""After the detection: until then the others may still be pending."""
_AGAIN_S = 120.0
_AT_ONCE = 4
"""Outages a step; a thousand at once must not hold up live readings."""
_SURE = 0.9
_WORTH_CONFIDENCE = 0.05


class Lasting:
    """Which outages were asked about, and when; a restart may forget it."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}

    def due(self, firing: Iterable[Incident], now: float) -> list[Incident]:
        """Those to ask about now, who waited longest first: ever more seldom as they last."""
        waiting = {one.id: one for one in firing if _can_be_asked(one)}
        self._asked = {name: at for name, at in self._asked.items() if name in waiting}
        due = sorted(
            (at, name) for name, one in waiting.items() if (at := self._next_at(one)) <= now
        )
        return [waiting[name] for _, name in due[:_AT_ONCE]]

    def asked(self, those: Iterable[Incident], now: float) -> None:
        """Remember that these were."""
        self._asked.update((one.id, now) for one in those)

    def _next_at(self, one: Incident) -> float:
        asked_at = self._asked.get(one.id)
        if asked_at is None:
            return one.detected_at + FIRST_S
        return asked_at + max(_AGAIN_S, asked_at - one.detected_at)


def _can_be_asked(one: Incident) -> bool:
    alone = one.kind is Kind.SITE_OFFLINE and one.group is None and not one.maintenance
    return alone and one.cause.confidence < _SURE


def says_more(known: Cause, found: Cause) -> bool:
    """Whether a cause is worth a revision of an outage that lasts; more of the same is not."""
    if found.verdict != known.verdict:
        return found.verdict != "unknown" or bool(found.evidence)
    surer = abs(found.confidence - known.confidence) >= _WORTH_CONFIDENCE
    return surer or bool(found.evidence) > bool(known.evidence)
