"""The tables of what is measured once in a while: [dns], [filter], [web], [ntp], [path]."""

from __future__ import annotations

from dataclasses import dataclass

from agent.config import values
from agent.config.table import Table

HOUR_S = 3600
DAY_S = 86_400


@dataclass(frozen=True)
class Dns:
    """Names to resolve, by `resolver` ("ADDRESS" or "ADDRESS:PORT") or the system's.

    `compare_with` is asked the same beside it; "system" is the system's resolver.
    """

    names: tuple[str, ...]
    resolver: str | None
    compare_with: str | None = None


@dataclass(frozen=True)
class Filter:
    """Names that must resolve, names that must not, and the pages where a filter leads.

    `pages` holds addresses, networks, or names that a CNAME of the filter points to;
    `every_s` is how often this is looked at.
    """

    must_resolve: tuple[str, ...]
    must_be_filtered: tuple[str, ...]
    pages: tuple[str, ...]
    every_s: int


@dataclass(frozen=True)
class Web:
    """A page that answers 204 when no portal stands in between."""

    url: str


@dataclass(frozen=True)
class Ntp:
    """Time servers ("HOST" or "HOST:PORT") to compare the clock with."""

    server: tuple[str, ...]


@dataclass(frozen=True)
class Path:
    """When the way to the targets is traced: when a rung first fails, and every `every_s`.

    A hop within `foreign_prefixes` lies abroad.
    """

    every_s: int
    foreign_prefixes: tuple[str, ...]


def dns(table: Table) -> Dns:
    names = table.need("names", values.hosts, '["example.org"]')
    resolver = table.take("resolver", values.resolver)
    compare_with = table.take("compare_with", values.resolver_or_system)
    table.done()
    if compare_with is not None and compare_with == (resolver or "system"):
        raise table.error("compare_with", f"{compare_with!r} is asked already; name another one")
    return Dns(names, resolver, compare_with)


def filter_(table: Table) -> Filter:
    must_resolve = table.take("must_resolve", values.hosts) or ()
    must_be_filtered = table.take("must_be_filtered", values.hosts) or ()
    pages = table.take("pages", values.networks_or_names) or ()
    every_s = table.take("every_s", values.whole_from(1, DAY_S, "seconds")) or HOUR_S
    table.done()
    if not must_resolve and not must_be_filtered:
        raise table.error("must_be_filtered", "missing, and must_resolve too; give one of them")
    if both := sorted(set(must_resolve) & set(must_be_filtered)):
        raise table.error("must_be_filtered", f"{both[0]!r} is in must_resolve too; choose one")
    return Filter(must_resolve, must_be_filtered, pages, every_s)


def web(table: Table) -> Web:
    url = table.need("url", values.web_url, '"http://portal.example/generate_204"')
    table.done()
    return Web(url)


def ntp(table: Table) -> Ntp:
    server = table.need("server", values.hosts_port, '"id.pool.ntp.org"')
    table.done()
    return Ntp(server)


def path(table: Table) -> Path:
    every_s = table.take("every_s", values.whole_from(60, 30 * DAY_S, "seconds")) or DAY_S
    foreign_prefixes = table.take("foreign_prefixes", values.networks) or ()
    table.done()
    return Path(every_s, foreign_prefixes)
