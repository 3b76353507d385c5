"""What others saw of an outage: the site's neighbours, and the centre's own echoes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from server.model import Cause

_BESIDE = {"isp": "isp", "backhaul": "isp", "power_area": "power", "district": "power"}
"""What a dimension that sites share says of the cause."""
_WITNESS_LEAST_S = 20.0
_ALL_THROUGH_RATIO = 0.8


class Beside(NamedTuple):
    """What those did, in the same minutes, that share a value with the site, itself included."""

    dimension: str  # such as "isp telkom"
    gone: int
    lived: int  # before, those that went included


def with_neighbours(cause: Cause, beside: Sequence[Beside]) -> Cause:
    """Rule 6 of `server.review`."""
    went = [one for one in beside if one.gone >= 3 and 2 * one.gone >= one.lived]
    for one in sorted(went, key=lambda one: (one.gone - one.lived, -one.gone)):
        points_to = _BESIDE.get(one.dimension.partition(" ")[0])
        text = f"{one.gone} of {one.lived} sites of {one.dimension} went in the same minutes"
        if cause.verdict == "link" and points_to == "isp":
            return Cause("isp", max(cause.confidence, 0.9), (*cause.evidence, text))
        if cause.verdict == "power" and points_to == "power":
            return Cause("power", max(cause.confidence, 0.95), (*cause.evidence, text))
        if cause.verdict == "unknown" and points_to and not one.dimension.startswith("district"):
            return Cause(points_to, 0.6, (*cause.evidence, text))
    alone = [one for one in beside if one.gone == 1 < one.lived]
    if cause.verdict in ("link", "power") and alone and not went:
        names = ", ".join(one.dimension for one in alone)
        return Cause(cause.verdict, cause.confidence, (*cause.evidence, f"no other of {names}"))
    return cause


def with_witness(cause: Cause, answered_s: float, unanswered_s: float) -> Cause:
    """Rule 7 of `server.review`."""
    if all_through(answered_s, unanswered_s):
        text = f"the centre's echoes were answered for {answered_s:.0f} s of the gap"
        if cause.verdict == "agent":
            return Cause("agent", 0.95, (*cause.evidence, f"the line was up: {text}"))
        if cause.verdict == "unknown":
            told = f"the line was up, the agent or its device hung: {text}"
            return Cause("agent", 0.7, (*cause.evidence, told))
        confidence = min(cause.confidence, 0.6)
        return Cause(cause.verdict, confidence, (*cause.evidence, f"but {text}"))
    if all_through(unanswered_s, answered_s):
        text = f"the centre's echoes were not answered for {unanswered_s:.0f} s of the gap"
        if cause.verdict == "agent":
            return Cause("agent", min(cause.confidence, 0.6), (*cause.evidence, f"but {text}"))
        return Cause(cause.verdict, cause.confidence, (*cause.evidence, text))
    return cause


def all_through(this_s: float, other_s: float) -> bool:
    """Whether the centre's own echoes saw the one long enough, and the other hardly."""
    seen_s = this_s + other_s
    return seen_s >= _WITNESS_LEAST_S and this_s >= _ALL_THROUGH_RATIO * seen_s
