"""Whether an incident speaks: which letters its newest revision puts at the broker. Pure.

Rules
 1. An incident that another stands for (`group`) is silent. If its alert stands, one
    revision that names the group is published, and the topic is cleared.
 2. So is one that announced work covers (`maintenance`); where it outlasts the work, it
    speaks then.
 3. One that is held, because a group may still take it over, is silent so far.
 4. All others speak. A group speaks once for every district and ISP that it touches.
 5. What was never told is not told when it ends, either; the ledger has it.
 6. What becomes known of one that ended earlier is told while its alert still stands. Once
    that was cleared it does not come back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from server import payloads
from server.grouping import copies
from server.model import Incident

Letters = list[tuple[str, bytes]]


class Spoken(NamedTuple):
    """An incident that knows whether its alert stands, and what to publish in order."""

    incident: Incident
    letters: Letters


def speak(incident: Incident, *, held: bool, cleared: bool = False) -> Spoken:
    """What the newest revision of an incident says.

    Args:
        held: a group may still take it over.
        cleared: its alert stood resolved, and was cleared since.
    """
    if cleared:
        return Spoken(incident, [])
    if incident.firing and (incident.group is not None or incident.maintenance):
        if not incident.told:
            return Spoken(incident, [])
        clearing = [(topic, b"") for topic, _ in letters(incident)]
        return Spoken(replace(incident, told=False), [*letters(incident), *clearing])
    if not incident.told and (held or not incident.firing):
        return Spoken(incident, [])
    return Spoken(replace(incident, told=True), letters(incident))


def letters(incident: Incident) -> Letters:
    """The alert, wherever it is published."""
    return [payloads.alert(one) for one in (copies(incident) if incident.sites else [incident])]


def standing(incident: Incident) -> Letters:
    """What should stand retained of an incident that fires."""
    return letters(incident) if incident.told else []
