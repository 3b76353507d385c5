"""The nouns of the server: sites, verdicts, incidents and the rules that judge.

Frozen values, standard library only. Times are seconds since 1970 (UTC) by the
server's clock unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

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
    SITE_FLAPPING = "site_flapping"
    GROUP_OUTAGE = "group_outage"


SEVERITY = {
    Kind.SITE_OFFLINE: "critical",
    Kind.SITE_DEGRADED: "warning",
    Kind.ACCESS_POINT_OFFLINE: "warning",
    Kind.AGENT_PROBLEM: "warning",
    Kind.SITE_FLAPPING: "warning",
    Kind.GROUP_OUTAGE: "critical",
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
    address: str = ""
    """Public or tunnel address that the centre pings; empty: it pings none."""
    access_points: tuple[str, ...] = ()
    """The access points that the site should have, by the names in its readings."""

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


Scope = Literal["site", "contract", "district", "isp"]
"""What a rule or a maintenance is for; in this order the most specific wins."""


@dataclass(frozen=True, slots=True)
class SiteTerm:
    """A site's row of the registry while it was valid: `valid_from` <= t < `valid_to`."""

    site: Site
    valid_from: float
    valid_to: float | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """The terms of a contract while they are valid."""

    id: str
    valid_from: float
    valid_to: float | None = None
    isp: str = ""
    floor_down_mbps: float | None = None
    floor_rtt_ms: float | None = None
    floor_loss_ratio: float | None = None
    availability_ratio: float | None = None
    """What is promised for a month."""
    grace_s: float = 0.0
    """An outage up to this long is excluded."""
    excludes: tuple[str, ...] = ("maintenance",)
    """What is not charged: ``maintenance``, ``power``."""
    price: float | None = None
    """For one site and month, in `currency`."""
    currency: str = "IDR"
    restitution: tuple[tuple[float, float], ...] = ()
    """Steps (availability ratio, share of the price): below the ratio, the share is due."""
    version: int = 1
    """Which import of the contract these terms are of; a report names it."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Announced work: what goes down meanwhile is not alerted."""

    id: str
    scope: Scope
    name: str  # the site, contract, district or ISP
    from_at: float
    to_at: float
    note: str = ""
    cancelled_at: float | None = None
    added_at: float = 0.0
    """When it was entered: before it began, or only afterwards."""


NoteKind = Literal["ack", "note", "dispute", "settled", "ticket"]


@dataclass(frozen=True, slots=True)
class Note:
    """What a person said of an incident; notes are added, never changed."""

    incident: str
    at: float
    who: str
    kind: NoteKind
    text: str = ""
    """The remark; of a ticket the ISP's reference."""
    responded_at: float | None = None
    restored_at: float | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What all notes of an incident come to: the last note of each kind, in short."""

    acknowledged: Note | None = None
    ticket: Note | None = None
    """The ISP's reference, and when it answered and had repaired it by its own account."""
    disputed: Note | None = None
    """Why somebody holds it to be wrong; None once that is settled."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One outage or trouble of a site, or of a group; each change raises `revision`."""

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
    group: str | None = None
    """The incident that stands for this one (a group's, or the site's flapping)."""
    sites: tuple[str, ...] = ()
    """The members of a group; empty where `site` is the only one."""
    places: tuple[tuple[str, str], ...] = ()
    """District and ISP of each of `sites`, in the same order."""
    dimension: str = ""
    """What the members share, such as ``isp telkom`` or ``power_area bitung-2``."""
    maintenance: bool = False
    """Announced work covers all its sites, or did when it ended: it is not alerted."""
    down: tuple[tuple[float, float | None], ...] | None = None
    """When there was no service, by the agent's own account; None: not known."""
    held_until: float = 0.0
    """Not alerted before: until then announced work covered it."""
    told: bool = False
    """An alert for it stands, or stood, at the broker."""
    why: str = ""
    """What this revision was made for, where that does not show by itself."""
    said: Said = field(default_factory=Said)
    """What people said of it."""

    @property
    def firing(self) -> bool:
        """Whether it still lasts."""
        return self.resolved_at is None

    def revised(self, **changes: object) -> Incident:
        """The next revision, with `changes`."""
        told = {"why": "", **changes}
        return replace(self, revision=self.revision + 1, **told)  # type: ignore[arg-type]  # the caller names fields

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
    floor_down_mbps: float = 0.0
    """Throughput below it in two tests running degrades; 0: not judged."""
    flap_start_ratio: float = 0.5
    """Weighted share of changes, over the last 20, from which a site flaps."""
    flap_stop_ratio: float = 0.25
    flap_window_s: float = 3600.0
    """Changes older than this count no more."""
    flap_rest_s: float = 900.0
    """A site whose status stood so long flaps no more; no outage is silent for longer."""


@dataclass(frozen=True, slots=True)
class GroupRules:
    """When sites went together. Every field is a key of ``[groups]``."""

    min_sites: int = 3
    """So many sites, or more, make a group."""
    ratio: float = 0.5
    """Share of the sites of a value that have to go."""
    window_s: float = 60.0
    """Within this time."""
    hold_s: float = 10.0
    """A site's own alert waits for a group no longer than this."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """How long the centre's own echoes to a site's address were answered, or were not."""

    site: str
    from_at: float
    to_at: float
    answered: bool
