"""The commands of the registry: import, list, show, history, retire."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import msgspec

from agent.wire import decode_reading, iso
from server import dates, history, payloads, registry, sheet, terms
from server.health import Health
from server.model import Site, SiteTerm
from server.show import CommandError, console, local, open_for, table
from server.store import FLAG_UNCERTAIN, NoStoreError, Store

_DAY_S = 86_400.0


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau sites …``."""
    sites = commands.add_parser("sites", help="the registry of sites")
    verbs = sites.add_subparsers(dest="verb", metavar="VERB", required=True)
    imports = verbs.add_parser("import", help="add and change sites from a CSV file")
    imports.add_argument("file", metavar="FILE.csv", type=Path)
    imports.add_argument("--dry-run", action="store_true", help="show what would change")
    imports.add_argument(
        "--valid-from",
        metavar="TIME",
        type=_time,
        help="from when the rows are valid, in the zone of each site (default: now)",
    )
    imports.set_defaults(run=import_csv)
    lists = verbs.add_parser("list", help="all sites of the registry")
    lists.add_argument("--json", action="store_true", help="one object a line")
    lists.set_defaults(run=list_sites)
    shows = verbs.add_parser("show", help="one site, and how it stands")
    shows.add_argument("site", metavar="SITE")
    shows.add_argument("--json", action="store_true", help="one object")
    shows.set_defaults(run=show)
    pasts = verbs.add_parser("history", help="what the registry said of a site, and when")
    pasts.add_argument("site", metavar="SITE")
    pasts.add_argument("--json", action="store_true", help="one object a line")
    pasts.set_defaults(run=past)
    retires = verbs.add_parser("retire", help="take a site out of service")
    retires.add_argument("site", metavar="SITE")
    retires.set_defaults(run=retire)


def _time(text: str) -> str:
    """A date that can be read; in which zone it is meant, the rows tell."""
    try:
        dates.instant(text, sheet.DEFAULT_TIMEZONE)
    except dates.DateError as err:
        raise argparse.ArgumentTypeError(str(err)) from None
    return text


def import_csv(args: argparse.Namespace) -> int:
    """Show what changes, and import everything or nothing; absent rows stay."""
    now = time.time()
    try:
        rows = registry.parse(args.file.read_text(encoding="utf-8"), now, args.valid_from)
    except OSError as err:
        raise CommandError(f"{args.file}: cannot be read: {err.strerror}") from None
    except UnicodeDecodeError as err:
        raise CommandError(f"{args.file}: not UTF-8 at byte {err.start}; save it so") from None
    except sheet.CsvError as err:
        raise CommandError(f"{args.file}: {err}; nothing was imported") from None
    if args.dry_run:
        changes, unchanged = registry.changes(rows, _standing(args))
    else:
        with open_for(args, create=True) as store, store.transaction():
            changes, unchanged = registry.changes(rows, store.terms_all())
            for change in changes:
                store.put_terms(change.site, change.after)
            store.promote(now)
    for change in changes:
        print(change.text())
    added = sum(change.added for change in changes)
    would = "would be " if args.dry_run else ""
    print(
        f"{added} {would}added, {len(changes) - added} {would}changed, {unchanged} unchanged",
    )
    return 0


def _standing(args: argparse.Namespace) -> dict[str, tuple[SiteTerm, ...]]:
    """The registry as it stands; empty where there is no database yet."""
    try:
        with open_for(args) as store:
            return store.terms_all()
    except NoStoreError:
        return {}


def list_sites(args: argparse.Namespace) -> int:
    """All sites of the registry, retired ones marked."""
    with open_for(args) as store:
        sites = store.sites().values()
    if args.json:
        for site in sites:
            print(_json(site))
        return 0
    rows = table("site", "name", "district", "isp", "contract")
    for site in sites:
        name = f"{site.name} (retired)" if site.retired else site.name
        rows.add_row(site.id, name, site.district, site.isp, site.contract)
    console().print(rows)
    return 0


def show(args: argparse.Namespace) -> int:
    """One site: its row of the registry, its state, its streams."""
    with open_for(args) as store:
        site = _known(store, args.site)
        health = next((row.health for row in store.healths() if row.health.site == site.id), None)
        streams = [row for row in store.streams() if row.site == site.id]
        now = time.time()
        day = history.totals(_day(store, site.id, now))
    if args.json:
        body = {
            **_fields(site),
            "status": health.status if health else "unknown",
            "access_points": payloads.points(site, health or Health(site.id)),
            "last_24_h": {f"{verdict}_s": round(seconds) for verdict, seconds in day.items()},
            "streams": [
                {"stream": row.stream, "through": row.seqs.through, "lost": row.lost}
                for row in streams
            ],
        }
        print(msgspec.json.encode(body).decode())
        return 0
    for name, value in _fields(site).items():
        print(f"{name:<12} {'' if value is None else value}")
    if health is not None:
        print(f"{'status':<12} {health.status} since {local(site, health.since)}")
        print(f"{'last reading':<12} {local(site, health.last_reading_at)}")
        for reason in health.reasons:
            print(f"{'':<12} {reason}")
    for point in payloads.standing_points(site, health or Health(site.id)):
        listed = "" if point.expected or not site.access_points else " (not in the registry)"
        since = f" since {local(site, point.since)}" if point.since else ""
        print(f"{'access point':<12} {point.name}: {point.status}{since}{listed}")
    told = ", ".join(f"{verdict} {_hours(seconds)}" for verdict, seconds in day.items())
    print(f"{'last 24 h':<12} {told}")
    for row in streams:
        lost = f", {row.lost} lost at the device" if row.lost else ""
        print(f"{'stream':<12} {row.stream}: stored through {row.seqs.through}{lost}")
    return 0


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _day(store: Store, site: str, now: float) -> list[history.Span]:
    """What the readings say of the last 24 hours."""
    windows = (
        history.window(
            decode_reading(row.body).reading,
            row.taken_at,
            uncertain=bool(row.flags & FLAG_UNCERTAIN),
        )
        for _, row in store.readings(site)
        if row.taken_at > now - _DAY_S
    )
    return history.spans(windows, now - _DAY_S, now)


def retire(args: argparse.Namespace) -> int:
    """Out of service: no more states and alerts; its readings stay."""
    with open_for(args) as store, store.transaction():
        site = _known(store, args.site)
        if site.retired:
            raise CommandError(f"{site.id} is already retired")
        now = time.time()
        store.put_terms(site.id, terms.ended(store.terms(site.id), now))
        store.promote(now)
    print(f"{site.id} is retired; a running ingest applies it within 10 s")
    return 0


def past(args: argparse.Namespace) -> int:
    """Every term of a site, oldest first."""
    with open_for(args) as store:
        found = store.terms(args.site)
    if not found:
        raise CommandError(f"no site {args.site!r} in the registry; see 'pantau sites list'")
    before: Site | None = None
    for one in found:
        if args.json:
            ends = None if one.valid_to is None else iso(one.valid_to)
            told = {"valid_from": iso(one.valid_from), "valid_to": ends, **_fields(one.site)}
            print(msgspec.json.encode(told).decode())
        else:
            when = dates.period(one.valid_from, one.valid_to, one.site.timezone)
            print(
                f"{when}: {(before and registry.differing(before, one.site)) or _place(one.site)}"
            )
        before = one.site
    return 0


def _place(site: Site) -> str:
    contract = f", contract {site.contract}" if site.contract else ""
    return f"{site.name} ({site.district}, {site.isp}){contract}"


def _known(store: Store, name: str) -> Site:
    site = store.sites().get(name)
    if site is None:
        raise CommandError(f"no site {name!r} in the registry; see 'pantau sites list'")
    return site


def _fields(site: Site) -> dict[str, object]:
    fields = asdict(site)
    return {"site": fields.pop("id"), **fields}


def _json(site: Site) -> str:
    return msgspec.json.encode(_fields(site)).decode()
