"""``pantau access-points``: those of the whole city, the worst first."""

from __future__ import annotations

import argparse
from collections import Counter

import msgspec

from agent.wire import slug
from server import payloads
from server.access_points import PointStatus, Standing
from server.health import Health
from server.model import Site
from server.show import console, local, open_for, plain, table

_WORST_FIRST = tuple(PointStatus(name) for name in ("offline", "missing", "unknown", "online"))
_STYLES = {
    PointStatus.ONLINE: "green",
    PointStatus.OFFLINE: "bold red",
    PointStatus.MISSING: "yellow",
    PointStatus.UNKNOWN: "dim",
}


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau access-points``."""
    one = commands.add_parser("access-points", help="how each access point stands")
    one.add_argument("--district", metavar="D", help="only this district")
    one.add_argument("--isp", metavar="I", help="only this ISP")
    one.add_argument("--json", action="store_true", help="one object a line")
    one.set_defaults(run=show)


def show(args: argparse.Namespace) -> int:
    """Counts, and every access point of the sites in service."""
    found = _standing(args)
    if args.json:
        for site, point in found:
            at = {"site": site.id, "district": site.district, "isp": site.isp}
            print(msgspec.json.encode({**at, **payloads.point(point)}).decode())
        return 0
    counts = Counter(point.status for _, point in found)
    told = ", ".join(f"{counts[one]} {one}" for one in _WORST_FIRST[::-1])
    print(f"{len(found)} access points: {told}")
    rows = table("site", "name", "access point", "status", "since", "remark")
    for site, point in found:
        stray = bool(site.access_points) and not point.expected
        rows.add_row(
            site.id,
            plain(site.name),
            plain(point.name),
            f"[{_STYLES[point.status]}]{point.status}[/]",
            local(site, point.since or 0.0),
            "not in the registry" if stray else "",
        )
    console().print(rows)
    return 0


def _standing(args: argparse.Namespace) -> list[tuple[Site, Standing]]:
    with open_for(args) as store:
        sites = [site for site in store.sites().values() if not site.retired]
        healths = {row.health.site: row.health for row in store.healths()}
    if args.district is not None:
        sites = [site for site in sites if site.district == slug(args.district)]
    if args.isp is not None:
        sites = [site for site in sites if site.isp == slug(args.isp)]
    found = [
        (site, point)
        for site in sites
        for point in payloads.standing_points(site, healths.get(site.id) or Health(site.id))
    ]
    return sorted(found, key=lambda one: (_WORST_FIRST.index(one[1].status), one[0].id))
