"""What every payload is built from: kinds of values, limits, and `Part`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

VERSION: Literal[1] = 1
MAX_PAYLOAD_BYTES = 256 * 1024
"""Largest payload after decompression; more is quarantined unread."""
MAX_READINGS = 100
"""Most readings in one message."""
MAX_SEQ = 2**63 - 1

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"
SITE_PATTERN = r"^[a-z0-9][a-z0-9-]{1,62}\Z"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z\Z"

Uuid = Annotated[str, Meta(pattern=_UUID)]
SiteId = Annotated[str, Meta(pattern=SITE_PATTERN)]
Time = Annotated[str, Meta(pattern=_TIME)]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Version = Literal[1]
Seq = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
Count = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
WindowSeconds = Annotated[float, Meta(ge=1, le=3600)]
Verdict = Literal["ok", "fail"]
Rung = Literal["carrier", "gateway", "isp", "domestic", "world", "dns", "web"]
EchoRung = Literal["gateway", "isp", "domestic", "world"]

RUNGS: tuple[Rung, ...] = ("carrier", "gateway", "isp", "domestic", "world", "dns", "web")
"""The ladder, lowest rung first; ``first_failure`` is the lowest that fails."""
ECHO_RUNGS: tuple[EchoRung, ...] = ("gateway", "isp", "domestic", "world")
"""The rungs that are judged by ICMP echo."""


class Invalid(ValueError):
    """A payload that breaks the contract; the text says what and where."""


class Part(Struct, omit_defaults=True, frozen=True, kw_only=True):
    """Base of every payload: absent fields stay absent when encoded."""
