"""What is in force at each site at one moment: its rules, and announced work. Pure.

Made anew whenever the registry, contracts, rules or announced work change, and at each
moment at which one of their dates comes; so a look-up costs no thought.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from server import maintenance, terms
from server.model import Contract, Maintenance, Rules, Site
from server.rules import RuleBook


class InForce:
    """What judges sites from `at` until something changes.

    Args:
        book: the rules.
        contracts: all terms of each contract, whose floors count.
        maintenances: all announced work.
        at: the moment.
    """

    def __init__(
        self,
        book: RuleBook,
        contracts: Mapping[str, Iterable[Contract]],
        maintenances: Iterable[Maintenance],
        at: float,
    ) -> None:
        self._book = book
        self._at = at
        self._terms = {name: terms.in_force(those, at) for name, those in contracts.items()}
        self._work = [one for one in maintenances if one.from_at <= at < maintenance.end(one)]
        self._known: dict[tuple[str, str, str, str], Rules] = {}

    def rules(self, site: Site) -> Rules:
        """The rules that judge a site."""
        own = site.id if ("site", site.id) in self._book.tables else ""
        key = (site.isp, site.district, site.contract, own)
        found = self._known.get(key)
        if found is None:  # most sites share theirs
            found = self._book.rules_for(site, self._terms.get(site.contract))
            self._known[key] = found
        return found

    def work(self, site: Site) -> Maintenance | None:
        """The announced work that goes on at a site; the one that ends last, of several."""
        return max(
            (one for one in self._work if maintenance.concerns(one, site)),
            key=maintenance.end,
            default=None,
        )


def of_default(default: Rules) -> InForce:
    """The same rules everywhere, and no work."""
    return InForce(RuleBook(default), {}, (), 0.0)
