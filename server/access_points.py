"""How each access point of a site stands. Pure.

A site has as many states below it as it has access points. They follow the same
readings and the same hysteresis as its verdict: an access point is offline once its
trouble is confirmed (see `server.troubles`), and online again when that has ended.
What the site's silence hides is unknown, never offline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from msgspec import UNSET, Struct
from msgspec.structs import astuple, replace

from agent.wire import Reading
from server import untried


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
    untried: int = 0  # windows in a row that did not even try to reach it


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
        reading: the newest; one that measured no access points changes nothing, but so many
            in a row that were not to do so.
        confirmed: the names whose trouble stands.
        now: the server's time.
    """
    told = reading.access_points
    known = {one.name: one for one in points}
    after: list[Point] = []
    for name in sorted(known if told is UNSET else told):
        before, reachable = known.get(name), UNSET if told is UNSET else told[name].reachable
        if reachable is UNSET:  # clients alone tell nothing of it
            after += [] if before is None else _unmeasured(before, reading)
            continue
        status = _next(before, name in confirmed, reachable=reachable)
        if before is None or before.status is not status:
            after.append(Point(name, now, status))
        else:
            after.append(replace(before, untried=0) if before.untried else before)
    found = tuple(after)
    return points if found == points else found


def _unmeasured(one: Point, reading: Reading) -> Iterator[Point]:
    """After a window that found nothing of it; none once the agent asks it no more."""
    windows = untried.count(one.untried, "access_points", reading)
    if windows is not None:
        yield replace(one, untried=windows)


def differ(before: Iterable[Point], after: Iterable[Point]) -> bool:
    """Whether what is shown of them differs."""
    return [one[:3] for one in map(astuple, before)] != [one[:3] for one in map(astuple, after)]


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
