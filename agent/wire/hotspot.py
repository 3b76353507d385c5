"""The sections of a reading that tell of the hotspot: its users, its radio, a user's walk.

No address of a device has a field here: counts and configured names alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from agent.wire.base import Count, NotNegative, Part, Ratio, Text

Band = Literal["2.4", "5", "6", "60"]
Channel = Annotated[int, Meta(ge=1, le=253)]
Step = Literal["associate", "lease", "portal", "pass", "web", "leave"]

STEPS: tuple[Step, ...] = ("associate", "lease", "portal", "pass", "web", "leave")
"""What a user does, in this order."""


class Radio(Part, frozen=True):
    """The users of one access point's radio.

    Signal is how the access point hears them; ``retry_ratio`` is the share of retries in all
    transmissions to them since the last window.
    """

    associated: Count
    band: Band | UnsetType = UNSET
    active: Count | UnsetType = UNSET
    signal_p50_dbm: float | UnsetType = UNSET
    signal_p10_dbm: float | UnsetType = UNSET
    retry_ratio: Ratio | UnsetType = UNSET


class Clients(Part, frozen=True):
    """People on the hotspot, as counts; ``source`` says how they were counted.

    ``active`` had traffic within 60 s. ``radios`` is by interface of this machine.
    """

    source: Text | UnsetType = UNSET
    associated: Count | UnsetType = UNSET
    active: Count | UnsetType = UNSET
    radios: dict[str, Radio] | UnsetType = UNSET


class AccessPoint(Part, frozen=True):
    """One access point on the site's LAN."""

    reachable: bool | UnsetType = UNSET
    rtt_ms: NotNegative | UnsetType = UNSET
    clients: Count | UnsetType = UNSET


class Heard(Part, frozen=True):
    """One radio that announces the hotspot, as it was heard in a scan.

    ``load_ratio`` is the share of time that its channel was busy.
    """

    signal_dbm: float
    band: Band | UnsetType = UNSET
    channel: Channel | UnsetType = UNSET
    load_ratio: Ratio | UnsetType = UNSET


class Wifi(Part, frozen=True):
    """What a scan for the hotspot's SSID heard.

    ``expected`` and ``foreign`` count its radios by whether they are configured (a
    foreign one may be an evil twin); both are absent where none is. ``strongest`` is of
    the expected ones where there are any, ``access_points`` by configured name, and
    ``others`` counts the radios of other networks.
    """

    seen: bool
    expected: Count | UnsetType = UNSET
    foreign: Count | UnsetType = UNSET
    others: Count | UnsetType = UNSET
    strongest: Heard | UnsetType = UNSET
    access_points: dict[str, Heard] | UnsetType = UNSET


class Walk(Part, frozen=True):
    """One walk of a user: onto the hotspot, through its portal, to the web, and off again.

    ``steps_ms`` has the time of each step that was done; ``portal`` says whether a login
    page stood in between.
    """

    ok: bool
    steps_ms: dict[Step, NotNegative]
    portal: bool | UnsetType = UNSET
    first_failure: Step | UnsetType = UNSET
