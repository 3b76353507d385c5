"""What measuring costs a metered link, in bytes at IP level. Pure.

Echoes are counted as they were sent and answered. What the other probes take is estimated, and
rather too high than too low; MQTT is counted by the kernel (`agent.publish.traffic`).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import UnsetType

from agent import wire
from agent.config import Config
from agent.metered import Costs

CROSSING = ("dns", "filter", "web", "ntp", "walk")
"""The once-a-window probes that cross the link."""
FAR: tuple[wire.EchoRung, ...] = ("isp", "domestic", "world")
"""The rungs beyond the gateway."""

_ECHO_BYTES, _ECHO6_BYTES = 84, 104
_QUESTION_BYTES = 400
"""A question to a resolver and its answer, asked twice now and then."""
_PAGE_BYTES, _PAGE_TLS_BYTES = 1_500, 9_000
_NTP_BYTES = 4 * 2 * 76
_PATH_BYTES = 12_000
"""30 hops, three times, there and back."""
_READING_BYTES = 2_500
"""On its way to the server: compressed, over TLS, with PUBACK and ack."""
_TEST_HEADERS_RATIO = 1.1
"""Headers and acknowledgements of a test beside its payload."""


def of_probes(config: Config) -> dict[str, int]:
    """One run of each configured probe that crosses the link."""
    found: dict[str, int] = {}
    if config.dns is not None:
        resolvers = 1 if config.dns.compare_with is None else 2
        found["dns"] = len(config.dns.names) * resolvers * _QUESTION_BYTES
    if config.filter is not None:
        names = len(config.filter.must_resolve) + len(config.filter.must_be_filtered)
        found["filter"] = names * _QUESTION_BYTES
    if config.web is not None:
        found["web"] = _QUESTION_BYTES + _page(config.web.url)
    if config.ntp is not None:
        found["ntp"] = len(config.ntp.server) * (_NTP_BYTES + _QUESTION_BYTES)
    if config.walk is not None:
        found["walk"] = 2 * _QUESTION_BYTES + 3 * _PAGE_BYTES
    return found


def _page(url: str) -> int:
    return _PAGE_TLS_BYTES if urlsplit(url).scheme == "https" else _PAGE_BYTES


def of_window(reading: wire.Reading, config: Config) -> int:
    """What the probes of a window took, as its reading shows them to have run."""
    errors: Mapping[str, str] = {} if isinstance(reading.errors, UnsetType) else reading.errors
    took = sum(
        count
        for name, count in of_probes(config).items()
        if name in errors or not isinstance(getattr(reading, name), UnsetType)
    )
    paths = 0 if isinstance(reading.path, UnsetType) else len(reading.path)
    took += paths * _PATH_BYTES
    return took + _echoes(reading.ping, _ECHO_BYTES) + _echoes(reading.ping6, _ECHO6_BYTES)


def _echoes(ping: wire.Ping | UnsetType, size: int) -> int:
    found = [] if isinstance(ping, UnsetType) else [getattr(ping, rung) for rung in FAR]
    counts = [(one.sent, one.received) for one in found if not isinstance(one, UnsetType)]
    return size * sum(0 if isinstance(n, UnsetType) else n for pair in counts for n in pair)


def of_test(count_bytes: int) -> int:
    """A test of throughput with so much payload."""
    return int(count_bytes * _TEST_HEADERS_RATIO)


def costs(config: Config, echo_interval_s: float, *, has_ipv6: bool) -> Costs:
    """What measuring takes where nothing is slowed.

    Args:
        config: the windows as they are asked for.
        echo_interval_s: between two echoes to one target.
        has_ipv6: whether the targets are sent echoes over IPv6, too.
    """
    window_s = config.reading.window_s
    probes = of_probes(config)
    for name, table in (("filter", config.filter), ("walk", config.walk)):
        if table is not None:
            probes[name] = int(probes[name] * min(1.0, window_s / table.every_s))
    given = [getattr(config.targets, rung, None) for rung in FAR]
    targets = sum(1 if hosts == "auto" else len(hosts) for hosts in given if hosts is not None)
    return Costs(
        window_s=window_s,
        echo_interval_s=echo_interval_s,
        round=2 * targets * (_ECHO_BYTES + (_ECHO6_BYTES if has_ipv6 else 0)),
        probes=sum(probes.values()),
        reading=_READING_BYTES,
        keepalive_s=config.mqtt.keepalive_s,
    )
