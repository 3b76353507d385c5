"""What was valid when: dated terms of a site or a contract, without overlap. Pure.

A term is valid from `valid_from` on, and no longer at `valid_to`. The terms of one
site stand in order; where none is valid, the registry did not know the site.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

from server.model import Site, SiteTerm


class Dated(Protocol):
    """A `SiteTerm` or a `Contract`."""

    @property
    def valid_from(self) -> float: ...
    @property
    def valid_to(self) -> float | None: ...


T = TypeVar("T", bound=Dated)


def in_force(terms: Iterable[T], at: float) -> T | None:
    """The term that is valid at `at`."""
    for term in terms:
        if term.valid_from <= at and (term.valid_to is None or at < term.valid_to):
            return term
    return None


def within(terms: Iterable[T], from_at: float, to_at: float) -> Iterator[tuple[float, float, T]]:
    """The parts of a period and the term that is valid in each; where none is, no part."""
    for term in terms:
        begin = max(from_at, term.valid_from)
        end = to_at if term.valid_to is None else min(to_at, term.valid_to)
        if begin < end:
            yield begin, end, term


def entered(
    terms: Iterable[SiteTerm], site: Site, valid_from: float, valid_to: float | None = None
) -> tuple[SiteTerm, ...]:
    """The terms once `site` is so from `valid_from` on.

    Args:
        valid_to: until then, whatever else stood there, and afterwards as before; None:
            until the next change that is already known, which may be that the site ends.
    """
    before = tuple(terms)
    end = valid_to
    if end is None:
        known = {at for one in before for at in (one.valid_from, one.valid_to) if at is not None}
        end = min((at for at in known if at > valid_from), default=None)
    kept = [part for one in before for part in _without(one, valid_from, end)]
    return _joined([*kept, SiteTerm(site, valid_from, end)])


def ended(terms: Iterable[SiteTerm], at: float) -> tuple[SiteTerm, ...]:
    """The terms once the site is out of service from `at` on; what was to come is dropped."""
    return tuple(part for one in terms for part in _without(one, at, None))


def _without(one: SiteTerm, from_at: float, to_at: float | None) -> Iterator[SiteTerm]:
    """What is left of a term without a period."""
    if one.valid_from < from_at:
        cut = one.valid_to is None or one.valid_to > from_at
        yield replace(one, valid_to=from_at) if cut else one
    if to_at is not None and (one.valid_to is None or one.valid_to > to_at):
        yield replace(one, valid_from=max(one.valid_from, to_at))


def _joined(terms: Iterable[SiteTerm]) -> tuple[SiteTerm, ...]:
    """In order; neighbours that say the same are one."""
    found: list[SiteTerm] = []
    for one in sorted(terms, key=lambda one: one.valid_from):
        if found and found[-1].valid_to == one.valid_from and found[-1].site == one.site:
            found[-1] = replace(found[-1], valid_to=one.valid_to)
        else:
            found.append(one)
    return tuple(found)
