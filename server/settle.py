"""Looks at ended outages again, once what the gap left behind has come.

Rules
 1. An outage that has ended is looked at again when nothing more came of its site for 10 s:
    no part of its past that was not known before, and no other end of an outage. What still has
    to be looked at stands in the store, so that a restart forgets nothing.
 2. The look takes all that is stored of the gap: the readings before, in and after it, who of
    the site's neighbours went in the same minutes, and what the witness saw. It asks nothing of
    the order in which these came, so that looking twice says nothing twice.
 3. A cause that changes, or becomes surer, or has more evidence is one more revision, with its
    reason. So are the times without service by the agent's own account. A group that is over
    follows the causes of its members.
 4. While an outage lasts, its neighbours and the witness are asked now and then (see
    `server.lasting`). Site and neighbours are taken as the registry had the site when it went.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from agent.wire import decode_reading
from server import causes, lasting, review, terms, timeline
from server.draft import Draft
from server.model import Cause, Incident, Kind, Site, Witnessed
from server.others import Beside
from server.review import Facts, Told
from server.store import Store, Unsettled
from server.timeline import Span

QUIET_S = 10.0
"""Rule 1."""
AT_ONCE = 4
"""Sites a step: thousands may come back at once, and live readings must not wait for them."""
_SAME_MINUTES_S = 60.0
_DIMENSIONS = ("isp", "backhaul", "power_area", "district")
_EDGE_S = 5.0
_LATE_S = 1.0
_DAY_S = 86_400.0
_LONGEST_WINDOW_S = 3600.0

Down = tuple[tuple[float, float | None], ...]


def step(draft: Draft, store: Store, sites: Mapping[str, Site], due: Iterable[Unsettled]) -> None:
    """Look at these sites again, within a transaction."""
    revised: dict[str, Incident] = {}
    for one in due:
        for incident in store.ended(one.site, one.from_at - _slack_s(), one.to_at + _slack_s()):
            after = _again(incident, store, sites)
            if after is not None:
                draft.remark(after)
                revised[after.id] = after
    for group in sorted({one.group for one in revised.values() if one.group}):
        _follow(draft, store, group, revised)


def ask(draft: Draft, store: Store, sites: Mapping[str, Site], due: Iterable[Incident]) -> None:
    """Rule 4: of outages that last, within a transaction."""
    for one in due:
        current = draft.firing(one.site, one.kind)
        newest = next(store.told(one.site, math.inf, math.inf), None)
        if current is None or current.id != one.id:
            continue
        before = None
        window_s = 0.0
        if newest is not None:
            stream, row = newest
            before = Told(stream, row.taken_at, decode_reading(row.body).reading)
            window_s = before.reading.window_s
        facts = Facts(one.opened_at, None, before, beside=_beside(one, window_s, store, sites))
        facts = _witnessed(facts, store.witnessed(one.site, one.detected_at, math.inf))
        cause = review.judge(facts)
        if lasting.says_more(current.cause, cause):
            why = f"while it lasts: {current.cause.verdict} became {cause.verdict}"
            draft.remark(current.revised(cause=cause, why=why))


def _beside(
    incident: Incident, window_s: float, store: Store, sites: Mapping[str, Site]
) -> list[Beside]:
    """Of the site as it was when it went."""
    then = terms.in_force(store.terms(incident.site), incident.opened_at)
    site = then.site if then is not None else sites.get(incident.site)
    spread_s = _SAME_MINUTES_S + window_s
    went = store.went(incident.opened_at - spread_s, incident.opened_at + spread_s)
    return beside(site, sites.values(), went)


def _witnessed(facts: Facts, seen: Iterable[Witnessed]) -> Facts:
    """The same, and how long the centre's echoes were answered, and were not."""
    spans = {True: 0.0, False: 0.0}
    for one in seen:
        spans[one.answered] += one.to_at - one.from_at
    return facts._replace(answered_s=spans[True], unanswered_s=spans[False])


def _slack_s() -> float:
    """A part of the past may touch an outage whose edges are messages, not windows."""
    return 2 * _SAME_MINUTES_S


def _again(incident: Incident, store: Store, sites: Mapping[str, Site]) -> Incident | None:
    """The next revision of an outage; None when there is nothing new."""
    assert incident.resolved_at is not None
    told: list[Told] = []
    late = False
    until = incident.resolved_at + _LONGEST_WINDOW_S
    for stream, row in store.told(incident.site, incident.opened_at, until):
        told.append(Told(stream, row.taken_at, decode_reading(row.body).reading))
        late |= incident.opened_at < row.taken_at < incident.resolved_at < row.received_at - _LATE_S
    longest_s = max((one.reading.window_s for one in told), default=0.0)
    neighbours = _beside(incident, longest_s, store, sites)
    seen = store.witnessed(incident.site, incident.opened_at, incident.resolved_at)
    facts = gather(incident, told, neighbours, seen)
    because = "the backlog arrived" if late else "looked at again as a whole"
    reviewed = review.revise(incident.cause, facts, because)
    spans = store.spans(incident.site, incident.opened_at - _DAY_S, incident.resolved_at + _DAY_S)
    window_s = facts.before.reading.window_s if facts.before else 0.0
    found = down(incident.opened_at, incident.resolved_at, spans, window_s)
    if reviewed is None and found == incident.down:
        return None
    if reviewed is None:
        why = f"{because}: when there was no service, by the agent's own account"
        return incident.revised(down=found, why=why)
    return incident.revised(down=found, cause=reviewed.cause, why=reviewed.why)


def gather(
    incident: Incident,
    told: Iterable[Told],
    neighbours: Sequence[Beside],
    seen: Iterable[Witnessed],
) -> Facts:
    """What is known of an outage that has ended, from what is stored around it."""
    assert incident.resolved_at is not None
    ordered = sorted(told, key=lambda one: (one.taken_at, one.reading.seq))
    before = [one for one in ordered if one.taken_at <= incident.opened_at]
    last = before[-1] if before else None
    end_at = incident.resolved_at + (last.reading.window_s if last else 0.0)
    after = [one for one in ordered if incident.opened_at < one.taken_at <= end_at]
    facts = Facts(incident.opened_at, incident.resolved_at, last, after, beside=neighbours)
    return _witnessed(facts, seen)


def beside(site: Site | None, sites: Iterable[Site], went: set[str]) -> list[Beside]:
    """How many of those that share a value with the site went in the same minutes."""
    if site is None:
        return []
    values = [(name, getattr(site, name)) for name in _DIMENSIONS if getattr(site, name)]
    lived, gone = Counter[str](), Counter[str]()
    for one in sites:
        if not one.registered or one.retired:
            continue
        for name, value in values:
            if getattr(one, name) == value:
                lived[name] += 1
                gone[name] += one.id in went
    return [Beside(f"{name} {value}", gone[name], lived[name]) for name, value in values]


def down(
    opened_at: float, resolved_at: float, spans: Sequence[Span], window_s: float
) -> Down | None:
    """The times without service that touch an outage; None where nobody measured in it."""
    slack_s = window_s + _EDGE_S
    found = tuple(
        (from_at, to_at)
        for from_at, to_at in timeline.down(spans)
        if from_at < resolved_at and to_at > opened_at - slack_s
    )
    inside = timeline.clipped(spans, opened_at + slack_s, resolved_at - slack_s)
    return found if found or inside else None


def _follow(draft: Draft, store: Store, group: str, revised: Mapping[str, Incident]) -> None:
    """Rule 3: a group whose members' causes changed after its end."""
    for one in store.find_incidents(group):
        if one.id != group or one.kind is not Kind.GROUP_OUTAGE or one.firing:
            continue
        members = [revised.get(member.id, member).cause for member in store.covered(group)]
        cause = causes.of_group(one.dimension, len(one.sites), members)
        if cause.verdict not in (one.cause.verdict, Cause().verdict):
            why = f"its members were looked at again: {one.cause.verdict} became {cause.verdict}"
            draft.remark(one.revised(cause=cause, why=why))
