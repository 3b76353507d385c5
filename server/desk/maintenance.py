"""``pantau maintenance``: announced work, in which nobody is alerted."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import msgspec

from agent.wire import iso, slug
from server import dates, maintenance
from server.dates import DateError
from server.maintenance import SCOPES, MaintenanceError
from server.model import Maintenance, Site
from server.show import CommandError, console, open_for, plain, table
from server.store import Store


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau maintenance …``."""
    parser = commands.add_parser("maintenance", help="announced work, in which nobody is alerted")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    one = verbs.add_parser("add", help="announce work")
    what = one.add_mutually_exclusive_group(required=True)
    for scope in SCOPES:
        what.add_argument(f"--{scope}", metavar="NAME", help=f"work on this {scope}")
    one.add_argument("--from", dest="begin", required=True, metavar="TIME", help="when it begins")
    one.add_argument("--to", dest="end", required=True, metavar="TIME", help="when it ends")
    one.add_argument("--zone", help="of these times (default: that of the sites)")
    one.add_argument("--note", default="", metavar="TEXT", help="what it is, who announced it")
    one.set_defaults(run=add)
    one = verbs.add_parser("list", help="announced work, what is over or cancelled included")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=list_all)
    one = verbs.add_parser("cancel", help="end announced work now, or before it begins")
    one.add_argument("id", metavar="ID")
    one.set_defaults(run=cancel)


def add(args: argparse.Namespace) -> int:
    """Announce work on a site, a contract, a district or an ISP."""
    scope = next(one for one in SCOPES if getattr(args, one) is not None)
    given = getattr(args, scope)
    if not given:  # would be all sites without a contract
        raise CommandError(f"--{scope}: is empty; write a name")
    name = slug(given) if scope in ("district", "isp") else given
    now = time.time()
    with open_for(args) as store, store.transaction():
        announced = Maintenance("", scope, name, 0.0, 0.0)
        sites = [
            site
            for site in store.sites().values()
            if not site.retired and maintenance.concerns(announced, site)
        ]
        if not sites:
            raise CommandError(f"--{scope}: no site of {given!r}; see 'pantau sites list'")
        zone = _zone(args.zone, scope, sites)
        one = replace(
            announced,
            id=f"m{1 + len(store.maintenances())}",
            from_at=_instant("--from", args.begin, zone),
            to_at=_instant("--to", args.end, zone),
            note=args.note,
            added_at=now,
        )
        try:
            maintenance.check(one)
        except MaintenanceError as err:
            raise CommandError(str(err)) from None
        store.put_maintenance(one)
    late = "" if one.from_at >= now else "; it has already begun"
    count = f"{len(sites)} site{'s' if len(sites) > 1 else ''}"
    print(f"{one.id}: {scope} {name}, {dates.period(one.from_at, one.to_at, zone)}, {count}{late}")
    return 0


def _zone(given: str | None, scope: str, sites: list[Site]) -> str:
    if given is not None:
        try:
            return dates.zone(given)
        except DateError as err:
            raise CommandError(f"--zone: {err}") from None
    zones = sorted({site.timezone for site in sites})
    if len(zones) > 1:
        raise CommandError(
            f"--zone: is missing; the sites of this {scope} are in {' and '.join(zones)}"
        )
    return zones[0]


def _instant(option: str, text: str, zone: str) -> float:
    try:
        return dates.instant(text, zone)
    except DateError as err:
        raise CommandError(f"{option}: {err}") from None


def list_all(args: argparse.Namespace) -> int:
    """All that was announced, in order."""
    now = time.time()
    with open_for(args) as store:
        known = store.maintenances()
        registry = store.sites()
    rows = table("id", "work on", "when", "is", "note")
    for one in known:
        state = _state(one, now)
        if args.json:
            told = {
                "id": one.id,
                "scope": one.scope,
                "name": one.name,
                "from": iso(one.from_at),
                "to": iso(one.to_at),
                "state": state,
                "note": one.note,
                "added_at": iso(one.added_at),
                "cancelled_at": None if one.cancelled_at is None else iso(one.cancelled_at),
            }
            print(msgspec.json.encode(told).decode())
            continue
        late = ", entered late" if one.added_at > one.from_at else ""
        when = dates.period(one.from_at, one.to_at, _seat(one, registry))
        what = plain(f"{one.scope} {one.name}")
        rows.add_row(one.id, what, when, state + late, plain(one.note))
    if not args.json:
        console().print(rows)
    return 0


def _state(one: Maintenance, now: float) -> str:
    if one.cancelled_at is not None:
        return "cancelled"
    if now < one.from_at:
        return "to come"
    return "going on" if now < one.to_at else "over"


def _seat(one: Maintenance, registry: dict[str, Site]) -> str:
    """The zone in which its times are told: that of the first site concerned."""
    zones = (site.timezone for site in registry.values() if maintenance.concerns(one, site))
    return next(zones, Site("", "", "", "").timezone)


def cancel(args: argparse.Namespace) -> int:
    """It ends now; of work to come nothing remains."""
    now = time.time()
    with open_for(args) as store, store.transaction():
        one = _found(store, args.id)
        zone = _seat(one, store.sites())
        try:
            store.put_maintenance(maintenance.cancelled(one, now, zone))
        except MaintenanceError as err:
            raise CommandError(str(err)) from None
    print(f"{one.id} is cancelled; a running ingest applies it within 10 s")
    return 0


def _found(store: Store, name: str) -> Maintenance:
    for one in store.maintenances():
        if one.id == name:
            return one
    raise CommandError(f"no maintenance {name!r}; see 'pantau maintenance list'")
