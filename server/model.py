"""The nouns of the server: sites, verdicts, incidents and the rules that judge.

Frozen values, standard library only. Times are seconds since 1970 (UTC) by the
server's clock unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

UNREGISTERED = "-"
"""District and ISP of a site that the registry does not know."""


class Status(StrEnum):
    """The verdict on a site."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    UNKNOWN = "unknown"  # never heard from


class Kind(StrEnum):
    """What an incident is about."""

    SITE_OFFLINE = "site_offline"
    SITE_DEGRADED = "site_degraded"
    ACCESS_POINT_OFFLINE = "access_point_offline"
    AGENT_PROBLEM = "agent_problem"


SEVERITY = {
    Kind.SITE_OFFLINE: "critical",
    Kind.SITE_DEGRADED: "warning",
    Kind.ACCESS_POINT_OFFLINE: "warning",
    Kind.AGENT_PROBLEM: "warning",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One hotspot of the registry. `district` and `isp` are slugs, as in topics."""

    id: str
    name: str
    district: str
    isp: str
    contract: str = ""
    latitude: float | None = None
    longitude: float | None = None
    timezone: str = "Asia/Makassar"
    backhaul: str = ""
    power_area: str = ""
    retired: bool = False

    @property
    def registered(self) -> bool:
        """Whether the registry knows the site (and has not retired it)."""
        return self.district != UNREGISTERED and not self.retired


def unregistered(site: str) -> Site:
    """What stands in for a site that the registry does not know."""
    return Site(id=site, name=site, district=UNREGISTERED, isp=UNREGISTERED)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a site was away, how sure that is (0 to 1), and what shows it."""

    verdict: str = "unknown"  # power, link, isp, access_point, agent, unknown
    confidence: float = 0.0
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """One outage or trouble of one site; each change raises `revision`."""

    id: str
    kind: Kind
    site: str
    district: str
    isp: str
    title: str
    opened_at: float  # last sign of life before
    detected_at: float  # when it was confirmed
    revision: int = 1
    resolved_at: float | None = None
    reasons: tuple[str, ...] = ()
    cause: Cause = field(default_factory=Cause)

    @property
    def firing(self) -> bool:
        """Whether it still lasts."""
        return self.resolved_at is None

    def revised(self, **changes: object) -> Incident:
        """The next revision, with `changes`."""
        return replace(self, revision=self.revision + 1, **changes)  # type: ignore[arg-type]  # the caller names fields

    def resolved(self, at: float, cause: Cause) -> Incident:
        """The revision that ends it: never before its detection, though our clock be set back."""
        return self.revised(resolved_at=max(at, self.detected_at), cause=cause)


@dataclass(frozen=True, slots=True)
class Rules:
    """When a site is offline or degraded. Every field is a key of ``[health]``."""

    offline_confirm_s: float = 30.0
    """From a will to offline, unless a newer session or a reading comes."""
    silence_windows: float = 2.5
    """Windows without a sign of life after which a site is offline."""
    planned_s: float = 300.0
    """How long a clean upgrade or reboot may take."""
    default_window_s: float = 60.0
    """Window of a site whose first reading has not come yet."""
    raise_windows: int = 3
    """Windows in a row above a threshold that make a site degraded."""
    clear_windows: int = 5
    """Windows in a row beyond the clear threshold that end it."""
    min_echoes: int = 10
    """Echoes a window needs before its loss and RTT are judged."""
    loss_raise_ratio: float = 0.05
    loss_clear_ratio: float = 0.02
    rtt_raise_ms: float = 150.0
    rtt_clear_ms: float = 100.0
    temperature_raise_c: float = 80.0
    temperature_clear_c: float = 75.0
