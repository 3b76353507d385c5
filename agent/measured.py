"""What the probes hand over and the window takes in. Knows only the wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent import wire

Family = Literal[4, 6]
"""IPv4 or IPv6."""


class Sample(NamedTuple):
    """One ICMP echo that was sent.

    ``sent_s`` is CLOCK_MONOTONIC in seconds; ``rtt_ms`` is None when no answer came
    within `agent.schedule.ECHO_TIMEOUT_S`, or when the kernel refused to send.
    """

    rung: wire.EchoRung
    target: str
    sent_s: float
    rtt_ms: float | None
    family: Family = 4


@dataclass(frozen=True, slots=True)
class Links:
    """The interfaces, and whether the default route's one has its carrier.

    ``carrier`` is None while no default route was ever seen.
    """

    by_name: Mapping[str, wire.Link]
    carrier: wire.Verdict | None


@dataclass(frozen=True, slots=True)
class AccessPoints:
    """The access points on the LAN, by configured name; which of them are this machine."""

    by_name: Mapping[str, wire.AccessPoint]
    own: frozenset[str] = frozenset()


Internet = wire.Dns | wire.Filter | wire.Ntp | wire.Web
OnSite = wire.Clients | AccessPoints | wire.Wifi | wire.Walk | wire.Host | Links
Section = Internet | OnSite


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a probe gave: a value, an error, both, or (no data) neither."""

    name: str
    value: Section | None
    error: str | None
    took_s: float
