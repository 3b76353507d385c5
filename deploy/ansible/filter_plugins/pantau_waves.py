"""In which order the sites get another release."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any


def pantau_waves(sites: list[list[str]], percent: float, first: str = "") -> list[list[str]]:
    """The waves: one site, then some of every district, then district by district.

    Args:
        sites: pairs of site and district, in any order.
        percent: how many of all sites the second wave takes, at least one.
        first: the site that goes first; empty or none of them: the first by district and name.
    """
    by_district: dict[str, list[str]] = {}
    for site, district in sorted(sites, key=lambda pair: (pair[1], pair[0])):
        by_district.setdefault(district, []).append(site)
    in_turn = [site for site in chain(*zip_longest(*by_district.values())) if site is not None]
    if first in in_turn:
        in_turn.remove(first)
        in_turn.insert(0, first)
    few = math.ceil(len(in_turn) * percent / 100)
    early = in_turn[: 1 + few]
    rest = [[site for site in some if site not in early] for some in by_district.values()]
    return [wave for wave in (early[:1], early[1:], *rest) if wave]


class FilterModule:
    """For Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"pantau_waves": pantau_waves}
