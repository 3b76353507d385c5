"""The commands that only look: status, incidents, alerts, readings, quarantine."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.wire import iso, slug
from server import config, payloads
from server.health import Health
from server.model import Incident, Site, Status, unregistered
from server.store import FLAG_UNCERTAIN, ReadingRow, Store, open_store

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
    if not at:
        return "-"
    when = datetime.fromtimestamp(at, ZoneInfo(site.timezone))
    return f"{when:%Y-%m-%d %H:%M:%S} {_ZONES.get(site.timezone) or when.tzname()}"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line: a reader that has seen enough is no failure."""
        raise BrokenPipeError


def console() -> Console:
    """Standard output; wide when it is no terminal, so that a line stays a line."""
    return _Console(width=None if sys.stdout.isatty() else 200)


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands of this module."""
    one = commands.add_parser("status", help="how many sites are online, and which are not")
    one.add_argument("--district", metavar="D", help="only this district")
    one.add_argument("--isp", metavar="I", help="only this ISP")
    one.add_argument("--json", action="store_true", help="one object")
    one.set_defaults(run=status)
    one = commands.add_parser("incidents", help="the ledger: what happened, and why")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=incidents)
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
        sites = _standing(store)
    if args.district is not None:
        sites = [pair for pair in sites if pair[0].district == slug(args.district)]
    if args.isp is not None:
        sites = [pair for pair in sites if pair[0].isp == slug(args.isp)]
    counts = {one: sum(health.status is one for _, health in sites) for one in Status}
    if args.json:
        rows = [
            {
                "site": site.id,
                "status": health.status,
                "district": site.district,
                "isp": site.isp,
                "since": iso(health.since) if health.since else None,
                "registered": site.registered,
                "reasons": health.reasons,
            }
            for site, health in sites
        ]
        print(msgspec.json.encode({**counts, "sites": rows}).decode())
        return 0
    total = len(sites) or 1
    print(f"{len(sites)} sites: " + _count_line(counts, total))
    table = Table(box=None, pad_edge=False)
    for column in ("site", "name", "district", "isp", "status", "since", "why"):
        table.add_column(column)
    sites.sort(key=lambda pair: (_WORST_FIRST.index(pair[1].status), pair[1].since))
    for site, health in sites:
        style = _STYLES[health.status]
        table.add_row(
            site.id,
            escape(site.name) if site.registered else "(unregistered)",
            site.district,
            site.isp,
            f"[{style}]{health.status}[/]",
            local(site, health.since),
            escape(", ".join(health.reasons)),
        )
    console().print(table)
    return 0


def _count_line(counts: dict[Status, int], total: int) -> str:
    return ", ".join(f"{count} {one} ({count / total:.0%})" for one, count in counts.items())


def _standing(store: Store) -> list[tuple[Site, Health]]:
    """Every site in service or heard from, with its health."""
    registry = store.sites()
    healths = {row.health.site: row.health for row in store.healths()}
    sites = [site for site in registry.values() if not site.retired]
    known = {site.id for site in sites}
    sites += [unregistered(name) for name in healths if name not in known]
    return [(site, healths.get(site.id) or Health(site.id)) for site in sites]


def incidents(args: argparse.Namespace) -> int:
    """All incidents, oldest first; in JSON with every revision."""
    with open_for(args) as store:
        registry = store.sites()
        found = [(one, store.revisions(one.id)) for one in store.incidents()]
    if args.json:
        for incident, revisions in found:
            body = payloads.alert_body(incident)
            body["revisions"] = [
                {"at": iso(at), **payloads.alert_body(revision)} for at, revision in revisions
            ]
            print(msgspec.json.encode(body).decode())
        return 0
    _incident_table([incident for incident, _ in found], registry)
    return 0


def alerts(args: argparse.Namespace) -> int:
    """What fires now."""
    with open_for(args) as store:
        registry = store.sites()
        firing = store.firing()
    if args.json:
        for incident in firing:
            print(msgspec.json.encode(payloads.alert_body(incident)).decode())
        return 0
    _incident_table(firing, registry)
    return 0


def _incident_table(found: list[Incident], registry: dict[str, Site]) -> None:
    if not found:
        print("none")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("opened", "lasted", "what", "district", "isp", "cause"):
        table.add_column(column)
    for one in found:
        site = registry.get(one.site) or unregistered(one.site)
        table.add_row(
            local(site, one.opened_at),
            _lasted(one),
            escape(one.title),
            one.district,
            one.isp,
            one.cause.verdict if not one.firing else "[bold red]still firing[/]",
        )
    console().print(table)


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
