"""The rows of the way to the centre: the broker's name, port and TLS, login, topics, echo.

`reach` knocks at the broker without a word of MQTT and so without our client id: it may be
done beside a running service.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from agent import wire
from agent.check.rows import Row, absent, failed, passed, skipped
from agent.config import Config, ConfigError, Mqtt
from agent.publish import BrokerError, Connection, Protocol, tls_context

ECHO_S = 10.0
_NAME_S = 10.0
_CONNECT_S = 5.0
_REFUSAL_S = 1.0
"""With TLS 1.3 the broker judges our certificate after the handshake; this long we wait for it."""
_STEPS = ("broker_name", "broker_port", "broker_tls", "broker", "topics", "echo")

# X509_V_ERR_…, verify(1)
_VERIFY = {9: "tls_early", 10: "tls_expired", 62: "tls_host", 64: "tls_host"}
_ALERTS = {
    "CERTIFICATE_EXPIRED": "tls_ours_expired",
    "UNKNOWN_CA": "tls_ours_untrusted",
    "BAD_CERTIFICATE": "tls_ours_untrusted",
    "CERTIFICATE_UNKNOWN": "tls_ours_untrusted",
    "CERTIFICATE_REVOKED": "tls_ours_untrusted",
    "CERTIFICATE_REQUIRED": "tls_ours_missing",
    "HANDSHAKE_FAILURE": "tls_ours_missing",
}
_LOGIN = {"refuses the login": "login_refused", "no answer to the login": "login_silent"}
_REFUSES = ("refuses what we publish", "refuses our subscription")


class Place(NamedTuple):
    """Where the broker is."""

    host: str
    port: int


def place_of(mqtt: Mqtt) -> Place:
    url = urlsplit(mqtt.url)
    return Place(url.hostname or "", url.port or (8883 if url.scheme == "mqtts" else 1883))


def skip_from(step: str, told: str) -> list[Row]:
    """The rows from `step` on, none of which was tried."""
    return [skipped(name, told) for name in _STEPS[_STEPS.index(step) :]]


def reach(mqtt: Mqtt) -> list[Row]:
    """Name, port and TLS, one after the other, up to the first that fails."""
    place = place_of(mqtt)
    name = _name(place.host)
    if name.status == "fail":
        return [name]
    try:
        sock = socket.create_connection(place, timeout=_CONNECT_S)
    except ConnectionRefusedError:
        return [name, failed("broker_port", "broker_refused", host=place.host, port=place.port)]
    except OSError as err:
        detail = err.strerror or str(err)
        return [
            name,
            failed(
                "broker_port",
                "broker_unreachable",
                host=place.host,
                port=place.port,
                detail=detail,
            ),
        ]
    with sock:
        port = passed("broker_port", "port_open", host=place.host, port=place.port)
        return [name, port, _tls(mqtt, place, sock)]


def _name(host: str) -> Row:
    with contextlib.suppress(ValueError):
        return passed("broker_name", "name_is_address", host=str(ipaddress.ip_address(host)))
    found: list[str] = []

    def resolve() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.append(str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]))

    # a resolver that is silent holds the system's lookup for longer than a person waits
    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(_NAME_S)
    if not found:
        return failed("broker_name", "broker_name", host=host)
    return passed("broker_name", "name_found", host=host, address=found[0])


def _tls(mqtt: Mqtt, place: Place, sock: socket.socket) -> Row:
    try:
        context = tls_context(mqtt)
    except ConfigError as err:
        return failed("broker_tls", "login_files", detail=str(err))
    if context is None:
        return absent("broker_tls", "tls_unused")
    try:
        with context.wrap_socket(sock, server_hostname=place.host) as secure:
            secure.settimeout(_REFUSAL_S)
            with contextlib.suppress(TimeoutError):
                if not secure.recv(1):
                    return failed("broker_tls", "tls_failed", detail="closed by the broker")
            return passed("broker_tls", "tls_accepted", version=secure.version() or "TLS")
    except ssl.SSLCertVerificationError as err:
        told = _VERIFY.get(err.verify_code, "tls_untrusted")
        return failed("broker_tls", told, host=place.host, detail=err.verify_message)
    except OSError as err:
        return _tls_refused(err)


def _tls_refused(err: OSError) -> Row:
    """What the broker has against us, by its alert (RFC 8446, 6.2)."""
    text = (err.reason if isinstance(err, ssl.SSLError) else err.strerror) or str(err)
    return _objected(text) or failed("broker_tls", "tls_failed", detail=text)


def _objected(text: str) -> Row | None:
    """What an alert in `text` says of our certificate; None where there is none."""
    for alert, told in _ALERTS.items():
        if re.search(rf"ALERT_{alert}\b", text):
            return failed("broker_tls", told, detail=text)
    return None


# Through the running service


def by_service(
    config: Config,
    state: Callable[[], tuple[bool, str]],
    echo: Callable[[], float | None],
) -> list[Row]:
    """What the service's own connection shows; beside it only `reach`, while there is none.

    Args:
        config: what the service follows now.
        state: whether it is connected and heard, and its words for it.
        echo: has the server answer; the seconds that took, None without an answer.
    """
    connected, text = state()
    refused = any(words in text for words in _REFUSES)
    if not connected and not refused:
        return _unconnected(config, text)
    place = place_of(config.mqtt)
    rows = [
        passed("broker_name", "in_use", host=place.host),
        passed("broker_port", "port_open", host=place.host, port=place.port),
        passed("broker_tls", "tls_in_use")
        if config.mqtt.url.startswith("mqtts:")
        else absent("broker_tls", "tls_unused"),
        passed("broker", "login_accepted", detail=_protocol(text) if connected else "-"),
    ]
    took_s = echo()
    _, text = state()
    return [*rows, *_heard(took_s, text if any(words in text for words in _REFUSES) else None)]


def _protocol(state: str) -> str:
    return state.removeprefix("connected with ")


def _unconnected(config: Config, text: str) -> list[Row]:
    rows = reach(config.mqtt)
    if rows[-1].status != "fail":
        rows = _after_login(rows, text, config)
    return [*rows, *(skipped(name, "needs_connection") for name in _STEPS[len(rows) :])]


def _after_login(rows: list[Row], text: str, config: Config) -> list[Row]:
    """With what a login did not work by; an alert that came late belongs to TLS all the same.

    Args:
        rows: name, port and TLS, which worked so far.
        text: of the last attempt; a service's may be older than what was mended since.
    """
    late = _objected(text)
    if late is not None:
        return [*rows[:-1], late]
    return [*rows, login_failed(text, config.mqtt.username or config.site)]


def login_failed(text: str, user: str) -> Row:
    """What our connection says of a login that did not work."""
    for words, told in _LOGIN.items():
        if words in text:
            return failed("broker", told, user=user, detail=text)
    return failed("broker", "login_lost", detail=text)


def _heard(took_s: float | None, refused: str | None) -> Iterable[Row]:
    """The rows of topics and echo."""
    if refused is not None:
        yield failed("topics", "topic_refused", detail=refused)
    elif took_s is not None:
        yield passed("topics", "topics_open")
    else:
        yield skipped("topics", "topics_unknown")
    if took_s is not None:
        yield passed("echo", "echo_came", ms=round(took_s * 1000))
    elif refused is not None:
        yield skipped("echo", "needs_topics")
    else:
        yield failed("echo", "echo_missing", seconds=round(ECHO_S))


# Without the service


def alone(config: Config) -> list[Row]:
    """All steps by ourselves; without a will or presence of ours."""
    rows = reach(config.mqtt)
    if rows[-1].status != "fail":
        rows = _login_and_echo(rows, config)
    return [*rows, *(skipped(name, "needs_connection") for name in _STEPS[len(rows) :])]


def _login_and_echo(rows: list[Row], config: Config) -> list[Row]:
    asked = str(uuid.uuid4())
    answers: list[str] = []

    def receive(leaf: str, payload: bytes, retained: bool) -> None:
        if leaf == "commands" and not retained:
            command = wire.decode(wire.Command, payload, site=config.site)
            answers.append(command.id if command.do == "echo" else "")

    try:
        connection, protocol = _login(config, receive)
    except BrokerError as err:
        return _after_login(rows, str(err), config)
    except ConfigError as err:
        return [*rows, failed("broker", "login_files", detail=str(err))]
    took_s: float | None = None
    try:
        connection.subscribe()
        until_s = time.monotonic() + ECHO_S
        while not connection.subscribed and connection.alive and time.monotonic() < until_s:
            connection.turn(0.1)
        begun_s = time.monotonic()
        connection.publish("replies", wire.encode(echo_of(config.site, asked)))
        while asked not in answers and connection.alive and time.monotonic() < until_s:
            connection.turn(0.1)
            if connection.refused:
                break
        if asked in answers:
            took_s = time.monotonic() - begun_s
        if took_s is None and not connection.alive:
            return [*rows, failed("broker", "login_lost", detail=connection.why_lost or "-")]
    finally:
        connection.close()
    accepted = passed("broker", "login_accepted", detail=f"MQTT {protocol}")
    return [*rows, accepted, *_heard(took_s, connection.refused)]


def _login(
    config: Config, receive: Callable[[str, bytes, bool], None]
) -> tuple[Connection, Protocol]:
    """Log in, with the other version where the broker may not speak the first."""
    first: Protocol = "3.1.1" if config.mqtt.version == "3.1.1" else "5"
    try:
        return Connection(config.site, config.mqtt, first, will=None, receive=receive), first
    except BrokerError as err:
        if not err.other_protocol or config.mqtt.version != "auto":
            raise
        try:
            other = Connection(config.site, config.mqtt, "3.1.1", will=None, receive=receive)
        except BrokerError:
            raise err from None
        return other, "3.1.1"


def echo_of(site: str, echo_id: str) -> wire.Reply:
    """What asks the server for its command `echo`."""
    return wire.Reply(v=wire.VERSION, site=site, id=echo_id, echo=True)
