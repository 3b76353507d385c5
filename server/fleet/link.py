"""A site's line as a model: what it does to echoes, and when bytes of TCP pass it. Pure.

Several events may lie on one line at once, so each is named. Times are CLOCK_MONOTONIC in
seconds; chance comes from the caller's source.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Literal

from agent import wire

What = Literal["cut", "lossy", "slow"]
RTO_S = 0.2
"""TCP's shortest retransmission time-out on Linux; it doubles with each try (RFC 6298)."""
RTO_MAX_S = 120.0
_BASE_MS: dict[wire.EchoRung, tuple[float, float]] = {
    "gateway": (0.5, 1.8),
    "isp": (4.0, 11.0),
    "domestic": (30.0, 58.0),
    "world": (64.0, 98.0),
}
"""Round trips of a city hotspot in eastern Indonesia, the gateway's first."""
_FAR: tuple[wire.EchoRung, ...] = ("domestic", "world")


@dataclass(frozen=True, slots=True)
class Spell:
    """What an event does to the line, and from when to when; `to_s` None while it lasts."""

    event: str
    what: What
    from_s: float
    to_s: float | None
    value: float = 0.0

    def covers(self, at_s: float) -> bool:
        """Whether it lasts at that time."""
        return self.from_s <= at_s and (self.to_s is None or at_s < self.to_s)


@dataclass
class Link:
    """One line.

    Args:
        seed: what its round trips derive from.
    """

    seed: str
    spells: list[Spell] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(f"line {self.seed}")  # noqa: S311  # plausible numbers, no secret
        self._base_ms = {rung: chance.uniform(*span) for rung, span in _BASE_MS.items()}

    def begin(self, event: str, what: What, now_s: float, value: float = 0.0) -> None:
        """An event strikes."""
        self.spells.append(Spell(event, what, now_s, None, value))

    def end(self, event: str, now_s: float) -> None:
        """An event is over."""
        self.spells = [
            replace(one, to_s=now_s) if one.event == event and one.to_s is None else one
            for one in self.spells
        ]

    def forget(self, before_s: float) -> None:
        """Drop what was over by then."""
        self.spells = [one for one in self.spells if one.to_s is None or one.to_s > before_s]

    def is_cut(self, at_s: float) -> bool:
        """Whether nothing passes beyond the gateway."""
        return any(one.what == "cut" and one.covers(at_s) for one in self.spells)

    def _value(self, what: What, at_s: float) -> float:
        return max((s.value for s in self.spells if s.what == what and s.covers(at_s)), default=0.0)

    def rtt_ms(self, rung: wire.EchoRung, sent_s: float, chance: random.Random) -> float | None:
        """The round trip of an echo sent then; None when it is lost."""
        base_ms = self._base_ms[rung]
        if not self.spells:
            return base_ms * (1 + chance.expovariate(20))
        rtt_ms = base_ms * (1 + chance.expovariate(20))
        if rung in _FAR:
            rtt_ms += self._value("slow", sent_s)
        if rung != "gateway" and (self.is_cut(sent_s) or self.is_cut(sent_s + rtt_ms / 1000)):
            return None
        if rung in _FAR and chance.random() < self._value("lossy", sent_s):
            return None
        return rtt_ms

    def delay_s(self, now_s: float, chance: random.Random) -> float:
        """How long bytes take one way, with what loss costs TCP; the line is not cut."""
        if not self.spells:
            return 0.0
        delay_s = self._value("slow", now_s) / 2000
        loss_ratio, tries = self._value("lossy", now_s), 0
        while tries < 6 and chance.random() < loss_ratio:
            delay_s += RTO_S * 2.0**tries
            tries += 1
        return delay_s


def sent_again_s(first_s: float, mended_s: float) -> float:
    """When TCP tries again what it sent at `first_s` in vain, first after `mended_s`.

    >>> sent_again_s(10.0, 10.1), sent_again_s(10.0, 16.0)
    (10.2, 16.2)
    """
    at_s, wait_s = first_s, RTO_S
    while at_s < mended_s:
        at_s += wait_s
        wait_s = min(RTO_MAX_S, 2 * wait_s)
    return round(at_s, 6)
