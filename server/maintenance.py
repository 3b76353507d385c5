"""Announced work: whom it concerns, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from server.dates import period
from server.model import Maintenance, Scope, Site

SCOPES: tuple[Scope, ...] = ("site", "contract", "district", "isp")
LONGEST_S = 31 * 86_400.0
"""Longer is taken for a slip of the pen: it would keep a site silent unnoticed."""


class MaintenanceError(Exception):
    """A maintenance that cannot be meant; the text says what to write."""


def concerns(one: Maintenance, site: Site) -> bool:
    """Whether the work is on this site, as the registry has it at the time."""
    value: object = site.id if one.scope == "site" else getattr(site, one.scope)
    return value == one.name


def end(one: Maintenance) -> float:
    """When it ends: as announced, or when it was cancelled before that."""
    return one.to_at if one.cancelled_at is None else min(one.to_at, one.cancelled_at)


def standing(those: Iterable[Maintenance], site: Site, at: float) -> Maintenance | None:
    """The work that goes on at a site at `at`."""
    return next(
        (one for one in those if one.from_at <= at < end(one) and concerns(one, site)), None
    )


def within(
    those: Iterable[Maintenance], site: Site, from_at: float, to_at: float
) -> Iterator[tuple[float, float, Maintenance]]:
    """The parts of a period in which there was work at a site; they may overlap."""
    for one in those:
        begin, until = max(from_at, one.from_at), min(to_at, end(one))
        if begin < until and concerns(one, site):
            yield begin, until, one


def check(one: Maintenance) -> None:
    """Refuse what cannot be meant.

    Raises:
        MaintenanceError: it ends before it begins, or lasts too long.
    """
    if one.to_at <= one.from_at:
        raise MaintenanceError("--to: is not after --from")
    if one.to_at - one.from_at > LONGEST_S:
        days = (one.to_at - one.from_at) / 86_400
        raise MaintenanceError(
            f"--to: is {days:.0f} days after --from; give at most 31, and add what comes after"
        )


def cancelled(one: Maintenance, now: float, zone: str) -> Maintenance:
    """It, cancelled now.

    Raises:
        MaintenanceError: it is cancelled already, or over.
    """
    if one.cancelled_at is not None:
        raise MaintenanceError(f"{one.id} is already cancelled")
    if one.to_at <= now:
        lasted = period(one.from_at, one.to_at, zone)
        raise MaintenanceError(f"{one.id} is over: it was {lasted}")
    return Maintenance(
        *(one.id, one.scope, one.name, one.from_at, one.to_at, one.note),
        cancelled_at=now,
        added_at=one.added_at,
    )
