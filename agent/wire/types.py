"""The payload types of the wire format, and what each field may hold."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent.wire.base import (
    MAX_READINGS,
    Count,
    EchoRung,
    NotNegative,
    Part,
    Ratio,
    Rung,
    Seq,
    SiteId,
    Text,
    Time,
    Uuid,
    Verdict,
    Version,
    WindowSeconds,
)
from agent.wire.hotspot import AccessPoint, Clients, Walk, Wifi
from agent.wire.internet import Dns, Filter, Ntp, Path, Web


class Ladder(Part, frozen=True):
    """One verdict a rung; a rung that was not measured is absent."""

    carrier: Verdict | UnsetType = UNSET
    gateway: Verdict | UnsetType = UNSET
    isp: Verdict | UnsetType = UNSET
    domestic: Verdict | UnsetType = UNSET
    world: Verdict | UnsetType = UNSET
    dns: Verdict | UnsetType = UNSET
    web: Verdict | UnsetType = UNSET
    first_failure: Rung | UnsetType = UNSET


class Echoes(Part, frozen=True):
    """ICMP echoes of one rung in one window.

    Round-trip times follow RFC 2681, loss RFC 7680, PDV RFC 5481 (RTT minus the
    window's minimum). Times are absent when nothing was received.
    """

    sent: Count | UnsetType = UNSET
    received: Count | UnsetType = UNSET
    loss_ratio: Ratio | UnsetType = UNSET
    rtt_min_ms: NotNegative | UnsetType = UNSET
    rtt_p50_ms: NotNegative | UnsetType = UNSET
    rtt_p95_ms: NotNegative | UnsetType = UNSET
    rtt_max_ms: NotNegative | UnsetType = UNSET
    pdv_p95_ms: NotNegative | UnsetType = UNSET


class Ping(Part, frozen=True):
    """Echo statistics by rung."""

    gateway: Echoes | UnsetType = UNSET
    isp: Echoes | UnsetType = UNSET
    domestic: Echoes | UnsetType = UNSET
    world: Echoes | UnsetType = UNSET


class Dead(Part, frozen=True):
    """A silence on a rung: from the first lost echo to the first answer."""

    rung: EchoRung
    start: Time = msgspec.field(name="from")
    end: Time | None = msgspec.field(name="to")


class Clock(Part, frozen=True):
    """Whether the kernel calls its clock synchronised, and since how long."""

    synced: bool
    age_s: NotNegative | UnsetType = UNSET


class Link(Part, frozen=True):
    """One network interface: state, and rates over the window.

    ``rx_peak_mbps`` and ``tx_peak_mbps`` are the highest window's since midnight UTC.
    """

    up: bool | UnsetType = UNSET
    speed_mbps: NotNegative | UnsetType = UNSET
    rx_mbps: NotNegative | UnsetType = UNSET
    tx_mbps: NotNegative | UnsetType = UNSET
    rx_peak_mbps: NotNegative | UnsetType = UNSET
    tx_peak_mbps: NotNegative | UnsetType = UNSET
    rx_errors: Count | UnsetType = UNSET
    rx_drops: Count | UnsetType = UNSET


class Throughput(Part, frozen=True):
    """One throughput test; ``latency_ms`` is of the idle link, before it."""

    method: Text | UnsetType = UNSET
    down_mbps: NotNegative | UnsetType = UNSET
    up_mbps: NotNegative | UnsetType = UNSET
    latency_ms: NotNegative | UnsetType = UNSET
    latency_loaded_ms: NotNegative | UnsetType = UNSET
    server: Text | UnsetType = UNSET
    bytes: Count | UnsetType = UNSET


class Metered(Part, frozen=True):
    """The month's bytes of a metered link, all of them the agent's own, at IP level.

    ``month`` is one of UTC, absent while no clock tells it; ``slowed`` is in the order in
    which things are slowed.
    """

    used_bytes: Count
    budget_bytes: Count
    month: Text | UnsetType = UNSET
    slowed: list[Literal["tests", "echoes", "probes", "windows"]] | UnsetType = UNSET


class Host(Part, frozen=True):
    """The device itself. What ends in ``_seen`` happened at some time since it started."""

    cpu_ratio: Ratio | UnsetType = UNSET
    memory_ratio: Ratio | UnsetType = UNSET
    disk_ratio: Ratio | UnsetType = UNSET
    temperature_c: float | UnsetType = UNSET
    undervoltage: bool | UnsetType = UNSET
    undervoltage_seen: bool | UnsetType = UNSET
    throttled: bool | UnsetType = UNSET
    throttled_seen: bool | UnsetType = UNSET
    storage_errors: Count | UnsetType = UNSET
    storage_read_only: bool | UnsetType = UNSET
    storage_worn_ratio: Ratio | UnsetType = UNSET
    storage_spare_blocks: Literal["normal", "warning", "urgent"] | UnsetType = UNSET
    last_shutdown_clean: bool | UnsetType = UNSET
    agent_restarts: Count | UnsetType = UNSET
    spool_readings: Count | UnsetType = UNSET
    spool_dropped: Count | UnsetType = UNSET


class Reading(Part, frozen=True):
    """What one window showed. ``taken_at`` is the window's end."""

    seq: Seq
    boot: Text
    taken_at: Time
    uptime_s: NotNegative
    clock: Clock
    window_s: WindowSeconds
    agent: Text
    ladder: Ladder
    settings_revision: Count | UnsetType = UNSET
    ping: Ping | UnsetType = UNSET
    ping6: Ping | UnsetType = UNSET
    dead: list[Dead] | UnsetType = UNSET
    dns: Dns | UnsetType = UNSET
    filter: Filter | UnsetType = UNSET
    web: Web | UnsetType = UNSET
    ntp: Ntp | UnsetType = UNSET
    path: list[Path] | UnsetType = UNSET
    links: dict[str, Link] | UnsetType = UNSET
    clients: Clients | UnsetType = UNSET
    access_points: dict[str, AccessPoint] | UnsetType = UNSET
    wifi: Wifi | UnsetType = UNSET
    walk: Walk | UnsetType = UNSET
    throughput: Throughput | UnsetType = UNSET
    metered: Metered | UnsetType = UNSET
    host: Host | UnsetType = UNSET
    errors: dict[str, str] | UnsetType = UNSET


class Envelope(Part, frozen=True):
    """One ``readings`` message, its readings not yet decoded."""

    v: Version
    site: SiteId
    stream: Uuid
    sent_boot: Text
    sent_uptime_s: NotNegative
    oldest: Seq
    readings: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MAX_READINGS)]


class Presence(Part, frozen=True):
    """A session lives, or ended. The will carries ``reason`` ``lost``.

    ``problem`` says what is wrong with the agent itself, such as its safe mode. With
    ``keepalive_s`` the broker publishes the will 1.5 times that after it last heard anything.
    """

    v: Version
    site: SiteId
    state: Literal["online", "offline"]
    session: Uuid
    at: Time
    agent: Text | UnsetType = UNSET
    boot: Text | UnsetType = UNSET
    uptime_s: NotNegative | UnsetType = UNSET
    settings_revision: Count | UnsetType = UNSET
    reason: Literal["lost", "stopped", "upgrade", "reboot"] | UnsetType = UNSET
    problem: Text | UnsetType = UNSET
    keepalive_s: NotNegative | UnsetType = UNSET


class Ack(Part, frozen=True):
    """Every reading of ``stream`` up to ``through`` is stored or known lost."""

    v: Version
    stream: Uuid
    through: Count


class SettingsMqtt(Part, frozen=True):
    """Another broker."""

    url: Text | UnsetType = UNSET


class SettingsAccessPoints(Part, frozen=True):
    """The access points on the LAN: IPv4 addresses by name, and ``icmp`` or ``arp``."""

    addresses: dict[str, Text] | UnsetType = UNSET
    by: Text | UnsetType = UNSET


class SettingsMetered(Part, frozen=True):
    """Another budget of the month for a metered link."""

    monthly_mb: Count | UnsetType = UNSET


class Settings(Part, frozen=True):
    """What the agent should do differently from its file; keys are as there."""

    v: Version
    site: SiteId
    revision: Count
    window_s: WindowSeconds | UnsetType = UNSET
    mqtt: SettingsMqtt | UnsetType = UNSET
    targets: dict[str, list[Text] | Text] | UnsetType = UNSET
    metered: SettingsMetered | UnsetType = UNSET
    access_points: SettingsAccessPoints | UnsetType = UNSET


class Command(Part, frozen=True):
    """One thing to do now, before ``expires_at``."""

    v: Version
    site: SiteId
    id: Uuid
    do: Text
    expires_at: Time
    args: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


class Reply(Part, frozen=True):
    """What came of a command or of settings (``id`` is then ``settings-7``).

    ``v`` and ``site`` are absent at most from an ``echo``: the topic names the site.
    """

    id: Text
    v: Version | UnsetType = UNSET
    site: SiteId | UnsetType = UNSET
    ok: bool | UnsetType = UNSET
    result: dict[str, object] | UnsetType = UNSET
    echo: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name in ("v", "site"):
            if self.echo is not True and getattr(self, name) is UNSET:
                raise ValueError(f"Object missing required field `{name}`")
