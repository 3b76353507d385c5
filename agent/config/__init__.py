"""The agent's configuration: TOML to frozen dataclasses, everything else refused.

`examples/agent.toml` is the manual of the keys. Every mistake becomes one line
that names the file, the key and the mend, so that a technician can act on it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent import hotspot
from agent.config import onsite, probing, upkeep, values
from agent.config.probing import Dns, Filter, Ntp, Web
from agent.config.probing import Path as PathTable
from agent.config.table import ConfigError, Table
from agent.config.upkeep import Metered, SafeMode, Settings, Throughput

__all__ = [
    "Config",
    "ConfigError",
    "Dns",
    "Filter",
    "Metered",
    "Mqtt",
    "Ntp",
    "PathTable",
    "SafeMode",
    "Settings",
    "Throughput",
    "Web",
    "load",
    "targets_of",
]

DEFAULT_PATH = Path("/etc/pantau/agent.toml")


@dataclass(frozen=True)
class Mqtt:
    """The broker and how to log in; every file named here exists."""

    url: str
    version: values.Version
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    username: str | None
    password_file: Path | None
    keepalive_s: int


@dataclass(frozen=True)
class Spool:
    """Where readings wait for the server, and the room they may take."""

    path: Path
    max_mb: int


@dataclass(frozen=True)
class Reading:
    """How long one window lasts, in seconds."""

    window_s: float


@dataclass(frozen=True)
class Targets:
    """Whom to send echoes, by rung; None leaves the rung out.

    A tuple holds addresses (IPv4, IPv6) or host names. "auto" is the default gateway, and for
    `isp` the hop with TTL 2 towards the first domestic target.
    """

    gateway: tuple[str, ...] | Literal["auto"] | None
    isp: tuple[str, ...] | Literal["auto"] | None
    domestic: tuple[str, ...] | None
    world: tuple[str, ...] | None


@dataclass(frozen=True)
class Config:
    """All of agent.toml; a table that was left out is None and not measured."""

    site: str
    mqtt: Mqtt
    spool: Spool
    reading: Reading
    targets: Targets | None
    dns: Dns | None
    filter: Filter | None
    web: Web | None
    ntp: Ntp | None
    path: PathTable | None
    clients: hotspot.Clients
    access_points: hotspot.AccessPoints | None
    wifi: hotspot.Wifi | None
    walk: hotspot.Walk | None
    throughput: Throughput | None
    metered: Metered | None
    settings: Settings
    safe_mode: SafeMode


def load(path: Path) -> Config:
    """The configuration in `path`.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key, a wrong type, an
            impossible value, or a file that it names is missing.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(
            f"{path}: cannot read it: {err.strerror}; name another with --config"
        ) from None
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not UTF-8 at byte {err.start}; save it as UTF-8") from None
    except (ValueError, RecursionError) as err:  # also a number, or depth, beyond the parser
        raise ConfigError(f"{path}: not TOML: {err}; mend that line") from None
    return _config(Table(path, "", document))


def _config(top: Table) -> Config:
    site = top.need("site", values.site, '"bitung-0123"')
    mqtt = top.table("mqtt")
    spool = top.table("spool") or Table(top.file, "spool", {})
    reading = top.table("reading") or Table(top.file, "reading", {})
    targets, dns, filter_ = (top.table(key) for key in ("targets", "dns", "filter"))
    web, ntp, path = (top.table(key) for key in ("web", "ntp", "path"))
    clients = top.table("clients") or Table(top.file, "clients", {})
    points, wifi, walk = (top.table(key) for key in ("access_points", "wifi", "walk"))
    throughput, metered = top.table("throughput"), top.table("metered")
    settings = top.table("settings") or Table(top.file, "settings", {})
    safe_mode = top.table("safe_mode") or Table(top.file, "safe_mode", {})
    top.done()
    radio = onsite.wifi(wifi) if wifi else None
    if mqtt is None:
        raise top.error("mqtt", 'missing; write a table [mqtt] with url = "mqtts://HOST:8883"')
    broker = _mqtt(mqtt)
    return Config(
        site=site,
        mqtt=broker,
        spool=_spool(spool),
        reading=_reading(reading),
        targets=targets_of(targets) if targets else None,
        dns=probing.dns(dns) if dns else None,
        filter=probing.filter_(filter_) if filter_ else None,
        web=probing.web(web) if web else None,
        ntp=probing.ntp(ntp) if ntp else None,
        path=probing.path(path) if path else None,
        clients=onsite.clients(clients),
        access_points=onsite.access_points(points) if points else None,
        wifi=radio,
        walk=onsite.walk(walk, radio) if walk else None,
        throughput=upkeep.throughput(throughput) if throughput else None,
        metered=upkeep.metered(metered, broker.keepalive_s) if metered else None,
        settings=upkeep.settings(settings),
        safe_mode=upkeep.safe_mode(safe_mode),
    )


def _mqtt(table: Table) -> Mqtt:
    existing = values.file_from(table.file.parent)
    mqtt = Mqtt(
        url=table.need("url", values.broker_url, '"mqtts://broker.example:8883"'),
        version=table.take("version", values.version) or "auto",
        ca_file=table.take("ca_file", existing),
        cert_file=table.take("cert_file", existing),
        key_file=table.take("key_file", existing),
        username=table.take("username", values.user),
        password_file=table.take("password_file", existing),
        keepalive_s=table.take("keepalive_s", values.whole_from(1, 65535, "seconds")) or 15,
    )
    table.done()
    for key in ("ca_file", "cert_file", "key_file"):
        if getattr(mqtt, key) and not mqtt.url.startswith("mqtts:"):
            raise table.error(key, "needs TLS; write the url as mqtts://HOST:8883")
    if mqtt.cert_file and not mqtt.key_file:
        raise table.error("key_file", "missing; cert_file needs its private key")
    if mqtt.key_file and not mqtt.cert_file:
        raise table.error("cert_file", "missing; key_file needs its certificate")
    return mqtt


def _spool(table: Table) -> Spool:
    path = table.take("path", values.path_from(table.file.parent)) or Path("/var/lib/pantau/spool")
    max_mb = table.take("max_mb", values.whole_from(1, 1_000_000, "megabytes")) or 128
    table.done()
    return Spool(path, max_mb)


def _reading(table: Table) -> Reading:
    window_s = table.take("window_s", values.window_s) or 60.0
    table.done()
    return Reading(window_s)


def targets_of(table: Table) -> Targets:
    """The targets that a table names, of the file or of settings."""
    targets = Targets(
        gateway=table.take("gateway", values.targets_or_auto),
        isp=table.take("isp", values.targets_or_auto),
        domestic=table.take("domestic", values.targets),
        world=table.take("world", values.targets),
    )
    table.done()
    if targets.isp == "auto" and targets.domestic is None:
        raise table.error("isp", '"auto" looks towards the first domestic target; add domestic')
    return targets
