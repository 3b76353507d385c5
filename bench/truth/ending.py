"""Whether what was told ended when its event did, and was told once. Pure.

How long an incident may last beyond its event, from health and from physics:

1. An outage ends with the first live reading: an agent waits `RECONNECT_S` for its next
   connection at most, and a reading comes within 2.5 windows of that.
2. A trouble ends after five windows without it. The one in which the event ended may have
   been the last to show it, so six pass; and the reading of the last has to come.
3. Both begin anew with each breakage of the centre that falls into that time, and with
   whatever else strikes the site in it.
4. Nothing ends sooner than its event: who is cut, without power or hung sends nothing, and
   who has lost echoes all the while has no five windows without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.truth.truth import CAUGHT_UP_S, Absences, Expected

LATE_S = 15.0
"""A confirmation may be decided this long after the event ended, and a group told."""
RECONNECT_S = 60.0
"""An agent waits this long for its next connection at most."""
EARLY_S = 2.0
"""The simulator writes down what it did within this."""
_OUTAGES = ("site_offline", "group_outage")

Json = dict[str, Any]
Played = dict[str, tuple[float, float | None]]
"""When each event really began and ended, seconds since 1970."""
Strike = tuple[str, float, float]
"""An event, its begin and its end."""


@dataclass(frozen=True)
class Heard:
    """One alert as it came over MQTT at `at` (seconds since 1970)."""

    at: float
    alert: Json


@dataclass(frozen=True)
class Watch:
    """How the run was watched.

    Attributes:
        ends: when the ledger was read, seconds since 1970.
        absences: when the centre was broken, in order, on the same clock.
    """

    window_s: float
    ends: float
    absences: Absences = ()


def seconds(text: str) -> float:
    """RFC 3339 to seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def patience_s(incident: str, window_s: float) -> float:
    """How long an incident of that kind may last beyond its event (rules 1 and 2)."""
    if incident in _OUTAGES:
        return RECONNECT_S + 2.5 * window_s
    return 6 * window_s + LATE_S


def strikes(expected: Iterable[Expected], played: Played) -> dict[str, list[Strike]]:
    """What struck each site, and when."""
    found: dict[str, list[Strike]] = {}
    for one in expected:
        if one.event in played:
            began, ended = played[one.event]
            for site in one.sites:
                strike = one.event, began, float("inf") if ended is None else ended
                found.setdefault(site, []).append(strike)
    return found


def others(one: Expected, incident: Json, struck: dict[str, list[Strike]]) -> Absences:
    """When anything else struck the site of an incident; none of it counts for a group.

    A group ends once half of its members are back, whatever a few of them suffer later.
    """
    if incident["kind"] == "group_outage":
        return []
    spans = (strike for site in incident["sites"] for strike in struck.get(site, ()))
    return [(began, ended) for event, began, ended in spans if event != one.event]


def over_by(ended: float, patience: float, disturbed: Absences) -> float:
    """By when it has to be over (rule 3)."""
    by = ended + patience
    for began, over in sorted(disturbed):
        if began <= by and over + CAUGHT_UP_S >= ended:
            by = max(by, over + CAUGHT_UP_S + patience)
    return by


def after(
    one: Expected,
    incident: Json,
    heard: Sequence[Heard],
    span: tuple[float, float | None],
    watch: Watch,
    disturbed: Absences = (),
) -> Iterator[tuple[str, str]]:
    """What is wrong with the end of an incident of that event: ``unresolved`` or ``early``.

    Args:
        heard: every publication of it, in order.
        span: when the event began and ended.
        disturbed: what else struck the site, see `others`.
    """
    _, ended = span
    name = f"{incident['kind']} {incident['id']}: {one.event} {one.what}"
    patience = patience_s(incident["kind"], watch.window_s)
    if incident["resolved_at"] is None:
        if ended is None:
            return
        by = over_by(ended, patience, [*watch.absences, *disturbed])
        if by < watch.ends:
            yield "unresolved", f"{name}, {watch.ends - ended:.0f} s after its end"
        return
    resolved = seconds(incident["resolved_at"])
    if ended is None:
        yield "early", f"{name}, which never ended"
    elif resolved < ended - EARLY_S:
        yield "early", f"{name}, {ended - resolved:.0f} s before its end"
    untold = heard and heard[-1].alert["status"] == "firing"
    if untold and over_by(resolved, LATE_S, watch.absences) < watch.ends:
        yield "unresolved", f"{name}, in the ledger it is and nobody was told"


def _covered(incident: Json, heard: Iterable[Heard]) -> bool:
    """Whether a group or a flapping took it over, at any time that is known."""
    known = [incident, *incident.get("revisions", ()), *(h.alert for h in heard)]
    return any(revision.get("group") for revision in known)


def too_many(
    one: Expected,
    incidents: Sequence[Json],
    heard: Sequence[Heard],
    span: tuple[float, float | None],
    watch: Watch,
) -> Iterator[str]:
    """Who was told more than once of one event.

    Of a single site that is more than one id of the kind, whatever became of the centre: what
    is open stays open. Of a group it is a second group about one of its sites, or a member that is
    told alone beside it; for both the centre has to have been whole all the while, since
    everybody has 2.5 windows again after each breakage, and a group is found anew.

    Args:
        incidents: those of the ledger that belong to the event and are of a fitting kind.
        heard: the alerts that belong to it, of a fitting kind or of a member alone.
    """
    began, ended = span
    group = one.incident == "group_outage"
    over = float("inf") if ended is None else ended
    if group and any(
        at <= over + LATE_S and to + CAUGHT_UP_S + 2.5 * watch.window_s >= began
        for at, to in watch.absences
    ):
        return
    told: dict[str, set[str]] = {}
    fitting = [h.alert for h in heard if h.alert["kind"] == one.incident]
    for item in [*incidents, *fitting]:
        for site in set(item["sites"]) & set(one.sites):
            told.setdefault(site, set()).add(item["id"])
    for ids in sorted({tuple(sorted(ids)) for ids in told.values() if len(ids) > 1}):
        yield f"{one.event} {one.what}: {len(ids)} of {one.incident}, {', '.join(ids)}"
    if not group or not incidents:
        return
    alone: dict[str, list[Heard]] = {}
    for h in heard:
        if h.alert["kind"] == "site_offline":
            alone.setdefault(h.alert["id"], []).append(h)
    for name, times in sorted(alone.items()):
        # Told before the group was, it is handed over; who is still away after it, comes alone.
        if not _covered(times[0].alert, times) and times[0].at <= over:
            yield f"{one.event} {one.what}: {times[0].alert['sites'][0]} alone, too, {name}"
