"""What ``pantau simulate`` looks at before anything starts."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent import wire
from server.config import Mqtt
from server.model import Site
from server.mqtt import Lost, Refused, Will, connect
from server.show import CommandError

_FILES_A_SITE = 4
"""The spool's folder, its segment, a connection, and one that the broker has not yet given up."""
_FILES_BESIDE = 64
_PORTS_BESIDE = 200
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def limits(sites: int, processes: int) -> None:
    """Refuse what would run out of descriptors or ports midway."""
    needed = -(-sites // processes) * _FILES_A_SITE + _FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
        except (ValueError, OSError):
            fit = (hard - _FILES_BESIDE) // _FILES_A_SITE
            more = f"give --processes {-(-sites // fit)} or more, or " if fit > 0 else ""
            raise CommandError(
                f"{sites} sites in {processes} processes need {needed} open files each, and"
                f" {hard} are allowed; {more}raise the limit (ulimit -n)"
            ) from None
    low, high = (int(word) for word in _PORTS.read_text().split())
    if sites + _PORTS_BESIDE > high - low:
        raise CommandError(
            f"{sites} sites need as many ports, and {high - low} are there;"
            ' widen them: sysctl -w net.ipv4.ip_local_port_range="10000 65000"'
        )


def certificates(folder: Path | None, settings: Mqtt, sites: list[Site]) -> None:
    if folder is None:
        return
    if not settings.url.startswith("mqtts:"):
        raise CommandError(f"mqtt.url {settings.url}: --certificates needs an mqtts url")
    for site in sites:
        for file in (folder / f"{site.id}.crt", folder / f"{site.id}.key"):
            if not file.is_file():
                raise CommandError(f"{file}: not there; each site needs its own")


def broker(folder: Path | None, settings: Mqtt, site: str) -> None:
    """Log in once as one of the sites, and leave in order."""
    own = replace(settings, username=site)
    if folder is not None:
        own = replace(own, cert_file=folder / f"{site}.crt", key_file=folder / f"{site}.key")

    async def look() -> None:
        acks = [wire.site_topic(site, "acks")]
        will = Will(wire.site_topic(site, "presence"), b"")
        async with connect(own, site, will, acks):
            pass

    try:
        asyncio.run(look())
    except (Refused, Lost) as err:
        raise CommandError(str(err)) from None


@contextmanager
def usable(place: Path) -> Iterator[None]:
    """Turns what the system says of a file into one line."""
    try:
        yield
    except OSError as err:
        raise CommandError(f"{place}: {err.strerror}; give another place") from None
