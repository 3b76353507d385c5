"""What the windows of a gap show of it: silences inside them, and echoes that are lacking. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from agent.wire import ECHO_RUNGS, EchoRung, Reading, Rung

RUNG_TEXTS = {
    "carrier": "carrier lost: the cable or the port at the site",
    "gateway": "the gateway at the site did not answer",
    "isp": "the gateway at the site answered, the ISP's first hop did not",
    "domestic": "the ISP's first hop answered, nothing beyond it",
    "world": "domestic targets answered, the world did not",
}
_FAR: tuple[EchoRung, ...] = ("domestic", "world")
HUNG_LEAST_S = 15.0
_SPREAD_RATIO = 0.25
"""Windows differ by so much in their echoes, whose times are random."""


def far(reading: Reading) -> str | None:
    """Whether domestic or world answered in the window; None where neither was asked."""
    asked = {reading.ladder.domestic, reading.ladder.world}
    return "ok" if "ok" in asked else "fail" if "fail" in asked else None


def fell_silent(reading: Reading) -> bool:
    """Whether both domestic and world, as far as they are asked, were silent for a part of it."""
    silent = set() if reading.dead is UNSET else {edge.rung for edge in reading.dead}
    asked = {rung for rung in _FAR if getattr(reading.ladder, rung) is not UNSET}
    return bool(asked) and asked <= silent


def lowest(reading: Reading) -> Rung | UnsetType:
    """The lowest rung that failed in the window; where none did, the lowest that fell silent."""
    if reading.ladder.first_failure is not UNSET or reading.dead is UNSET:
        return reading.ladder.first_failure
    silent = {edge.rung for edge in reading.dead}
    return next((rung for rung in ECHO_RUNGS if rung in silent), UNSET)


def stood_still_s(windows: Sequence[Reading]) -> float:
    """How much of all windows but the first has no echoes, by what the agent else sends.

    A metered link has fewer of them on purpose, and says so.
    """
    if any(one.metered is not UNSET and one.metered.slowed for one in windows):
        return 0.0
    stood_s = 0.0
    most = max(map(_echoes_a_second, windows))
    for one in windows[1:]:
        if most:
            stood_s += one.window_s * max(0.0, 1 - _echoes_a_second(one) / most - _SPREAD_RATIO)
    return stood_s


def _echoes_a_second(reading: Reading) -> float:
    """To the rung that got most."""
    if reading.ping is UNSET:
        return 0.0
    rungs = (getattr(reading.ping, rung) for rung in ECHO_RUNGS)
    sent = [one.sent for one in rungs if one is not UNSET and one.sent is not UNSET]
    return max(sent, default=0) / reading.window_s
