"""What a step of the state machine says has happened. Pure."""

from __future__ import annotations

from typing import NamedTuple

from server.model import Cause, Kind


class Changed(NamedTuple):
    """The verdict, its reasons, or something else that the state topic shows changed."""


class Opened(NamedTuple):
    """An incident begins."""

    kind: Kind
    opened_at: float
    detected_at: float
    reasons: tuple[str, ...]
    cause: Cause | None = None


class Amended(NamedTuple):
    """An open incident has other reasons."""

    kind: Kind
    reasons: tuple[str, ...]
    cause: Cause | None = None


class Resolved(NamedTuple):
    """An incident ends."""

    kind: Kind
    resolved_at: float
    cause: Cause | None = None


Event = Changed | Opened | Amended | Resolved
