"""Payloads that break the contract: each with a name, and the words its reason must hold."""

from __future__ import annotations

import json
import time
import zlib
from typing import Any, NamedTuple

from agent import clock, wire

SITE = "raw-0001"
STREAM = "5f0c1b7e-3c7e-4e0b-9a51-0d7f6b1c2a33"
_MIB = 1 << 20


class Bad(NamedTuple):
    """One malformed message."""

    name: str
    leaf: str
    payload: bytes
    reason: str


def reading(seq: int, **changes: Any) -> dict[str, Any]:
    """A good reading, but for `changes`; a value of ... leaves the key out."""
    good = {
        "seq": seq,
        "boot": clock.boot_id(),
        "taken_at": wire.iso(time.time()),
        "uptime_s": round(clock.uptime_s(), 3),
        "clock": {"synced": True},
        "window_s": 60,
        "agent": "0.1.0",
        "ladder": {"gateway": "ok"},
    }
    return _changed(good, changes)


def message(*readings: Any, **changes: Any) -> bytes:
    """A good envelope around `readings`, but for `changes`."""
    good = {
        "v": 1,
        "site": SITE,
        "stream": STREAM,
        "sent_boot": clock.boot_id(),
        "sent_uptime_s": round(clock.uptime_s(), 3),
        "oldest": 1,
        "readings": list(readings),
    }
    return json.dumps(_changed(good, changes)).encode()


def _changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**good, **changes}.items() if value is not ...}


def _presence(**changes: Any) -> bytes:
    good = {
        "v": 1,
        "site": SITE,
        "state": "online",
        "session": STREAM,
        "at": wire.iso(time.time()),
    }
    return json.dumps(_changed(good, changes)).encode()


def _reply(**changes: Any) -> bytes:
    good = {"v": 1, "site": SITE, "id": "settings-7", "ok": True, "result": {}}
    return json.dumps(_changed(good, changes)).encode()


def _deep(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


BOMB = zlib.compress(bytes(64 * _MIB), 9)
"""64 KiB that would be 64 MiB."""


def messages() -> list[Bad]:
    """Messages of which nothing can be used."""
    good = message(reading(900_000))
    packed = zlib.compress(good)
    readings = [
        ("nothing at all", b"", "empty"),
        ("no JSON", b"hello, world", "JSON"),
        ("JSON that stops", good[:-20], "truncated"),
        ("something behind the JSON", good + b"!", "trailing"),
        ("not UTF-8", good.replace(b"0.1.0", b"\xff\xfe"), "UTF-8"),
        ("bytes of nobody", bytes(range(256)), "UTF-8"),
        ("broken zlib", b"\x78\x9c" + bytes(40), "zlib"),
        ("zlib that stops", packed[:-9], "zlib"),
        ("something behind the zlib", packed + b"more", "zlib"),
        ("a zlib bomb", BOMB, "once decompressed"),
        ("a zlib of a zlib", zlib.compress(packed), "UTF-8"),
        ("ten megabytes of JSON", good[:-1] + b" " * (10 * _MIB) + b"}", "more than"),
        ("ten megabytes of noise", b"\x00" * (10 * _MIB), "more than"),
        ("deep lists", _deep(100_000), ""),
        ("deep lists in a field", message(reading(1))[:-1] + b',"x":' + _deep(60_000) + b"}", ""),
        ("a list", b"[" + good + b"]", "object"),
        ("null", b"null", "object"),
        ("version 2", message(reading(1), v=2), "$.v"),
        ("no version", message(reading(1), v=...), "`v`"),
        ("a foreign site", message(reading(1), site="maesa-0001"), "maesa-0001"),
        ("a site that is none", message(reading(1), site="../raw"), "$.site"),
        ("a site that is a number", message(reading(1), site=7), "$.site"),
        ("a stream that is no UUID", message(reading(1), stream="s"), "$.stream"),
        ("an upper-case stream", message(reading(1), stream=STREAM.upper()), "$.stream"),
        ("no readings", message(), "$.readings"),
        ("101 readings", message(*(reading(n + 1) for n in range(101))), "$.readings"),
        ("readings that are an object", message(readings={}), "$.readings"),
        ("oldest 0", message(reading(1), oldest=0), "$.oldest"),
        ("no oldest", message(reading(1), oldest=...), "`oldest`"),
        ("a negative uptime", message(reading(1), sent_uptime_s=-1), "$.sent_uptime_s"),
        ("an uptime in words", message(reading(1), sent_uptime_s="8190"), "$.sent_uptime_s"),
        ("NaN", message(reading(1), sent_uptime_s=float("nan")), "JSON"),
        ("Infinity", message(reading(1), sent_uptime_s=float("inf")), "JSON"),
        ("a lone surrogate", message(reading(1), sent_boot="\ud800"), "surrogate"),
    ]
    presences = [
        ("a presence without JSON", b"online", "JSON"),
        ("an unknown state", _presence(state="away"), "$.state"),
        ("a presence without a session", _presence(session=...), "session"),
        ("a presence of a foreign site", _presence(site="maesa-0001"), "maesa-0001"),
        ("a presence on 31 February", _presence(at="2026-02-31T00:00:00.000Z"), "not a time"),
        ("a presence without a zone", _presence(at="2026-02-01T00:00:00.000"), "$.at"),
    ]
    replies = [
        ("an empty reply", b"", "empty"),
        ("a reply without JSON", b"ok", "JSON"),
        ("a reply to nothing", _reply(id=...), "`id`"),
        ("a reply of a foreign site", _reply(site="maesa-0001"), "maesa-0001"),
        ("a result that is a list", _reply(result=[]), "$.result"),
    ]
    return [
        *(Bad(name, "readings", payload, reason) for name, payload, reason in readings),
        *(Bad(name, "presence", payload, reason) for name, payload, reason in presences),
        *(Bad(name, "replies", payload, reason) for name, payload, reason in replies),
    ]


def bad_readings(seq: int) -> dict[str, Any]:
    """Readings that are refused alone, by name; all of them claim `seq` where they can."""
    echoes = {"sent": 60, "received": 60}
    return {
        "a negative count": reading(seq, clients={"source": "nl80211", "associated": -1}),
        "a ratio above one": reading(seq, ping={"world": {**echoes, "loss_ratio": 1.5}}),
        "a time below zero": reading(seq, ping={"world": {**echoes, "rtt_p50_ms": -1.0}}),
        "null for not measured": reading(seq, dns=None),
        "a month 13": reading(seq, taken_at="2026-13-01T00:00:00.000Z"),
        "a time without a zone": reading(seq, taken_at="2026-11-22T06:50:00"),
        "a window of nothing": reading(seq, window_s=0),
        "no clock": reading(seq, clock=...),
        "a verdict of its own": reading(seq, ladder={"gateway": "perhaps"}),
        "a lone surrogate": reading(seq, agent="\udc00"),
        "NaN": reading(seq, uptime_s=float("nan")),
        "a string for a number": reading(seq, uptime_s="8123.4"),
        "seq 0": reading(0),
        "seq 2^63": reading(2**63),
        "a seq with a point": {**reading(seq), "seq": seq + 0.5},
        "an edge without a beginning": reading(seq, dead=[{"rung": "world", "to": None}]),
        "a list": [reading(seq)],
        "a word": "reading",
    }
