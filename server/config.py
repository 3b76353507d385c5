"""The server's configuration: TOML to frozen values. Unknown keys are refused."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from server import rules
from server.model import GroupRules, Rules

DEFAULT_PATH = Path("/etc/pantau/server.toml")


class ConfigError(Exception):
    """A configuration that cannot be used: names file, key and mend."""


@dataclass(frozen=True, slots=True)
class Mqtt:
    """How to reach the broker."""

    url: str = "mqtt://127.0.0.1:1883"
    version: str = "auto"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    keepalive_s: int = 15


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where facts are kept."""

    url: str = "sqlite:///var/lib/pantau/pantau.db"


@dataclass(frozen=True, slots=True)
class Alerts:
    """How alerts stand at the broker."""

    resolved_retain_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """How ``pantau witness`` pings the sites' addresses."""

    every_s: float = 30.0
    timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Deadman:
    """Who is called while ingest works, so that its silence is noticed elsewhere."""

    url: str = ""
    every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Config:
    """All of ``server.toml``."""

    mqtt: Mqtt = field(default_factory=Mqtt)
    store: StoreConfig = field(default_factory=StoreConfig)
    health: Rules = field(default_factory=Rules)
    alerts: Alerts = field(default_factory=Alerts)
    groups: GroupRules = field(default_factory=GroupRules)
    witness: WitnessConfig = field(default_factory=WitnessConfig)
    deadman: Deadman = field(default_factory=Deadman)


_SECTIONS: dict[str, type] = {
    "mqtt": Mqtt,
    "store": StoreConfig,
    "health": Rules,
    "alerts": Alerts,
    "groups": GroupRules,
    "witness": WitnessConfig,
    "deadman": Deadman,
}
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+(%[\w.-]+)?", re.ASCII)
"""A name, or an address of either family: as an agent's."""
_VERSIONS = ("auto", "5", "3.1.1")
_TLS_FILES = ("ca_file", "cert_file", "key_file")
_FILES = (*_TLS_FILES, "password_file")

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "list": "a list",
}


def load(path: Path, *, broker: bool = True) -> Config:
    """The configuration in `path`.

    Args:
        path: the file.
        broker: false for a command that never talks to the broker, and need not
            be able to read its keys.

    Raises:
        ConfigError: it cannot be read, or something in it cannot be meant.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; see examples/server.toml") from None
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read: {err}") from None
    except (ValueError, RecursionError) as err:  # also a number, or depth, beyond the parser
        raise ConfigError(f"{path}: not TOML: {err}") from None
    _refuse_unknown(path, table)
    if "version" in table.get("mqtt", {}):
        table["mqtt"]["version"] = str(table["mqtt"]["version"])
    try:
        config = msgspec.convert(table, Config, dec_hook=_path_from(path.parent))
    except msgspec.ValidationError as err:
        raise ConfigError(f"{path}: {_plainly(str(err))}") from None
    try:
        if broker:
            _check_mqtt(config.mqtt)
        _check_rules(config.health)
        _check_rest(config)
    except ConfigError as err:
        raise ConfigError(f"{path}: {err}") from None
    return config


def _path_from(folder: Path) -> Callable[[type, object], object]:
    """A relative path begins at the folder of the file."""

    def path(_: type, value: object) -> object:
        if isinstance(value, str):
            return folder / value
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")

    return path


def _plainly(complaint: str) -> str:
    """The decoder's "Expected `float`, got `str` - at `$.health.planned_s`" for a person."""
    found = re.fullmatch(r"Expected `(\w+).*`, got `(\w+)` - at `\$\.(.+)`", complaint)
    if found is None:
        return complaint
    wanted, got, key = found.groups()
    return f"{key}: is {_KINDS.get(got, 'of another kind')}; write {_KINDS[wanted]}"


def _refuse_unknown(path: Path, table: dict[str, object]) -> None:
    """Also what no key takes, wherever it stands."""
    for section, content in table.items():
        if section not in _SECTIONS:
            known = ", ".join(_SECTIONS)
            raise ConfigError(f"{path}: unknown section [{section}]; there are {known}")
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {section} must be a section, written [{section}]")
        names = [one.name for one in fields(_SECTIONS[section])]
        for key, value in content.items():
            if key not in names:
                raise ConfigError(
                    f"{path}: {section}.{key}: unknown key; [{section}] takes {', '.join(names)}"
                )
            if isinstance(value, str) and not value.isprintable():
                raise ConfigError(
                    f"{path}: {section}.{key}: holds control characters; write it anew"
                )


def _check_mqtt(mqtt: Mqtt) -> None:
    _check_url(mqtt.url)
    if mqtt.version not in _VERSIONS:
        raise _impossible("mqtt.version", mqtt.version, 'give "auto", "5" or "3.1.1"')
    if not 1 <= mqtt.keepalive_s <= 65535:
        raise _impossible("mqtt.keepalive_s", mqtt.keepalive_s, "give whole seconds, 1 to 65535")
    if mqtt.username is not None and not mqtt.username.strip():
        raise ConfigError("mqtt.username: is empty; write a name, or leave the key out")
    if mqtt.username and set(mqtt.username) & set("/+#"):  # it is our client id, too
        told = f"{mqtt.username!r} holds /, + or #, which brokers refuse; write it without"
        raise ConfigError(f"mqtt.username: {told}")
    for name in _FILES:
        _check_file(f"mqtt.{name}", getattr(mqtt, name))
    for name in _TLS_FILES:
        if getattr(mqtt, name) is not None and not mqtt.url.startswith("mqtts:"):
            raise ConfigError(f"mqtt.{name}: needs TLS; write the url as mqtts://HOST:8883")
    if mqtt.cert_file and not mqtt.key_file:
        raise ConfigError("mqtt.key_file: missing; cert_file needs its private key")
    if mqtt.key_file and not mqtt.cert_file:
        raise ConfigError("mqtt.cert_file: missing; key_file needs its certificate")


def _check_url(text: str) -> None:
    mend = "write mqtts://HOST:8883 or mqtt://HOST:1883"
    try:
        url = urlsplit(text)
        has_host = _has_host(url)
    except ValueError:
        raise ConfigError(f"mqtt.url: {text!r} is no broker; {mend}") from None
    if url.username is not None or url.password is not None:
        raise ConfigError("mqtt.url: holds a user; write it in username, not in the url")
    more = url.path.strip("/") or url.query or url.fragment
    if not has_host or url.scheme not in ("mqtt", "mqtts") or more:
        raise ConfigError(f"mqtt.url: {text!r} is no broker; {mend}")


def _has_host(url: SplitResult) -> bool:
    """Whether a connection can be made to it; a port that cannot be raises ValueError."""
    return url.port != 0 and _HOST.fullmatch(url.hostname or "") is not None


def _check_file(key: str, file: Path | None) -> None:
    if file is None:
        return
    try:
        file.open("rb").close()
    except OSError as err:
        raise ConfigError(
            f"{key}: cannot read {file}: {err.strerror}; put the file there or mend the path"
        ) from None


def _check_rules(given: Rules) -> None:
    for key in rules.KEYS:
        value = getattr(given, key)
        mend = rules.impossible(key, value)
        if mend:
            raise _impossible(f"health.{key}", value, mend)
    crossed = rules.crossed(given)
    if crossed:
        raise ConfigError(f"health.{crossed[0]}: is above {crossed[1]}; give at most that")


def _check_rest(config: Config) -> None:
    kind, _, path = config.store.url.partition("sqlite:///")
    if kind or not path.strip("/"):
        raise _impossible("store.url", repr(config.store.url), "write sqlite:///path/to/pantau.db")
    retain_s = config.alerts.resolved_retain_s
    if not 0 <= retain_s < math.inf:
        raise _impossible("alerts.resolved_retain_s", retain_s, "give seconds, 0 or more")
    _check_groups(config.groups)
    for key, value in (
        ("witness.every_s", config.witness.every_s),
        ("witness.timeout_s", config.witness.timeout_s),
        ("deadman.every_s", config.deadman.every_s),
    ):
        if not 1 <= value < math.inf:
            raise _impossible(key, value, "give seconds, 1 or more")
    if config.witness.timeout_s > config.witness.every_s:
        raise ConfigError("witness.timeout_s: is above every_s; give at most that")
    if config.deadman.url and not _is_page(config.deadman.url):
        raise _impossible("deadman.url", repr(config.deadman.url), "write https://HOST/PATH")


def _is_page(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and _has_host(url)
    except ValueError:
        return False


def _check_groups(groups: GroupRules) -> None:
    if groups.min_sites < 2:
        raise _impossible("groups.min_sites", groups.min_sites, "give 2 or more")
    if not 0 < groups.ratio <= 1:
        raise _impossible("groups.ratio", groups.ratio, "give a ratio, above 0 and at most 1")
    if not 1 <= groups.window_s < math.inf:
        raise _impossible("groups.window_s", groups.window_s, "give seconds, 1 or more")
    if not 0 <= groups.hold_s <= 10:
        raise _impossible("groups.hold_s", groups.hold_s, "give seconds, 0 to 10")


def _impossible(key: str, value: object, mend: str) -> ConfigError:
    return ConfigError(f"{key}: {value} is not possible; {mend}")
