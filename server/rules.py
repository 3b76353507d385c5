"""Rules by site, contract, district and ISP: TOML to what is in force where. Pure.

Each table overrides some keys of ``[health]``. The most specific wins: the default,
the floors of the contract, [isp.X], [district.X], [contract.X], [site.X].
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from server.model import Contract, Rules, Site

SCOPES = ("isp", "district", "contract", "site")
"""What a table may be for, the least specific first."""
KEYS = {one.name: int if one.type == "int" else float for one in fields(Rules)}
PAIRS = (
    ("loss_clear_ratio", "loss_raise_ratio"),
    ("rtt_clear_ms", "rtt_raise_ms"),
    ("temperature_clear_c", "temperature_raise_c"),
    ("flap_stop_ratio", "flap_start_ratio"),
)
"""Keys of which the first must not be above the second."""

Number = int | float


class RulesError(Exception):
    """Rules that cannot be meant; the text names table and key."""


class Value(NamedTuple):
    """What is in force for one key, and what says so."""

    value: Number
    source: str  # such as "[isp.telkom]", "contract telkom-2024" or "default"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All rules: the default, and the tables that override it."""

    default: Rules = field(default_factory=Rules)
    tables: Mapping[tuple[str, str], Mapping[str, Number]] = field(default_factory=dict)
    """Keys by scope and name, such as ``("isp", "telkom")``."""

    def rules_for(self, site: Site, contract: Contract | None = None) -> Rules:
        """The rules that judge a site.

        Args:
            contract: the terms that are in force for it, whose floors count.
        """
        values = {key: one.value for key, one in self.sources(site, contract).items()}
        return replace(self.default, **values)  # type: ignore[arg-type]  # keys of Rules alone

    def sources(self, site: Site, contract: Contract | None = None) -> dict[str, Value]:
        """The same, key by key, each with where it comes from."""
        found = self._merged(site, contract)
        for clears, raises in PAIRS:  # a later contract may cross what was checked at the import
            if found[clears].value > found[raises].value:
                found[clears] = Value(found[raises].value, f"{raises} of {found[raises].source}")
        return found

    def crossed(self, site: Site, contract: Contract | None = None) -> str | None:
        """Which two values contradict each other for a site, if any do."""
        found = self._merged(site, contract)
        for clears, raises in PAIRS:
            low, high = found[clears], found[raises]
            if low.value > high.value:
                return (
                    f"{clears} {low.value:g} of {low.source} is above"
                    f" {raises} {high.value:g} of {high.source}"
                )
        return None

    def _merged(self, site: Site, contract: Contract | None) -> dict[str, Value]:
        found = {key: Value(getattr(self.default, key), "default") for key in KEYS}
        if contract is not None:
            for key, value in _floors(contract, self.default):
                found[key] = Value(value, f"contract {contract.id}")
        names = (site.isp, site.district, site.contract, site.id)
        for scope, name in zip(SCOPES, names, strict=True):
            for key, value in self.tables.get((scope, name), {}).items():
                found[key] = Value(value, title(scope, name))
        return found


def title(scope: str, name: str) -> str:
    """A table as it is written in TOML."""
    bare = name and all(char.isascii() and (char.isalnum() or char in "-_") for char in name)
    return f"[{scope}.{name}]" if bare else f'[{scope}."{name}"]'


def _floors(contract: Contract, default: Rules) -> Iterator[tuple[str, Number]]:
    """What a contract promises is where its sites begin to be degraded.

    They are clear again as far from it as by default.
    """
    if contract.floor_down_mbps is not None:
        yield "floor_down_mbps", contract.floor_down_mbps
    if contract.floor_rtt_ms is not None:
        yield "rtt_raise_ms", contract.floor_rtt_ms
        yield "rtt_clear_ms", contract.floor_rtt_ms * default.rtt_clear_ms / default.rtt_raise_ms
    if contract.floor_loss_ratio is not None:
        clear = default.loss_clear_ratio / default.loss_raise_ratio
        yield "loss_raise_ratio", contract.floor_loss_ratio
        yield "loss_clear_ratio", contract.floor_loss_ratio * clear


def parse(text: str, default: Rules | None = None) -> RuleBook:
    """The rules that a TOML file writes, over `default`.

    Raises:
        RulesError: it is no TOML, or a table, key or value cannot be meant.
    """
    try:
        written = tomllib.loads(text)
    except (ValueError, RecursionError) as err:
        raise RulesError(f"not TOML: {err}") from None
    default = default or Rules()
    tables: dict[tuple[str, str], dict[str, Number]] = {}
    for scope, named in written.items():
        if scope not in SCOPES:
            known = ", ".join(f"[{one}.NAME]" for one in SCOPES)
            raise RulesError(f"{scope}: unknown table; there are {known}")
        if not isinstance(named, dict):
            raise RulesError(f"{scope}: must be tables, written [{scope}.NAME]")
        for name, table in named.items():
            tables[scope, name] = _table(scope, name, table, default)
    return RuleBook(default, tables)


def _table(scope: str, name: str, table: object, default: Rules) -> dict[str, Number]:
    where = title(scope, name)
    if not isinstance(table, dict):
        raise RulesError(f"{scope}.{name}: stands outside a table; write it under [{scope}.NAME]")
    for key, value in table.items():
        if key not in KEYS:
            raise RulesError(f"{where} {key}: unknown key; there are {', '.join(KEYS)}")
        kinds = (int,) if KEYS[key] is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            kind = "a whole number" if KEYS[key] is int else "a number"
            raise RulesError(f"{where} {key}: {value!r} is not {kind}")
        mend = impossible(key, value)
        if mend:
            raise RulesError(f"{where} {key}: {value} is not possible; {mend}")
    found = {key: KEYS[key](value) for key, value in table.items()}
    crossing = crossed(replace(default, **found))  # type: ignore[arg-type]  # keys of Rules alone
    if crossing and set(crossing) & found.keys():
        clears, raises = crossing
        limit = found.get(raises, getattr(default, raises))
        raise RulesError(f"{where} {clears}: is above {raises}; give at most {limit:g}")
    return found


def impossible(key: str, value: Number) -> str | None:
    """Why a value of a key cannot be meant, as what to give instead; None where it can."""
    least = 0 if "_clear_" in key or key.startswith("floor_") else math.ulp(0)
    if not least <= value < 1e15:
        return "give a number above 0"
    if key.endswith("_ratio") and value > 1:
        return "a ratio is at most 1"
    if key == "silence_windows" and value < 1:
        return "give 1 or more: readings come once a window"
    return None


def crossed(rules: Rules) -> tuple[str, str] | None:
    """The first pair of keys of which the lower is above the higher."""
    for clears, raises in PAIRS:
        if getattr(rules, clears) > getattr(rules, raises):
            return clears, raises
    return None


def check(book: RuleBook, sites: Iterable[Site], contracts: Mapping[str, Contract]) -> None:
    """Refuse rules for what the registry does not know, and those that contradict each other.

    Args:
        sites: every site that is in service.
        contracts: the terms that are in force, by the contract's name.

    Raises:
        RulesError: with the table at fault.
    """
    those = list(sites)
    known = {
        "isp": {site.isp for site in those},
        "district": {site.district for site in those},
        "contract": ({site.contract for site in those} | contracts.keys()) - {""},
        "site": {site.id for site in those},
    }
    for scope, name in book.tables:
        if name not in known[scope]:
            told = ", ".join(sorted(known[scope])[:8]) if scope != "site" else ""
            mend = f"there are {told}" if told else "see 'pantau sites list'"
            raise RulesError(f"{title(scope, name)}: no {scope} {name!r} in the registry; {mend}")
    for site in those:
        fault = book.crossed(site, contracts.get(site.contract))
        if fault:
            raise RulesError(f"at site {site.id} {fault}")


def differences(before: RuleBook, after: RuleBook) -> list[str]:
    """What differs between the tables of two rule books, a line for each key."""
    old, new = (
        {
            (where, key): value
            for where, table in book.tables.items()
            for key, value in table.items()
        }
        for book in (before, after)
    )
    lines = []
    for (scope, name), key in sorted(old | new):
        was, value = old.get(((scope, name), key)), new.get(((scope, name), key))
        where = f"{title(scope, name)} {key}"
        if was is None:
            lines.append(f"+ {where} {value:g}")
        elif value is None:
            lines.append(f"- {where} {was:g}")
        elif was != value:
            lines.append(f"~ {where} {was:g} -> {value:g}")
    return lines
