"""What the server publishes: states, alerts, commands, signs of life. Pure.

Formats of ``state/…``, ``alerts/…`` and ``server/…``; what agents read is in
`agent.wire`.
"""

from __future__ import annotations

import msgspec

from agent.wire import PREFIX, VERSION, alert_topic, iso, server_topic, state_topic
from server import access_points
from server.health import Health
from server.model import SEVERITY, Cause, Incident, Kind, Note, Site, Status

INGEST = "ingest"
"""Name of the service in ``server/NAME``."""
MARKER = f"{PREFIX}/server/{INGEST}/marker"
"""Ingest publishes here to itself: what comes back proves the way."""
OURS = (f"{PREFIX}/state/#", f"{PREFIX}/alerts/#")
"""Nobody but ingest may publish there, so what stands there is its to clear."""

_TITLES = {
    Kind.SITE_OFFLINE: "{name} is offline",
    Kind.SITE_DEGRADED: "{name} is degraded: {reasons}",
    Kind.ACCESS_POINT_OFFLINE: "{name}: {reasons}",
    Kind.AGENT_PROBLEM: "{name}: trouble with the device: {reasons}",
    Kind.SITE_FLAPPING: "{name} is flapping: {reasons}",
    Kind.GROUP_OUTAGE: "{name}: {reasons}",
}

_json = msgspec.json.Encoder()


def is_ours(topic: str) -> bool:
    """Whether a topic is one of `OURS`."""
    return topic.startswith(tuple(one.removesuffix("#") for one in OURS))


def title(site: Site, kind: Kind, reasons: tuple[str, ...]) -> str:
    """One line for a person."""
    return _TITLES[kind].format(name=site.name, reasons=", ".join(reasons))


def cause(value: Cause) -> dict[str, object]:
    """A cause as it stands in alerts."""
    return {
        "verdict": value.verdict,
        "confidence": value.confidence,
        "evidence": list(value.evidence),
    }


def state(
    site: Site, health: Health, offline: Incident | None, *, maintenance: bool = False
) -> tuple[str, bytes]:
    """Topic and payload of a site's verdict.

    Args:
        offline: the site's open outage, which knows the cause.
        maintenance: announced work goes on there.
    """
    known = offline is not None and offline.cause.verdict != "unknown"
    body = {
        "v": VERSION,
        "site": site.id,
        "status": health.status,
        "since": iso(health.since) if health.since else None,
        "reasons": list(health.reasons),
        "flapping": bool(health.flapping_since),
        "maintenance": maintenance,
        "cause": cause(offline.cause) if offline is not None and known else None,
        "last_reading_at": iso(health.last_reading_at) if health.last_reading_at else None,
        "clients": health.clients,
        "access_points": points(site, health),
    }
    return state_topic(site.district, site.isp, site.id), _json.encode(body)


def standing_points(site: Site, health: Health) -> list[access_points.Standing]:
    """How the access points of a site stand: those of its readings, and those expected."""
    hidden = health.status in (Status.OFFLINE, Status.UNKNOWN)
    return access_points.standing(
        health.points, site.access_points, hidden=hidden, since=health.since
    )


def points(site: Site, health: Health) -> list[dict[str, object]]:
    """The same, as the site's state shows it."""
    return [point(one) for one in standing_points(site, health)]


def point(one: access_points.Standing) -> dict[str, object]:
    """One of them."""
    since = iso(one.since) if one.since else None
    return {"name": one.name, "status": one.status, "since": since, "expected": one.expected}


def note(value: Note) -> dict[str, object]:
    """What a person said, as it stands in alerts."""
    body: dict[str, object] = {"at": iso(value.at), "by": value.who, "kind": value.kind}
    if value.kind == "ticket":
        body["reference"] = value.text
        for name, at in (("responded_at", value.responded_at), ("restored_at", value.restored_at)):
            body[name] = None if at is None else iso(at)
    else:
        body["text"] = value.text
    return body


def _said(incident: Incident) -> dict[str, object]:
    """What all notes come to; null where nobody said such."""
    said = incident.said
    told = {"acknowledged": said.acknowledged, "ticket": said.ticket, "disputed": said.disputed}
    return {name: None if one is None else note(one) for name, one in told.items()}


def alert_body(incident: Incident) -> dict[str, object]:
    """An incident as its alert shows it."""
    return {
        "v": VERSION,
        "id": incident.id,
        "revision": incident.revision,
        "status": "firing" if incident.firing else "resolved",
        "kind": incident.kind,
        "severity": SEVERITY[incident.kind],
        "title": incident.title,
        "district": incident.district,
        "isp": incident.isp,
        "sites": list(incident.sites or (incident.site,)),
        "site_count": len(incident.sites) or 1,
        "group": incident.group,
        "maintenance": incident.maintenance,
        "reasons": list(incident.reasons),
        "cause": cause(incident.cause),
        "opened_at": iso(incident.opened_at),
        "detected_at": iso(incident.detected_at),
        "resolved_at": None if incident.resolved_at is None else iso(incident.resolved_at),
        **_said(incident),
    }


def alert(incident: Incident) -> tuple[str, bytes]:
    """Topic and payload of an incident's newest revision."""
    topic = alert_topic(incident.district, incident.isp, incident.id)
    return topic, _json.encode(alert_body(incident))


def command(site: str, identity: str, do: str, expires_at: float, args: dict[str, object]) -> bytes:
    """A command to one agent."""
    body = {
        "v": VERSION,
        "site": site,
        "id": identity,
        "do": do,
        "args": args,
        "expires_at": iso(expires_at),
    }
    return _json.encode(body)


def service(name: str, state_now: str, now: float) -> tuple[str, bytes]:
    """Topic and payload of a service's sign of life."""
    return server_topic(name), _json.encode({"v": VERSION, "state": state_now, "at": iso(now)})


def marker(identity: str) -> bytes:
    """A marker, told from others by `identity`."""
    return _json.encode({"v": VERSION, "id": identity})


def marker_id(payload: bytes) -> str | None:
    """The identity of a marker; None when it is not one of ours."""
    try:
        body = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    identity = body.get("id") if isinstance(body, dict) else None
    return identity if isinstance(identity, str) else None
