"""The sections of a reading that tell of the internet: names, web, time, and the way there."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from agent.wire.base import Count, NotNegative, Part, Rung, Text, Time

DnsOutcome = Literal[
    "answer", "nxdomain", "servfail", "refused", "empty", "garbage", "timeout", "unreachable"
]
"""What came of a question: an address, a no (RFC 1035, 4.1.1), no address, or no answer."""


class ComparedDns(Part, frozen=True):
    """The same names, asked of another resolver; ``system`` is the system's."""

    resolver: Text
    ok: bool
    outcome: DnsOutcome | UnsetType = UNSET
    time_ms: NotNegative | UnsetType = UNSET


class Dns(Part, frozen=True):
    """One name resolution, and what another resolver made of it."""

    ok: bool | UnsetType = UNSET
    time_ms: NotNegative | UnsetType = UNSET
    outcome: DnsOutcome | UnsetType = UNSET
    compared: ComparedDns | UnsetType = UNSET


FilterManner = Literal["open", "answer", "cname", "nxdomain", "refused", "empty"]


class FilteredName(Part, frozen=True):
    """A name under the filter: whether that is as it should be, and how it is filtered.

    ``open`` is not filtered; ``answer`` and ``cname`` lead to a page of the filter.
    """

    ok: bool
    how: FilterManner


class Filter(Part, frozen=True):
    """A look at the DNS filter; a name without a usable answer is absent."""

    wrong: Count
    names: dict[str, FilteredName]


class Web(Part, frozen=True):
    """One fetch of a page that answers 204; ``portal`` when something else did.

    ``first_byte_ms`` runs from the request to the answer's first byte, ``time_ms`` from the
    name's lookup to the status line. ``failure`` names the step that failed.
    """

    ok: bool | UnsetType = UNSET
    status: Annotated[int, Meta(ge=100, le=999)] | UnsetType = UNSET
    time_ms: NotNegative | UnsetType = UNSET
    portal: bool | UnsetType = UNSET
    first_byte_ms: NotNegative | UnsetType = UNSET
    failure: Literal["name", "connect", "tls", "timeout", "answer"] | UnsetType = UNSET


class Ntp(Part, frozen=True):
    """Offset and delay against a time server (RFC 5905), of a burst's nearest sample."""

    offset_ms: float | UnsetType = UNSET
    delay_ms: NotNegative | UnsetType = UNSET
    server: Text | UnsetType = UNSET
    stratum: Annotated[int, Meta(ge=1, le=15)] | UnsetType = UNSET
    samples: Count | UnsetType = UNSET


class Hop(Part, frozen=True):
    """One hop of a path; without an address when nobody answered."""

    ttl: Annotated[int, Meta(ge=1, le=255)]
    address: Text | UnsetType = UNSET
    rtt_ms: NotNegative | UnsetType = UNSET
    foreign: bool | UnsetType = UNSET


class Path(Part, frozen=True):
    """The way to one target, traced at ``at``.

    ``stops_at`` is the last hop that answered, absent when none did; ``foreign_hop``
    whether one lies in a foreign prefix, absent where no such prefix is known.
    """

    target: Text
    at: Time
    why: Literal["failure", "daily", "command"]
    reached: bool
    hops: list[Hop]
    rung: Rung | UnsetType = UNSET
    address: Text | UnsetType = UNSET
    stops_at: Count | UnsetType = UNSET
    foreign_hop: bool | UnsetType = UNSET
