"""The server's configuration: TOML to frozen values. Unknown keys are refused."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import msgspec

from server.model import Rules

DEFAULT_PATH = Path("/etc/pantau/server.toml")


class ConfigError(Exception):
    """A configuration that cannot be used: names file, key and mend."""


@dataclass(frozen=True, slots=True)
class Mqtt:
    """How to reach the broker."""

    url: str = "mqtt://127.0.0.1:1883"
    version: Literal["auto", "5", "3.1.1"] = "auto"
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
class Config:
    """All of ``server.toml``."""

    mqtt: Mqtt = field(default_factory=Mqtt)
    store: StoreConfig = field(default_factory=StoreConfig)
    health: Rules = field(default_factory=Rules)
    alerts: Alerts = field(default_factory=Alerts)


_SECTIONS: dict[str, type] = {
    "mqtt": Mqtt,
    "store": StoreConfig,
    "health": Rules,
    "alerts": Alerts,
}
_FILES = ("ca_file", "cert_file", "key_file", "password_file")


def load(path: Path) -> Config:
    """The configuration in `path`.

    Raises:
        ConfigError: it cannot be read, or something in it cannot be meant.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; see examples/server.toml") from None
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read: {err}") from None
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: not TOML: {err}") from None
    _refuse_unknown(path, table)
    if "version" in table.get("mqtt", {}):
        table["mqtt"]["version"] = str(table["mqtt"]["version"])
    try:
        config = msgspec.convert(table, Config, dec_hook=_path)
    except msgspec.ValidationError as err:
        text, _, place = str(err).partition(" - at ")
        raise ConfigError(f"{path}: {place.strip('`$.') or 'file'}: {text.lower()}") from None
    _check(path, config)
    return config


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"Expected `str`, got `{type(value).__name__}`")


def _refuse_unknown(path: Path, table: dict[str, object]) -> None:
    for section, content in table.items():
        if section not in _SECTIONS:
            known = ", ".join(_SECTIONS)
            raise ConfigError(f"{path}: unknown section [{section}]; there are {known}")
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {section} must be a section, written [{section}]")
        names = [one.name for one in fields(_SECTIONS[section])]
        for key in content:
            if key not in names:
                raise ConfigError(
                    f"{path}: {section}.{key}: unknown key; [{section}] takes {', '.join(names)}"
                )


def _check(path: Path, config: Config) -> None:
    def refuse(key: str, text: str) -> None:
        raise ConfigError(f"{path}: {key}: {text}")

    mqtt = config.mqtt
    if not mqtt.url.startswith(("mqtt://", "mqtts://")):
        refuse("mqtt.url", f"{mqtt.url!r} must begin with mqtt:// or mqtts://")
    if not 1 <= mqtt.keepalive_s <= 3600:
        refuse("mqtt.keepalive_s", f"{mqtt.keepalive_s} must be 1 to 3600")
    for name in _FILES:
        file = getattr(mqtt, name)
        if file is not None and not file.is_file():
            refuse(f"mqtt.{name}", f"no such file: {file}")
    if (mqtt.cert_file is None) != (mqtt.key_file is None):
        refuse("mqtt.cert_file", "cert_file and key_file belong together; give both or none")
    if not config.store.url.startswith("sqlite:///"):
        refuse("store.url", f"{config.store.url!r} must begin with sqlite:///")
    for one in fields(Rules):
        value = getattr(config.health, one.name)
        if value <= 0:
            refuse(f"health.{one.name}", f"{value} must be above 0")
    if config.alerts.resolved_retain_s < 0:
        refuse("alerts.resolved_retain_s", "must not be negative")
    _check_hysteresis(refuse, config.health)


def _check_hysteresis(refuse: object, rules: Rules) -> None:
    assert callable(refuse)
    for name in ("loss", "rtt", "temperature"):
        unit = {"loss": "ratio", "rtt": "ms", "temperature": "c"}[name]
        above, clear = f"{name}_raise_{unit}", f"{name}_clear_{unit}"
        if getattr(rules, clear) > getattr(rules, above):
            refuse(f"health.{clear}", f"must not be above {above}")
