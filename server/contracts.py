"""Terms of contracts: TOML to dated terms, every fault named by its place. Pure.

A version of a contract holds all of its terms; they do not overlap. A change is
always a new version, so that what was reported by an older one stays explained.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import date
from itertools import pairwise
from typing import Any, NamedTuple

from agent.wire import slug
from server import dates
from server.model import Contract

DEFAULT_ZONE = "Asia/Makassar"
EXCLUDABLE = ("maintenance", "power")
KEYS = tuple(one.name for one in fields(Contract) if one.name != "version")
STEP_KEYS = ("below", "share")


class ContractError(Exception):
    """Terms that cannot be meant; the text names contract and key."""


class _Entry(NamedTuple):
    """One table of the file."""

    number: int
    contract: Contract


def parse(text: str) -> dict[str, tuple[Contract, ...]]:
    """The terms of each contract that a TOML file writes, oldest first.

    Terms without an end last until the next ones begin.

    Raises:
        ContractError: it is no TOML, or something in it cannot be meant.
    """
    try:
        written = tomllib.loads(text)
    except (ValueError, RecursionError) as err:
        raise ContractError(f"not TOML: {err}") from None
    for key in written:
        if key not in ("zone", "contract"):
            raise ContractError(f"{key}: unknown; write zone, and a [[contract]] for each term")
    zone, tables = written.get("zone", DEFAULT_ZONE), written.get("contract", [])
    try:
        zone = dates.zone(str(zone))
    except dates.DateError as err:
        raise ContractError(f"zone: {err}") from None
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ContractError("contract: write [[contract]] with two brackets, one for each term")
    found: dict[str, list[_Entry]] = {}
    for number, table in enumerate(tables, 1):
        entry = _Entry(number, _contract(number, table, zone))
        found.setdefault(entry.contract.id, []).append(entry)
    return {name: _in_order(entries, zone) for name, entries in found.items()}


def same(before: Iterable[Contract], after: Iterable[Contract]) -> bool:
    """Whether two versions say the same."""
    return [replace(one, version=0) for one in before] == [replace(one, version=0) for one in after]


def differences(
    before: Iterable[Contract], after: Iterable[Contract], zone: str = DEFAULT_ZONE
) -> list[str]:
    """What differs between two versions of a contract, a line for each term."""
    old = {one.valid_from: one for one in before}
    new = {one.valid_from: one for one in after}
    lines = []
    for begin in sorted(old | new):
        was, term = old.get(begin), new.get(begin)
        if term is None:
            lines.append(f"- {_named(old[begin], zone)}")
        elif was is None:
            lines.append(f"+ {_named(term, zone)}: {summary(term)}")
        elif not same([was], [term]):
            lines.append(f"~ {_named(term, zone)}: {_changed(was, term, zone)}")
    return lines


def summary(one: Contract) -> str:
    """Terms in a line."""
    told = [one.isp or "any ISP"]
    if one.floor_down_mbps is not None:
        told.append(f"{one.floor_down_mbps:g} Mbit/s")
    if one.floor_rtt_ms is not None:
        told.append(f"RTT {one.floor_rtt_ms:g} ms")
    if one.floor_loss_ratio is not None:
        told.append(f"loss {one.floor_loss_ratio:g}")
    if one.availability_ratio is not None:
        told.append(f"availability {one.availability_ratio:.4g}")
    if one.grace_s:
        told.append(f"grace {one.grace_s:g} s")
    told.append(f"excludes {' and '.join(one.excludes) or 'nothing'}")
    if one.price is not None:
        told.append(f"{one.price:.2f} {one.currency} a site and month")
    told += [f"{share:.4g} of it below {ratio:.4g}" for ratio, share in one.restitution]
    return ", ".join(told)


def _named(one: Contract, zone: str) -> str:
    return f"{one.id} {dates.period(one.valid_from, one.valid_to, zone)}"


def _changed(was: Contract, term: Contract, zone: str) -> str:
    def value(of: Contract, key: str) -> str:
        found = getattr(of, key)
        if key == "valid_to":
            return "open" if found is None else dates.told(found, zone)
        return repr(list(found) if isinstance(found, tuple) else found)

    return ", ".join(
        f"{key} {value(was, key)} -> {value(term, key)}"
        for key in KEYS
        if getattr(was, key) != getattr(term, key)
    )


def _in_order(entries: list[_Entry], zone: str) -> tuple[Contract, ...]:
    entries = sorted(entries, key=lambda one: one.contract.valid_from)
    found = []
    for entry, after in zip(entries, [*entries[1:], None], strict=True):
        one = entry.contract
        if after is not None:
            begins = after.contract.valid_from
            ends = begins if one.valid_to is None else one.valid_to
            if ends > begins or begins == one.valid_from:
                later = max(entry, after)
                other = min(entry, after)
                raise ContractError(
                    f"contract {later.number} ({one.id}) valid_from: overlaps contract"
                    f" {other.number}, which is valid"
                    f" {dates.period(other.contract.valid_from, other.contract.valid_to, zone)};"
                    " let one end where the other begins"
                )
            one = replace(one, valid_to=ends)
        found.append(one)
    return tuple(found)


def _contract(number: int, table: dict[str, Any], zone: str) -> Contract:
    name = table.get("id")
    where = f"contract {number} ({name})" if isinstance(name, str) else f"contract {number}"

    def refuse(key: str, text: str) -> ContractError:
        return ContractError(f"{where} {key}: {text}")

    for key in table:
        if key not in KEYS:
            raise refuse(key, f"unknown key; there are {', '.join(KEYS)}")
    for key in ("id", "valid_from"):
        if key not in table:
            raise refuse(key, "is missing")
    for key in ("id", "isp", "currency"):
        if key in table and not (isinstance(table[key], str) and table[key].strip()):
            raise refuse(key, "write text in quotes")
    values = {**table, **_checked(table, refuse)}
    for key in ("valid_from", "valid_to"):
        if key in table:
            values[key] = _moment(key, table[key], zone, refuse)
    one = Contract(**values)
    if one.valid_to is not None and one.valid_to <= one.valid_from:
        raise refuse("valid_to", f"is not after valid_from, {dates.told(one.valid_from, zone)}")
    if one.restitution and one.price is None:
        raise refuse("price", "is missing; restitution is a share of it")
    return replace(one, isp=slug(one.isp) if one.isp else "")


_Refuse = Callable[[str, str], ContractError]
_RATIOS = ("floor_loss_ratio", "availability_ratio")
_NUMBERS = ("floor_down_mbps", "floor_rtt_ms", "grace_s", "price")


def _checked(table: dict[str, Any], refuse: _Refuse) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in (*_RATIOS, *_NUMBERS):
        if key in table:
            most = 1.0 if key in _RATIOS else math.inf
            found[key] = _number(key, table[key], most, refuse)
    currency = table.get("currency", "IDR")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise refuse("currency", f"{currency!r} is no currency; write three letters such as IDR")
    if "excludes" in table:
        found["excludes"] = _excludes(table["excludes"], refuse)
    if "restitution" in table:
        found["restitution"] = _steps(table["restitution"], refuse)
    return found


_LARGEST = 1e15
"""Beyond it no amount can be meant, and a float is no longer exact."""


def _number(key: str, value: object, most: float, refuse: _Refuse) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(key, f"{value!r} is not a number")
    if not 0 <= value <= min(most, _LARGEST):
        raise refuse(
            key,
            f"{value} is not between 0 and {most:g}"
            if most == 1
            else f"{value} is not possible; give 0 or more",
        )
    return float(value)


def _moment(key: str, value: object, zone: str, refuse: _Refuse) -> float:
    try:
        if isinstance(value, str):
            return dates.instant(value, zone)
        if isinstance(value, date):
            return dates.moment(value, zone)
    except dates.DateError as err:
        raise refuse(key, str(err)) from None
    raise refuse(key, f"{value!r} is no date; write 2024-04-01")


def _excludes(value: object, refuse: _Refuse) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise refuse("excludes", f"write a list of {', '.join(EXCLUDABLE)}")
    for name in value:
        if name not in EXCLUDABLE:
            raise refuse("excludes", f"{name!r} cannot be excluded; {', '.join(EXCLUDABLE)} can")
    return tuple(dict.fromkeys(value))


def _steps(value: object, refuse: _Refuse) -> tuple[tuple[float, float], ...]:
    mend = "write a list such as [{ below = 0.995, share = 0.05 }]"
    if not isinstance(value, list):
        raise refuse("restitution", mend)
    steps = []
    for number, step in enumerate(value, 1):
        if not isinstance(step, dict) or sorted(step) != sorted(STEP_KEYS):
            raise refuse("restitution", f"step {number}: {mend}")
        below, share = (
            _number(f"restitution step {number} {key}", step[key], 1.0, refuse) for key in STEP_KEYS
        )
        steps.append((below, share))
    steps.sort(reverse=True)
    for (high, less), (low, more) in pairwise(steps):
        if high == low or more <= less:
            raise refuse(
                "restitution",
                f"below {low:g} the share is not above that below {high:g}; let it grow",
            )
    return tuple(steps)
