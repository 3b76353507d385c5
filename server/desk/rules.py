"""``pantau rules``: what counts as degraded and offline, and where."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec

from agent.wire import iso
from server import config, dates, rules, terms
from server.contracts import DEFAULT_ZONE
from server.desk import preview, read
from server.model import Contract, Rules
from server.rules import RuleBook, RulesError
from server.show import CommandError, console, open_for, plain, table
from server.store import Store


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau rules …``."""
    parser = commands.add_parser("rules", help="what counts as degraded and offline, and where")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    one = verbs.add_parser("import", help="put the rules of a TOML file in force")
    one.add_argument("file", metavar="FILE.toml", type=Path)
    one.add_argument("--dry-run", action="store_true", help="show what would change")
    one.set_defaults(run=import_toml)
    one = verbs.add_parser("show", help="the rules in force; of a site, and what says so")
    one.add_argument("site", metavar="SITE", nargs="?")
    one.add_argument("--json", action="store_true", help="one object")
    one.set_defaults(run=show)
    one = verbs.add_parser("history", help="every version of the rules, and what it changed")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=history)
    one = verbs.add_parser("preview", help="what rules would have done to the stored readings")
    one.add_argument("file", metavar="FILE.toml", type=Path)
    one.add_argument("--days", type=_days, required=True, metavar="N", help="so far back")
    one.add_argument("--site", metavar="SITE", help="only this site")
    one.add_argument("--isp", metavar="I", help="only this ISP")
    one.add_argument("--district", metavar="D", help="only this district")
    one.add_argument("--json", action="store_true", help="one object")
    one.set_defaults(run=look_ahead)


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= 3660:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days; write one such as 7")
    return days


def _default(args: argparse.Namespace) -> Rules:
    return config.load(args.config, broker=False).health


def _in_force(store: Store, now: float) -> dict[str, Contract]:
    """The terms of each contract that are in force."""
    found = {name: terms.in_force(those, now) for name, those in store.contracts().items()}
    return {name: one for name, one in found.items() if one is not None}


def _new(args: argparse.Namespace, store: Store, now: float) -> tuple[str, RuleBook]:
    """The rules of the file, proved against the registry."""
    text = read(args.file)
    try:
        book = rules.parse(text, _default(args))
        sites = [site for site in store.sites().values() if not site.retired]
        rules.check(book, sites, _in_force(store, now))
    except RulesError as err:
        raise CommandError(f"{args.file}: {err}") from None
    return text, book


def _old(text: str, default: Rules) -> RuleBook:
    """The rules that are in force."""
    try:
        return rules.parse(text, default)
    except RulesError as err:
        raise CommandError(f"the rules in force: {err}; import them anew") from None


def import_toml(args: argparse.Namespace) -> int:
    """Show what changes, and make it a new version."""
    now = time.time()
    with open_for(args) as store, store.transaction():
        text, book = _new(args, store, now)
        changes = rules.differences(_old(store.rules_text(), book.default), book)
        version = store.put_rules(text, now) if changes and not args.dry_run else None
    for line in changes:
        print(line)
    if version is not None:
        print(f"version {version} is in force; a running ingest applies it within 10 s")
    else:
        print("nothing was changed" if changes else "nothing changes")
    return 0


def show(args: argparse.Namespace) -> int:
    """All tables; of a site every key, its value and where it comes from."""
    with open_for(args) as store:
        text, versions = store.rules_text(), store.rules_versions()
        site = store.sites().get(args.site) if args.site else None
        in_force = _in_force(store, time.time())
    book = _old(text, _default(args))
    version = versions[-1].version if versions else 0
    if args.site and site is None:
        raise CommandError(f"no site {args.site!r} in the registry; see 'pantau sites list'")
    if site is not None:
        values = book.sources(site, in_force.get(site.contract))
        if args.json:
            told = {key: one._asdict() for key, one in values.items()}
            print(
                msgspec.json.encode({"site": site.id, "version": version, "rules": told}).decode()
            )
            return 0
        rows = table("key", "value", "from", right=("value",))
        for key, one in values.items():
            rows.add_row(key, f"{one.value:g}", plain(one.source))
        console().print(rows)
        return 0
    if args.json:
        tables = {rules.title(*where)[1:-1]: keys for where, keys in book.tables.items()}
        print(msgspec.json.encode({"version": version, "tables": tables}).decode())
        return 0
    print(f"version {version}" if version else "no rules but [health] of server.toml")
    for line in rules.differences(RuleBook(), book):
        print(line.removeprefix("+ "))
    return 0


def history(args: argparse.Namespace) -> int:
    """Every version, oldest first."""
    with open_for(args) as store:
        versions = store.rules_versions()
    before = RuleBook(_default(args))
    for one in versions:
        if args.json:
            told = {"version": one.version, "at": iso(one.at), "text": one.text}
            print(msgspec.json.encode(told).decode())
            continue
        book = _old(one.text, before.default)
        print(f"version {one.version}, entered {dates.told(one.at, DEFAULT_ZONE)}")
        for line in rules.differences(before, book):
            print(f"  {line}")
        before = book
    return 0


def look_ahead(args: argparse.Namespace) -> int:
    """Replay the stored readings under the rules in force, and under those of the file."""
    now = time.time()
    with open_for(args) as store:
        _, book = _new(args, store, now)
        old = _old(store.rules_text(), book.default)
        sites = preview.chosen(store, args.site, args.district, args.isp)
        found = list(
            preview.differences(store, sites, old, book, _in_force(store, now), args.days, now)
        )
    if args.json:
        print(msgspec.json.encode(preview.body(found, len(sites), args.days)).decode())
        return 0
    preview.tell(found, sites)
    return 0
