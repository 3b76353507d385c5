"""The file's configuration with what the server's settings change of it. Pure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from msgspec import UnsetType

from agent import wire
from agent.config import Config, ConfigError, Targets, targets_of, values
from agent.config.table import Table

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
    return changed


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
