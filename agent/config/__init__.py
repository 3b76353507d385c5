"""The agent's configuration: TOML to frozen dataclasses, everything else refused.

`examples/agent.toml` is the manual of the keys. Every mistake becomes one line
that names the file, the key and the mend, so that a technician can act on it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from agent.config import values

DEFAULT_PATH = Path("/etc/pantau/agent.toml")

T = TypeVar("T")


class ConfigError(Exception):
    """One line: file, key, what is wrong and how to mend it."""


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

    A tuple holds addresses or host names. "auto" is the default gateway, and for
    `isp` the hop with TTL 2 towards the first domestic target.
    """

    gateway: tuple[str, ...] | Literal["auto"] | None
    isp: tuple[str, ...] | Literal["auto"] | None
    domestic: tuple[str, ...] | None
    world: tuple[str, ...] | None


@dataclass(frozen=True)
class Dns:
    """Names to resolve, by `resolver` ("ADDRESS" or "ADDRESS:PORT") or the system's."""

    names: tuple[str, ...]
    resolver: str | None


@dataclass(frozen=True)
class Web:
    """A page that answers 204 when no portal stands in between."""

    url: str


@dataclass(frozen=True)
class Ntp:
    """A time server ("HOST" or "HOST:PORT") to compare the clock with."""

    server: str


@dataclass(frozen=True)
class Config:
    """All of agent.toml; a table that was left out is None and not measured."""

    site: str
    mqtt: Mqtt
    spool: Spool
    reading: Reading
    targets: Targets | None
    dns: Dns | None
    web: Web | None
    ntp: Ntp | None


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
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: not TOML: {err}; mend that line") from None
    return _config(_Table(path, "", document))


class _Table:
    """One TOML table that is emptied key by key; what is left over is unknown."""

    def __init__(self, file: Path, name: str, values: dict[str, object]) -> None:
        self.file = file
        self.name = name
        self.values = dict(values)
        self.known: list[str] = []

    def error(self, key: str, text: str) -> ConfigError:
        dotted = f"{self.name}.{key}" if self.name else key
        return ConfigError(f"{self.file}: {dotted}: {text}")

    def take(self, key: str, check: Callable[[object], T]) -> T | None:
        """The checked value of `key`, None when it is not there."""
        self.known.append(key)
        if key not in self.values:
            return None
        try:
            return check(self.values.pop(key))
        except ValueError as err:
            raise self.error(key, str(err)) from None

    def need(self, key: str, check: Callable[[object], T], example: str) -> T:
        """The checked value of a key that must be there."""
        value = self.take(key, check)
        if value is None:
            raise self.error(key, f"missing; write for example {key} = {example}")
        return value

    def table(self, key: str) -> _Table | None:
        self.known.append(key)
        if key not in self.values:
            return None
        value = self.values.pop(key)
        if not isinstance(value, dict):
            raise self.error(key, f"is {values.shown(value)}; make it a table [{key}]")
        return _Table(self.file, key, value)

    def done(self) -> None:
        """Refuse what nobody took."""
        for key in self.values:
            near = difflib.get_close_matches(key, self.known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(self.known)}"
            raise self.error(key, f"unknown key; {hint}")


def _config(top: _Table) -> Config:
    site = top.need("site", values.site, '"bitung-0123"')
    mqtt = top.table("mqtt")
    spool = top.table("spool") or _Table(top.file, "spool", {})
    reading = top.table("reading") or _Table(top.file, "reading", {})
    targets, dns, web, ntp = (top.table(key) for key in ("targets", "dns", "web", "ntp"))
    top.done()
    if mqtt is None:
        raise top.error("mqtt", 'missing; write a table [mqtt] with url = "mqtts://HOST:8883"')
    return Config(
        site=site,
        mqtt=_mqtt(mqtt),
        spool=_spool(spool),
        reading=_reading(reading),
        targets=_targets(targets) if targets else None,
        dns=_dns(dns) if dns else None,
        web=_web(web) if web else None,
        ntp=_ntp(ntp) if ntp else None,
    )


def _mqtt(table: _Table) -> Mqtt:
    existing = values.file_from(table.file.parent)
    mqtt = Mqtt(
        url=table.need("url", values.broker_url, '"mqtts://broker.example:8883"'),
        version=table.take("version", values.version) or "auto",
        ca_file=table.take("ca_file", existing),
        cert_file=table.take("cert_file", existing),
        key_file=table.take("key_file", existing),
        username=table.take("username", values.text),
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


def _spool(table: _Table) -> Spool:
    path = table.take("path", values.path_from(table.file.parent)) or Path("/var/lib/pantau/spool")
    max_mb = table.take("max_mb", values.whole_from(1, 1_000_000, "megabytes")) or 128
    table.done()
    return Spool(path, max_mb)


def _reading(table: _Table) -> Reading:
    window_s = table.take("window_s", values.window_s) or 60.0
    table.done()
    return Reading(window_s)


def _targets(table: _Table) -> Targets:
    targets = Targets(
        gateway=table.take("gateway", values.hosts_or_auto),
        isp=table.take("isp", values.hosts_or_auto),
        domestic=table.take("domestic", values.hosts),
        world=table.take("world", values.hosts),
    )
    table.done()
    if targets.isp == "auto" and targets.domestic is None:
        raise table.error("isp", '"auto" looks towards the first domestic target; add domestic')
    return targets


def _dns(table: _Table) -> Dns:
    names = table.need("names", values.hosts, '["example.org"]')
    resolver = table.take("resolver", values.resolver)
    table.done()
    return Dns(names, resolver)


def _web(table: _Table) -> Web:
    url = table.need("url", values.web_url, '"http://portal.example/generate_204"')
    table.done()
    return Web(url)


def _ntp(table: _Table) -> Ntp:
    server = table.need("server", values.host_port, '"id.pool.ntp.org"')
    table.done()
    return Ntp(server)
