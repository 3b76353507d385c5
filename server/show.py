"""The commands that only look: status, alerts, readings, quarantine; and what all share.

`rich` is loaded when a table is drawn: a script that asks for JSON need not wait for it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from agent.wire import iso, slug
from server import config, maintenance, payloads
from server.model import Incident, Site, Status, unregistered
from server.store import FLAG_UNCERTAIN, ReadingRow, Standing, Store, open_store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ZONES = {"Asia/Jakarta": "WIB", "Asia/Makassar": "WITA", "Asia/Jayapura": "WIT"}
_WORST_FIRST = (Status.OFFLINE, Status.DEGRADED, Status.UNKNOWN, Status.ONLINE)
_STYLES = {
    Status.ONLINE: "green",
    Status.DEGRADED: "yellow",
    Status.OFFLINE: "bold red",
    Status.UNKNOWN: "dim",
}


class CommandError(Exception):
    """A command that cannot be done; one line, exit code 1."""


class UsageError(Exception):
    """A command that cannot be meant; one line, exit code 2."""


@contextmanager
def open_for(args: argparse.Namespace, *, create: bool = False) -> Iterator[Store]:
    """The store that the command's configuration names."""
    store = open_store(config.load(args.config).store.url, create=create)
    try:
        yield store
    finally:
        store.close()


def local(site: Site, at: float) -> str:
    """A time in the site's zone, as a technician says it; ``-`` for never."""
    return local_in(site.timezone, at)


def local_in(zone: str, at: float) -> str:
    """A time in a zone; ``-`` for never."""
    if not at:
        return "-"
    try:
        when = datetime.fromtimestamp(at, ZoneInfo(zone))
    except (ValueError, OverflowError):  # a device's clock may say 9999-12-31
        return iso(at)
    return f"{when:%Y-%m-%d %H:%M:%S} {_ZONES.get(zone) or when.tzname()}"


def console() -> Console:
    """Standard output; wide when it is no terminal, so that a line stays a line."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            """Leave it to the command line: a reader that has seen enough is no failure."""
            raise BrokenPipeError

    return Quiet(width=None if sys.stdout.isatty() else 200)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in `right` hold figures."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def plain(text: str) -> str:
    """Text in a table that is no markup."""
    from rich.markup import escape

    return escape(text)


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands of this module."""
    one = commands.add_parser("status", help="how many sites are online, and which are not")
    one.add_argument("--district", metavar="D", help="only this district")
    one.add_argument("--isp", metavar="I", help="only this ISP")
    one.add_argument("--json", action="store_true", help="one object")
    one.set_defaults(run=status)
    one = commands.add_parser("alerts", help="what fires now")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=alerts)
    one = commands.add_parser("readings", help="every stored reading of a site")
    one.add_argument("site", metavar="SITE")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=readings)
    one = commands.add_parser("quarantine", help="what did not decode, and why")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=quarantine)


def status(args: argparse.Namespace) -> int:
    """Counts, and the sites worst first."""
    with open_for(args) as store:
        sites = list(store.standing())
        worked_on = _worked_on(store, time.time())
    if args.district is not None:
        sites = [one for one in sites if one.district == slug(args.district)]
    if args.isp is not None:
        sites = [one for one in sites if one.isp == slug(args.isp)]
    counts = Counter(one.status for one in sites)
    told = {one.value: counts[one] for one in Status}
    if args.json:
        print(
            msgspec.json.encode(
                {**told, "sites": [_status_row(one, worked_on) for one in sites]}
            ).decode()
        )
        return 0
    total = len(sites) or 1
    print(f"{len(sites)} sites: " + _count_line(told, total))
    rows = table("site", "name", "district", "isp", "status", "since", "why")
    sites.sort(key=lambda one: (_WORST_FIRST.index(one.status), one.since))
    for one in sites:
        rows.add_row(
            one.site,
            plain(one.name) if one.registered else "(unregistered)",
            one.district,
            one.isp,
            f"[{_STYLES[one.status]}]{one.status}[/]",
            local_in(one.timezone, one.since),
            plain(", ".join(_why(one, worked_on))),
        )
    console().print(rows)
    return 0


def _worked_on(store: Store, now: float) -> set[str]:
    """Where announced work goes on."""
    works = [one for one in store.maintenances() if one.from_at <= now < maintenance.end(one)]
    if not works:
        return set()
    sites = store.sites().values()
    return {site.id for site in sites if maintenance.standing(works, site, now)}


def _why(one: Standing, worked_on: Set[str]) -> Iterator[str]:
    """The reasons, and what else an operator has to know before acting on them."""
    if one.site in worked_on:
        yield "announced work"
    if one.flapping:
        yield "flapping"
    yield from one.reasons


def _status_row(one: Standing, worked_on: Set[str]) -> dict[str, object]:
    return {
        "site": one.site,
        "status": one.status,
        "district": one.district,
        "isp": one.isp,
        "since": iso(one.since) if one.since else None,
        "registered": one.registered,
        "reasons": one.reasons,
        "flapping": one.flapping,
        "maintenance": one.site in worked_on,
    }


def _count_line(counts: dict[str, int], total: int) -> str:
    return ", ".join(f"{count} {one} ({count / total:.0%})" for one, count in counts.items())


def alerts(args: argparse.Namespace) -> int:
    """What fires now."""
    with open_for(args) as store:
        registry = store.sites()
        firing = [one for one in store.firing() if one.told]
    if args.json:
        for incident in firing:
            print(msgspec.json.encode(payloads.alert_body(incident)).decode())
        return 0
    incident_table(firing, registry)
    return 0


def incident_table(found: list[Incident], registry: dict[str, Site]) -> None:
    """Incidents, one a line; the id as far as ``pantau incidents show`` needs it."""
    if not found:
        print("none")
        return
    ids = shortest([one.id for one in found])
    rows = table("id", "opened", "lasted", "what", "district", "isp", "cause")
    for one in found:
        site = registry.get(one.site) or unregistered(one.site)
        rows.add_row(
            ids[one.id],
            local(site, one.opened_at),
            _lasted(one),
            plain(one.title),
            one.district,
            one.isp,
            one.cause.verdict if not one.firing else "[bold red]still firing[/]",
        )
    console().print(rows)


def shortest(ids: Sequence[str]) -> dict[str, str]:
    """Each id cut to what still tells it from the others, and to 8 characters at least."""
    length = 8
    while length < max(map(len, ids)) and len({one[:length] for one in ids}) < len(ids):
        length += 1
    return {one: one[:length] for one in ids}


def _lasted(one: Incident) -> str:
    seconds = int((one.resolved_at or time.time()) - one.opened_at)
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def readings(args: argparse.Namespace) -> int:
    """Every stored reading once, by stream and seq."""
    with open_for(args) as store:
        registry = store.sites()
        known = args.site in registry or any(row.site == args.site for row in store.streams())
        if not known:
            raise CommandError(f"no site {args.site!r}; see 'pantau sites list'")
        site = registry.get(args.site) or unregistered(args.site)
        for stream, row in store.readings(args.site):
            if args.json:
                print(_reading_line(args.site, stream, row))
            else:
                mark = " (time uncertain)" if row.flags & FLAG_UNCERTAIN else ""
                print(f"{stream} {row.seq:>8}  {local(site, row.taken_at)}{mark}")
    return 0


def _reading_line(site: str, stream: str, row: ReadingRow) -> str:
    """The reading as on the wire, with ours behind: its own bytes are the evidence."""
    ours = {
        "site": site,
        "stream": stream,
        "received_at": iso(row.received_at),
        "taken_at_corrected": iso(row.taken_at),
        "time_uncertain": bool(row.flags & FLAG_UNCERTAIN),
    }
    one_line = row.body.replace(b"\n", b" ").replace(b"\r", b" ").strip()
    return (one_line[:-1] + b"," + msgspec.json.encode(ours)[1:]).decode()


def quarantine(args: argparse.Namespace) -> int:
    """What was set aside, oldest first."""
    with open_for(args) as store:
        for one in store.quarantined():
            if args.json:
                body = {
                    "at": iso(one.at),
                    "topic": one.topic,
                    "reason": one.reason,
                    "bytes": one.size,
                    "head": one.head[:200].decode(errors="replace"),
                }
                print(msgspec.json.encode(body).decode())
            else:
                print(f"{iso(one.at)}  {one.topic}  {one.size} bytes: {one.reason}")
    return 0
