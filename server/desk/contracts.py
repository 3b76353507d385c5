"""``pantau contracts``: what was agreed with whom, and since when."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec

from agent.wire import iso
from server import contracts, dates, terms
from server.contracts import DEFAULT_ZONE, ContractError
from server.desk import read
from server.model import Contract
from server.show import CommandError, console, open_for, plain, table
from server.store import NoStoreError


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau contracts …``."""
    parser = commands.add_parser("contracts", help="what was agreed with whom, and since when")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    one = verbs.add_parser("import", help="add and change contracts from a TOML file")
    one.add_argument("file", metavar="FILE.toml", type=Path)
    one.add_argument("--dry-run", action="store_true", help="show what would change")
    one.set_defaults(run=import_toml)
    one = verbs.add_parser("list", help="all contracts, by the terms in force now")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=list_contracts)
    one = verbs.add_parser("show", help="all terms of a contract")
    one.add_argument("contract", metavar="CONTRACT")
    one.add_argument("--version", type=int, metavar="N", help="as it was then (default: newest)")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=show)
    one = verbs.add_parser("history", help="every version of a contract, and what it changed")
    one.add_argument("contract", metavar="CONTRACT")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=history)


def import_toml(args: argparse.Namespace) -> int:
    """Show what changes, and make new versions; contracts that are absent stay."""
    try:
        found = contracts.parse(read(args.file))
    except ContractError as err:
        raise CommandError(f"{args.file}: {err}; nothing was imported") from None
    if args.dry_run:
        known = _known(args)
        changed = [name for name in found if not contracts.same(known.get(name, ()), found[name])]
    else:
        with open_for(args, create=True) as store, store.transaction():
            known, now = store.contracts(), time.time()
            changed = [
                name for name in found if not contracts.same(known.get(name, ()), found[name])
            ]
            for name in changed:
                store.put_contract(name, found[name], now)
    for name in changed:
        for line in contracts.differences(known.get(name, ()), found[name]):
            print(line)
    added = sum(name not in known for name in changed)
    would = "would be " if args.dry_run else ""
    print(
        f"{added} {would}added, {len(changed) - added} {would}changed,"
        f" {len(found) - len(changed)} unchanged"
    )
    return 0


def _known(args: argparse.Namespace) -> dict[str, tuple[Contract, ...]]:
    try:
        with open_for(args) as store:
            return store.contracts()
    except NoStoreError:
        return {}


def list_contracts(args: argparse.Namespace) -> int:
    """Each contract by the terms that are in force now, and how many sites have it."""
    now = time.time()
    with open_for(args) as store:
        known = store.contracts()
        named = [site.contract for site in store.sites().values() if not site.retired]
    rows = table("contract", "version", "sites", "terms now", right=("version", "sites"))
    for name, those in known.items():
        one = terms.in_force(those, now)
        version = those[0].version
        if args.json:
            stands = None if one is None else body(one)
            told = {"contract": name, "version": version, "sites": named.count(name)}
            print(msgspec.json.encode({**told, "in_force": stands}).decode())
        else:
            text = contracts.summary(one) if one else "none in force"
            rows.add_row(plain(name), str(version), str(named.count(name)), plain(text))
    if not args.json:
        console().print(rows)
    return 0


def show(args: argparse.Namespace) -> int:
    """The terms of one version."""
    with open_for(args) as store:
        versions = {one.version: one for one in store.contract_versions(args.contract)}
    if not versions:
        raise CommandError(f"no contract {args.contract!r}; see 'pantau contracts list'")
    number = max(versions) if args.version is None else args.version
    if number not in versions:
        raise CommandError(
            f"{args.contract} has no version {number}; the newest is {max(versions)}"
        )
    version = versions[number]
    if not args.json:
        print(f"{args.contract}, version {number}, entered {dates.told(version.at, DEFAULT_ZONE)}")
    for one in version.terms:
        if args.json:
            print(msgspec.json.encode(body(one)).decode())
        else:
            period = dates.period(one.valid_from, one.valid_to, DEFAULT_ZONE)
            print(f"{period}: {contracts.summary(one)}")
    return 0


def history(args: argparse.Namespace) -> int:
    """Every version, oldest first."""
    with open_for(args) as store:
        versions = store.contract_versions(args.contract)
    if not versions:
        raise CommandError(f"no contract {args.contract!r}; see 'pantau contracts list'")
    before: tuple[Contract, ...] = ()
    for one in versions:
        if args.json:
            those = [body(term) for term in one.terms]
            told = {"contract": args.contract, "version": one.version, "at": iso(one.at)}
            print(msgspec.json.encode({**told, "terms": those}).decode())
        else:
            print(f"version {one.version}, entered {dates.told(one.at, DEFAULT_ZONE)}")
            for line in contracts.differences(before, one.terms):
                print(f"  {line}")
        before = one.terms
    return 0


def body(one: Contract) -> dict[str, object]:
    """Terms as JSON: the keys of the file, times in UTC."""
    told = msgspec.to_builtins(one)
    told["valid_from"] = iso(one.valid_from)
    told["valid_to"] = None if one.valid_to is None else iso(one.valid_to)
    told["restitution"] = [{"below": below, "share": share} for below, share in one.restitution]
    return dict(told)
