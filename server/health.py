"""The state machine of a site: online, degraded, offline, unknown. Pure.

Every function takes the state of one site and the server's time, and gives the
next state and the events that the change makes. Nothing here reads a clock, and
nothing is global, so sites can be shared out among several ingests.

Rules
 1. A site is *unknown* until it is heard from. Signs of life are a live reading
    and a live ``online`` presence; what stood retained at the broker is none.
 2. A reading is live when it was taken in the boot that sent it, at most
    ``silence_windows`` windows before it was sent, and is newer than the newest
    one known. All others are late: they amend history, never the state.
 3. A live reading makes the site online (or degraded), whatever it was before.
    Of the presences only the first online and the first clean end since the last
    reading count as signs of life (an online counts again after that end, and both after
    our own absence, which made everybody connect anew): an agent that keeps
    connecting but delivers nothing still falls silent. The first online of another
    boot counts as well: the device is back, without a reading yet.
 4. The will of the newest session starts a confirmation of
    ``offline_confirm_s``. A newer session or a live reading cancels it. The will
    of any other session is stale and ignored. A will is a sign of life as well: the
    broker heard something no more than 1.5 keepalives and 6 s before it. That of a
    session that brought no reading is none.
 5. Without a sign of life for ``silence_windows`` windows of the site's last
    reading the site is offline.
 6. A clean end is no will: ``upgrade`` and ``reboot`` have ``planned_s``, once
    until the next reading; ``stopped`` has the silence of rule 5. It ends the
    session, whose will starts nothing afterwards; that of the next one does.
 7. Offline opens at the last sign of life and is detected when it is confirmed.
    It ends with the first live reading, which also names the cause.
 8. Our own absence (`absent`) drops every running confirmation and gives every
    site ``silence_windows`` windows from the moment we are caught up. The will
    of a session that has not shown itself since starts nothing: a broker that
    restarts publishes the will of everyone.
 9. A trouble (see `server.troubles`) raised for ``raise_windows`` windows in a
    row makes the site degraded; ``clear_windows`` windows in a row beyond the
    clear threshold end it. Windows between the two thresholds restart both counts.
    A window of an outage that is over, in which nothing far answered, does not count:
    one that began before the site came back, or before its session did.
10. Going offline ends what was degraded: one fault, one alert.
11. A site whose status changes too often *flaps* (see `server.flapping`), whatever
    its status is meanwhile; a status that stood for ``flap_rest_s`` ends that.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct

from agent.wire import Envelope, Presence, Reading
from server import access_points, causes, flapping, live, troubles
from server.events import Changed, Event, Opened, Resolved
from server.model import Cause, Kind, Rules, Status

_KEEPALIVES, _LATE_S = 1.5, 6.0  # so the broker gives up a connection (MQTT 5, 3.1.2.10; mosquitto)


class Health(Struct, frozen=True, omit_defaults=True):
    """All that the machine remembers of one site."""

    site: str
    status: Status = Status.UNKNOWN
    since: float = 0.0
    reasons: tuple[str, ...] = ()
    heard_at: float = 0.0  # last sign of life
    last_reading_at: float = 0.0  # receipt of the newest live reading
    session: str = ""  # newest session
    vouched: bool = False  # the session has shown itself since we are caught up
    met: bool = False  # an online has counted since the last reading
    met_anew: bool = False  # one of another boot has
    parted: bool = False  # a clean end has counted since the last reading
    ended: bool = False  # the newest session ended in order
    confirm_at: float | None = None  # a will is being confirmed until then
    planned_until: float = 0.0
    returned_uptime_s: float = 0.0  # of the device, when it last came back or connected
    patience_from: float = 0.0  # silence counts from here at the earliest
    seen: causes.LastSeen | None = None  # the newest live reading
    clients: int | None = None
    troubles: tuple[troubles.Count, ...] = ()
    changes: tuple[float, ...] = ()  # of the status: the newest
    flapping_since: float = 0.0  # 0: it does not flap
    points: tuple[access_points.Point, ...] = ()  # its access points


Step = tuple[Health, tuple[Event, ...]]

_replace = msgspec.structs.replace


def due_at(health: Health, rules: Rules) -> float | None:
    """When `expire` must look at the site next; None when nothing can run out."""
    away_at = _away_at(health, rules)
    if not health.flapping_since:
        return away_at
    calm_at = flapping.calm_at(health.changes, rules)
    return calm_at if away_at is None else min(calm_at, away_at)


def _away_at(health: Health, rules: Rules) -> float | None:
    if health.status in (Status.UNKNOWN, Status.OFFLINE):
        return None
    silent_at = _silent_at(health, rules)
    return silent_at if health.confirm_at is None else min(health.confirm_at, silent_at)


def _silent_at(health: Health, rules: Rules) -> float:
    heard_at = max(health.heard_at, health.patience_from)
    return max(heard_at + rules.silence_windows * _window_s(health, rules), health.planned_until)


def _window_s(health: Health, rules: Rules) -> float:
    return health.seen.window_s if health.seen else rules.default_window_s


def observe(health: Health, reading: Reading, envelope: Envelope, now: float, rules: Rules) -> Step:
    """The step that one stored reading makes; a late one makes none."""
    if not live.is_live(health.seen, reading, envelope, rules):
        return health, ()
    events: list[Event] = []
    returned_s = health.returned_uptime_s
    if health.status is Status.OFFLINE:
        returned_s = envelope.sent_uptime_s
    elif health.seen is not None and health.seen.boot != reading.boot:
        returned_s = 0.0
    counts = health.troubles
    if not live.of_past_outage(reading, returned_s):
        counts = troubles.count(counts, reading, rules, now)
    points = access_points.follow(health.points, reading, troubles.points_away(counts), now)
    raised = troubles.raised(counts)
    reasons = tuple([text for _, text in raised])
    status = Status.DEGRADED if raised else Status.ONLINE
    if health.status is Status.OFFLINE:
        sent_s, gap_s = envelope.sent_uptime_s, now - health.heard_at
        cause = causes.explain(health.seen, reading, envelope.stream, sent_s, gap_s)
        events.append(Resolved(Kind.SITE_OFFLINE, now, cause))
    if counts is not health.troubles:
        because = causes.of_points_in(reading)
        events.extend(troubles.events(health.troubles, counts, now, because))
    changed = not health.last_reading_at or status is not health.status or reasons != health.reasons
    if changed or (points is not health.points and access_points.differ(health.points, points)):
        events.append(Changed())
    clients = None if reading.clients is UNSET else reading.clients.associated
    after = _replace(
        health,
        status=status,
        since=health.since if status is health.status else now,
        reasons=reasons,
        heard_at=now,
        last_reading_at=now,
        vouched=True,
        met=False,
        met_anew=False,
        parted=False,
        ended=False,
        confirm_at=None,
        planned_until=0.0,
        returned_uptime_s=returned_s,
        seen=causes.LastSeen(
            reading.boot, envelope.stream, reading.seq, reading.uptime_s, reading.window_s
        ),
        clients=None if clients is UNSET else clients,
        troubles=counts,
        points=points,
    )
    return _followed(health, after, events, now, rules)


def _followed(
    before: Health, after: Health, events: Sequence[Event], now: float, rules: Rules
) -> Step:
    """The same step, its change of status counted. What flaps covers what opens after it."""
    if after.status is before.status or before.status is Status.UNKNOWN:
        return after, tuple(events)
    changes = flapping.changed(before.changes, now, rules)
    if before.flapping_since or not flapping.starts(changes, rules):
        return _replace(after, changes=changes), tuple(events)
    opened = Opened(Kind.SITE_FLAPPING, changes[0], now, (flapping.reason(changes),))
    after = _replace(after, changes=changes, flapping_since=changes[0])
    in_order = sorted((opened, *events), key=lambda one: not isinstance(one, Resolved))
    return after, tuple(in_order)


def meet(
    health: Health, presence: Presence, now: float, rules: Rules, *, retained: bool, caught_up: bool
) -> Step:
    """The step that one presence makes.

    Args:
        retained: it stood retained at the broker when we subscribed.
        caught_up: whether we were caught up when it came.
    """
    if presence.state == "online":
        return _meet_online(health, presence, now, retained=retained, caught_up=caught_up)
    if presence.session != health.session and health.session:
        return health, ()
    if presence.reason in ("upgrade", "reboot", "stopped"):
        return health if retained else _part(health, presence, now, rules), ()
    away = health.status in (Status.OFFLINE, Status.UNKNOWN)
    if away or retained or not caught_up or not health.vouched:
        return health, ()
    heard_at = health.heard_at
    if not health.met and presence.keepalive_s is not UNSET:
        heard_at = max(heard_at, now - _KEEPALIVES * presence.keepalive_s - _LATE_S)
    return _replace(health, heard_at=heard_at, confirm_at=now + rules.offline_confirm_s), ()


def _meet_online(
    health: Health, presence: Presence, now: float, *, retained: bool, caught_up: bool
) -> Step:
    anew = health.seen is not None and presence.boot not in (UNSET, health.seen.boot)
    returned_s = presence.uptime_s or health.returned_uptime_s
    if retained:  # it connected while we were away; the uptime of another boot may be a relic's
        ended = health.ended and presence.session == health.session
        after = _replace(health, session=presence.session, ended=ended)
        return after if anew else _replace(after, returned_uptime_s=returned_s), ()
    counts = not health.met or (anew and not health.met_anew)
    after = _replace(
        health,
        session=presence.session,
        vouched=caught_up,
        ended=False,
        confirm_at=None,
        met=True,
        met_anew=health.met_anew or anew,
        returned_uptime_s=returned_s,
        heard_at=now if counts and health.status is not Status.OFFLINE else health.heard_at,
    )
    if health.status is Status.UNKNOWN:
        return _replace(after, status=Status.ONLINE, since=now), (Changed(),)
    return after, ()


def _part(health: Health, presence: Presence, now: float, rules: Rules) -> Health:
    """Rule 6: after a clean end."""
    if health.status is Status.OFFLINE:
        return _replace(health, session=presence.session)
    counts = not health.parted
    planned = presence.reason != "stopped" and not health.planned_until
    return _replace(
        health,
        session=presence.session,
        vouched=False,
        confirm_at=None,
        met=health.met and not counts,
        parted=True,
        ended=True,
        heard_at=now if counts else health.heard_at,
        planned_until=now + rules.planned_s if planned else health.planned_until,
    )


def expire(health: Health, now: float, rules: Rules) -> Step:
    """The step that time alone makes: the earliest of what has run out."""
    due = due_at(health, rules)
    if due is None or due > now:
        return health, ()
    if due != _away_at(health, rules):
        changes = flapping.left(health.changes, now, rules)
        calm = _replace(health, changes=changes, flapping_since=0.0)
        return calm, (Resolved(Kind.SITE_FLAPPING, now), Changed())
    by_will = health.confirm_at is not None and health.confirm_at <= now
    reason = "connection lost" if by_will else _silence_text(health, rules)
    stood = [kind for kind, _ in troubles.raised(health.troubles)]
    ended = [Resolved(kind, now) for kind in troubles.KINDS if kind in stood]
    after = _replace(
        health,
        status=Status.OFFLINE,
        since=health.heard_at,
        reasons=(reason,),
        confirm_at=None,
        planned_until=0.0,
        troubles=(),
    )
    opened = Opened(Kind.SITE_OFFLINE, health.heard_at, now, (reason,), _parted(health))
    return _followed(health, after, (*ended, opened, Changed()), now, rules)


def _parted(health: Health) -> Cause | None:
    """Why it is away, where its agent said so and no session came after that."""
    if not health.ended:
        return None
    return causes.ended_in_order("upgrade or reboot" if health.planned_until else "stopped")


def _silence_text(health: Health, rules: Rules) -> str:
    return f"no sign of life for {rules.silence_windows * _window_s(health, rules):.0f} s"


def absent(health: Health, caught_up_at: float) -> Health:
    """Rule 8: the state of a site once we are caught up after our own absence."""
    after = _replace(health, confirm_at=None, vouched=False, met=False, parted=False)
    return _replace(after, patience_from=caught_up_at)
