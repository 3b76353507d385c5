"""The file's configuration with what the server's settings change of it. Pure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from msgspec import UnsetType
from msgspec.structs import asdict

from agent import wire
from agent.config import Config, ConfigError, Targets, onsite, targets_of, upkeep, values
from agent.config.table import Table
from agent.hotspot import AccessPoints

_PLACE = Path("settings")
"""Stands in an error where a file's own name stands."""


def overlaid(config: Config, settings: wire.Settings | None) -> Config:
    """What to follow: `settings` where they say something, else the file.

    Raises:
        ConfigError: a value that the file could not hold either.
    """
    if settings is None:
        return config
    changed = config
    if not isinstance(settings.window_s, UnsetType):
        changed = dataclasses.replace(
            changed, reading=dataclasses.replace(config.reading, window_s=settings.window_s)
        )
    if not isinstance(settings.mqtt, UnsetType) and not isinstance(settings.mqtt.url, UnsetType):
        changed = dataclasses.replace(
            changed, mqtt=dataclasses.replace(config.mqtt, url=_url(config, settings.mqtt.url))
        )
    if not isinstance(settings.targets, UnsetType):
        table = Table(_PLACE, "targets", {**_as_in_file(config.targets), **settings.targets})
        changed = dataclasses.replace(changed, targets=targets_of(table))
    if not isinstance(settings.metered, UnsetType):
        given = settings.metered.monthly_mb
        keys: dict[str, object] = {} if isinstance(given, UnsetType) else {"monthly_mb": given}
        metered = upkeep.metered(Table(_PLACE, "metered", keys), config.mqtt.keepalive_s)
        changed = dataclasses.replace(changed, metered=metered)
    if not isinstance(settings.access_points, UnsetType):
        points = _access_points(config, settings.access_points)
        changed = dataclasses.replace(changed, access_points=points)
    return changed


def _access_points(config: Config, given: wire.SettingsAccessPoints) -> AccessPoints | None:
    """The file's, with what the settings say; None where they name nobody any more."""
    keys: dict[str, object] = {}
    if config.access_points is not None:
        keys = {"addresses": dict(config.access_points.addresses), "by": config.access_points.by}
    keys |= {key: said for key, said in asdict(given).items() if not isinstance(said, UnsetType)}
    if keys.get("addresses") == {}:
        return None
    return onsite.access_points(Table(_PLACE, "access_points", keys))


def _url(config: Config, given: str) -> str:
    table = Table(_PLACE, "mqtt", {"url": given})
    url = table.need("url", values.broker_url, '"mqtts://broker.example:8883"')
    if config.mqtt.url.startswith("mqtts:") and not url.startswith("mqtts:"):
        raise ConfigError(f"{_PLACE}: mqtt.url: {url!r} gives up TLS; write it as mqtts://HOST")
    return url


def _as_in_file(targets: Targets | None) -> dict[str, object]:
    """The rungs that the file names, as it would write them."""
    if targets is None:
        return {}
    given = {rung: getattr(targets, rung) for rung in wire.ECHO_RUNGS}
    return {
        rung: hosts if isinstance(hosts, str) else list(hosts)
        for rung, hosts in given.items()
        if hosts is not None
    }


def risks(before: Config, after: Config) -> frozenset[str]:
    """What of a change could cut the agent off: ``broker``, and each rung with other targets.

    A rung that is only taken away risks nothing: it is absent, not failing.
    """
    found = {"broker"} if before.mqtt.url != after.mqtt.url else set()
    for rung in wire.ECHO_RUNGS:
        hosts = getattr(after.targets, rung, None)
        if hosts is not None and hosts != getattr(before.targets, rung, None):
            found.add(rung)
    return frozenset(found)
