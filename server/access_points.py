"""How each access point of a site stands. Pure.

A site has as many states below it as it has access points. They follow the same
readings and the same hysteresis as its verdict: an access point is offline once its
trouble is confirmed (see `server.troubles`), and online again when that has ended.
What the site's silence hides is unknown, never offline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import NamedTuple

from msgspec import UNSET, Struct

from agent.wire import Reading


class PointStatus(StrEnum):
    """The verdict on an access point."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"  # its site is away, or it was never seen to answer
    MISSING = "missing"  # the registry lists it, and no reading names it


class Point(Struct, frozen=True, omit_defaults=True):
    """What is remembered of one that readings name."""

    name: str
    since: float  # the server's time at which this status began
    status: PointStatus = PointStatus.ONLINE


class Standing(NamedTuple):
    """How one stands, as it is told."""

    name: str
    status: PointStatus
    since: float | None
    expected: bool  # the registry lists it


def follow(
    points: tuple[Point, ...], reading: Reading, confirmed: Collection[str], now: float
) -> tuple[Point, ...]:
    """The points after one more live reading; the same object when nothing changed.

    Args:
        points: as they were.
        reading: the newest; one that measured no access points changes nothing.
        confirmed: the names whose trouble stands.
        now: the server's time.
    """
    told = reading.access_points
    if told is UNSET:
        return points
    known = {one.name: one for one in points}
    after = []
    for name in sorted(told):
        before, reachable = known.get(name), told[name].reachable
        if reachable is UNSET:  # clients alone tell nothing of it
            after += [] if before is None else [before]
            continue
        status = _next(before, name in confirmed, reachable=reachable)
        same = before is not None and before.status is status
        after.append(before if before is not None and same else Point(name, now, status))
    found = tuple(after)
    return points if found == points else found


def _next(before: Point | None, confirmed: bool, *, reachable: bool) -> PointStatus:
    """One that was offline before its site went stays so until it answers."""
    if confirmed:
        return PointStatus.OFFLINE
    if reachable:
        return PointStatus.ONLINE
    return PointStatus.UNKNOWN if before is None else before.status


def standing(
    points: Iterable[Point], expected: Collection[str], *, hidden: bool, since: float
) -> list[Standing]:
    """All that are known or expected, by name.

    Args:
        points: what is remembered of them.
        expected: the names that the registry lists; none listed: none is missing.
        hidden: the site is away, so that nothing is known of them.
        since: from when it is.
    """
    found = {
        one.name: Standing(
            one.name,
            PointStatus.UNKNOWN if hidden else one.status,
            since if hidden else one.since,
            one.name in expected,
        )
        for one in points
    }
    for name in expected:
        lost = PointStatus.UNKNOWN if hidden else PointStatus.MISSING
        found.setdefault(name, Standing(name, lost, since if hidden else None, expected=True))
    return [found[name] for name in sorted(found)]
