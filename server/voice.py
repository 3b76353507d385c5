"""Whether an incident speaks: which letters its newest revision puts at the broker. Pure.

Rules
 1. An incident that another stands for (`group`) is silent, and so is one that announced
    work covers (`maintenance`). What outlasts the other, or the work, speaks then.
 2. One that is held is silent so far: because a group may still take it over, or since
    it was found while ingest was not caught up, and may be over.
 3. All others speak. A group speaks once for every district and ISP that it touches.
 4. What was told once is told to its end, whatever covers it meanwhile: its revisions say
    what does. Who pairs alerts by their id is left with none that never ended.
 5. What was never told is not told when it ends, either; the ledger has it.
 6. What becomes known of one that ended earlier is told while its alert still stands. Once
    that was cleared it does not come back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from server import payloads
from server.grouping import copies
from server.health import Health
from server.model import Incident, Kind

Letters = list[tuple[str, bytes]]


class Spoken(NamedTuple):
    """An incident that knows whether its alert stands, and what to publish in order."""

    incident: Incident
    letters: Letters


def speak(incident: Incident, *, held: bool, cleared: bool = False) -> Spoken:
    """What the newest revision of an incident says.

    Args:
        held: a group may still take it over, or ingest is not caught up.
        cleared: its alert stood resolved, and was cleared since.
    """
    silent = held or _covered(incident) or not incident.firing
    if cleared or (not incident.told and silent):
        return Spoken(incident, [])
    return Spoken(replace(incident, told=True), letters(incident))


def waits(incident: Incident) -> bool:
    """Whether one that fires waits for nothing but that ingest is caught up."""
    grouping = incident.kind is Kind.SITE_OFFLINE  # `server.groupwork` lets these go
    return not (incident.told or _covered(incident) or grouping)


def _covered(incident: Incident) -> bool:
    return incident.group is not None or incident.maintenance


def still_lasts(incident: Incident, health: Health) -> bool:
    """Whether one that was found before we were caught up is known to last: its site has spoken."""
    return incident.kind is Kind.SITE_FLAPPING or health.last_reading_at > health.patience_from


def letters(incident: Incident) -> Letters:
    """The alert, wherever it is published."""
    return [payloads.alert(one) for one in (copies(incident) if incident.sites else [incident])]


def standing(incident: Incident) -> Letters:
    """What should stand retained of an incident that fires."""
    return letters(incident) if incident.told else []
