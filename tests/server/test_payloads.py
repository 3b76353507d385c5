"""What the server publishes, field by field."""

from __future__ import annotations

import json

import pytest

from agent import wire
from server import payloads
from server.health import Health
from server.model import SEVERITY, Cause, Incident, Kind, Site, Status, unregistered
from tests.server.made import MINE, SITE, identity

OPEN = Incident(
    id=identity("incident"),
    kind=Kind.SITE_OFFLINE,
    site=SITE,
    district="girian",
    isp="telkom",
    title="Pasar Girian is offline",
    opened_at=1000,
    detected_at=1030,
    reasons=("connection lost",),
)


def test_an_alert_has_the_fields_of_the_contract() -> None:
    topic, payload = payloads.alert(OPEN)

    assert topic == f"pantau/v1/alerts/girian/telkom/{OPEN.id}"
    told = json.loads(payload)
    assert told.keys() >= {
        *("v", "id", "revision", "status", "kind", "severity", "title", "district", "isp"),
        *("sites", "site_count", "group", "cause", "opened_at", "detected_at", "resolved_at"),
    }
    assert (told["status"], told["resolved_at"], told["v"]) == ("firing", None, 1)


def test_a_resolved_alert_says_when_and_why() -> None:
    cause = Cause("power", 0.85, ("new boot",))
    told = json.loads(payloads.alert(OPEN.resolved(1500, cause))[1])

    assert (told["status"], told["revision"]) == ("resolved", 2)
    assert told["resolved_at"] == "1970-01-01T00:25:00.000Z"
    assert told["cause"] == {"verdict": "power", "confidence": 0.85, "evidence": ["new boot"]}


def test_nothing_is_resolved_before_it_was_detected() -> None:
    """The server's own clock may be set back meanwhile."""
    assert OPEN.resolved(900, Cause()).resolved_at == 1030


@pytest.mark.parametrize("kind", Kind)
def test_only_an_outage_is_critical(kind: Kind) -> None:
    outages = (Kind.SITE_OFFLINE, Kind.GROUP_OUTAGE)
    assert SEVERITY[kind] == ("critical" if kind in outages else "warning")


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (Kind.SITE_OFFLINE, "Pasar Girian is offline"),
        (Kind.SITE_DEGRADED, "Pasar Girian is degraded: dns failing, web failing"),
        (Kind.ACCESS_POINT_OFFLINE, "Pasar Girian: dns failing, web failing"),
        (Kind.AGENT_PROBLEM, "Pasar Girian: trouble with the device: dns failing, web failing"),
    ],
)
def test_a_title_is_one_line_for_a_person(kind: Kind, title: str) -> None:
    assert payloads.title(MINE, kind, ("dns failing", "web failing")) == title


def test_a_site_whose_name_has_braces_has_a_title() -> None:
    site = Site(SITE, "{reasons} {x}", "girian", "telkom")

    assert payloads.title(site, Kind.SITE_OFFLINE, ()) == "{reasons} {x} is offline"


def test_a_state_has_the_fields_of_the_contract() -> None:
    health = Health(
        SITE, Status.OFFLINE, 1000, ("connection lost",), last_reading_at=990, clients=0
    )
    topic, payload = payloads.state(MINE, health, OPEN)

    assert topic == f"pantau/v1/state/girian/telkom/{SITE}"
    assert json.loads(payload) == {
        "v": 1,
        "site": SITE,
        "status": "offline",
        "since": "1970-01-01T00:16:40.000Z",
        "reasons": ["connection lost"],
        "flapping": False,
        "maintenance": False,
        "cause": None,
        "last_reading_at": "1970-01-01T00:16:30.000Z",
        "clients": 0,
        "access_points": [],
    }


def test_a_state_tells_a_cause_that_is_known() -> None:
    known = OPEN.revised(cause=Cause("isp", 0.9, ("twelve sites at once",)))
    _, payload = payloads.state(MINE, Health(SITE, Status.OFFLINE), known)

    assert json.loads(payload)["cause"]["verdict"] == "isp"


def test_an_unregistered_site_stands_under_dashes() -> None:
    topic, _ = payloads.state(unregistered(SITE), Health(SITE), None)

    assert topic == f"pantau/v1/state/-/-/{SITE}"


def test_a_command_is_one_that_an_agent_can_read() -> None:
    payload = payloads.command(SITE, identity("one"), "resend", 1060.5, {"from": 3, "to": 9})
    command = wire.decode(wire.Command, payload, site=SITE)

    assert (command.do, command.expires_at) == ("resend", "1970-01-01T00:17:40.500Z")
    assert {name: json.loads(bytes(raw)) for name, raw in command.args.items()} == {
        "from": 3,
        "to": 9,
    }


def test_a_service_says_what_it_is_and_when() -> None:
    assert payloads.service("ingest", "online", 1000) == (
        "pantau/v1/server/ingest",
        b'{"v":1,"state":"online","at":"1970-01-01T00:16:40.000Z"}',
    )


def test_our_own_marker_is_known_again() -> None:
    assert payloads.marker_id(payloads.marker("abc")) == "abc"


@pytest.mark.parametrize("other", [b"", b"{", b"[]", b'{"id":7}', b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_marker_is_none(other: bytes) -> None:
    assert payloads.marker_id(other) is None
