"""`pantau-agent check`: everything that a site needs, tried once, as rows of a table."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET

from agent import clock, local, once, wire
from agent.config import Config, ConfigError
from agent.measured import Links
from agent.measured import Outcome as ProbeOutcome
from agent.publish import BrokerError, Connection, Protocol
from agent.spool import SpoolError, lock

ECHO_S = 10.0
_ANSWER_S = 60.0


class Row(NamedTuple):
    """One thing that was tried, and what came of it."""

    name: str
    ok: bool
    detail: str


def check(config: Config, file: Path) -> tuple[bool, list[Row]]:
    """Whether the service runs, and the rows: from it where it runs, else tried here."""
    first = Row("config", True, f"{file}: site {config.site}")
    try:
        answer = local.ask(config.spool.path, _ANSWER_S)
    except OSError as err:
        row = Row("service", False, f"runs, but does not answer ({err}); ask as root")
        return True, [first, row]
    if answer is not None:
        return True, [first, Row("service", True, "runs"), *decode(answer)]
    return False, [first, *_without_service(config)]


def _without_service(config: Config) -> list[Row]:
    """Try everything here, with the spool locked so that no service comes between."""
    path = config.spool.path
    if not path.exists():
        return [Row("spool", True, f"{path} is made at the first start"), *_try_all(config)]
    try:
        with lock(path):
            return [Row("spool", True, f"{path} can be used"), *_try_all(config)]
    except SpoolError as err:
        return [Row("spool", False, str(err)), *measured(config)]


def _try_all(config: Config) -> list[Row]:
    return [*measured(config), *_broker_and_echo(config)]


def encode(rows: list[Row]) -> bytes:
    return json.dumps([row._asdict() for row in rows]).encode()


def decode(answer: bytes) -> list[Row]:
    """The rows that the service sent."""
    return [Row(row["name"], row["ok"], row["detail"]) for row in json.loads(answer)]


def measured(config: Config) -> list[Row]:
    """The clock, each probe, and each rung that has targets."""
    result = once.measure(config)
    errors = {} if result.reading.errors is UNSET else result.reading.errors
    rows = [_clock_row(), *map(_probe_row, result.outcomes)]
    for rung in wire.ECHO_RUNGS:
        if getattr(config.targets, rung, None) is not None:
            rows.append(_rung_row(rung, result.reading, errors.get(rung)))
    if "icmp" in errors:
        rows.append(Row("icmp", False, errors["icmp"]))
    return rows


def _clock_row() -> Row:
    if clock.is_synchronised():
        return Row("clock", True, "synchronised")
    return Row("clock", True, "not synchronised yet; the server puts the times right meanwhile")


def _probe_row(outcome: ProbeOutcome) -> Row:
    value = outcome.value
    if outcome.error is not None:
        return Row(outcome.name, False, outcome.error)
    if value is None:
        return Row(outcome.name, True, "nothing to measure here")
    if isinstance(value, Links):
        return Row(outcome.name, value.carrier != "fail", _links(value))
    if isinstance(value, wire.Web) and not value.ok:
        return Row(outcome.name, False, "a portal stands in between" if value.portal else "no 204")
    if isinstance(value, wire.Dns) and not value.ok:
        return Row(outcome.name, False, "no answer")
    return Row(outcome.name, True, f"took {outcome.took_s * 1000:.0f} ms")


def _links(links: Links) -> str:
    names = ", ".join(name for name, link in links.by_name.items() if link.up) or "none"
    return f"up: {names}; default route: {links.carrier or 'none seen'}"


def _rung_row(rung: wire.EchoRung, reading: wire.Reading, error: str | None) -> Row:
    echoes = UNSET if reading.ping is UNSET else getattr(reading.ping, rung)
    if echoes is UNSET:
        return Row(rung, False, error or "no echo could be sent")
    if not echoes.received:
        return Row(rung, False, f"none of {echoes.sent} echoes came back")
    detail = f"{echoes.received} of {echoes.sent} echoes, p50 {echoes.rtt_p50_ms} ms"
    return Row(rung, True, detail)


def _broker_and_echo(config: Config) -> list[Row]:
    """Log in, and have the server answer; without a will or presence of ours."""
    asked = str(uuid.uuid4())
    answers: list[str] = []

    def receive(leaf: str, payload: bytes, retained: bool) -> None:
        if leaf == "commands" and not retained:
            command = wire.decode(wire.Command, payload, site=config.site)
            answers.append(command.id if command.do == "echo" else "")

    try:
        connection, protocol = _login(config, receive)
    except (BrokerError, ConfigError) as err:
        return [Row("broker", False, str(err)), Row("echo", False, "no connection to try it on")]
    try:
        connection.subscribe()
        until_s = time.monotonic() + ECHO_S
        while not connection.subscribed and connection.alive and time.monotonic() < until_s:
            connection.turn(0.1)
        begun_s = time.monotonic()
        connection.publish("replies", wire.encode(echo_of(config.site, asked)))
        while asked not in answers and connection.alive and time.monotonic() < until_s:
            connection.turn(0.1)
        lost = None if connection.alive else f"connection lost: {connection.why_lost}"
        took_s = time.monotonic() - begun_s if asked in answers else None
    finally:
        connection.close()
    broker = Row("broker", lost is None, lost or f"login accepted, MQTT {protocol}")
    return [broker, echo_row(took_s, connection.refused)]


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


def echo_row(took_s: float | None, refused: str | None) -> Row:
    """Whether the server answered."""
    if took_s is not None:
        return Row("echo", True, f"the server answered in {took_s * 1000:.0f} ms")
    return Row(
        "echo",
        False,
        refused or f"no answer in {ECHO_S:.0f} s; is ingest running, is the ACL right?",
    )


def table(rows: list[Row]) -> str:
    """The rows for a person."""
    width = max(len(row.name) for row in rows)
    return "\n".join(
        f"{row.name:<{width}}  {'ok  ' if row.ok else 'FAIL'}  {row.detail}" for row in rows
    )
