"""What the contract says of a payload, in code that shares nothing with Pantau's own.

Standard library alone, and a table of fields written from the contract and `docs/mqtt.md`.
Three verdicts: ``VALID``, ``INVALID``, and ``SILENT`` where the contract does not say, so that
either may come of it: doubled keys, counts above 2^63, whole numbers written as ``60.0``, empty
or very long texts, times without exactly three digits behind the point, leap seconds, values
nested about as deep as a parser allows.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

LIMIT = 256 * 1024
_DEEPEST, _TOO_DEEP = 900, 1100
_MAX_SEQ = 2**63 - 1
_LONGEST_TEXT = 4096
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SITE = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)(\.\d+)?Z", re.ASCII)
_TOPIC = re.compile(r"pantau/v1/sites/([^/]*)/(readings|presence|replies)", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Verdict(Enum):
    """What the contract says."""

    VALID = "valid"
    INVALID = "invalid"
    SILENT = "silent"
    IGNORED = "ignored"
    """No message at all: a cleared presence."""


class Breach(Exception):
    """The contract forbids it; the text says why."""


class Told(NamedTuple):
    """A reading of a message whose envelope is good."""

    verdict: Verdict
    seq: int | None
    content: bytes
    """A digest of what it says, however it is written."""


class Judgement(NamedTuple):
    """What is to come of a payload."""

    verdict: Verdict
    why: str = ""
    stream: str = ""
    readings: tuple[Told, ...] = ()
    tree: Any = None


class Notes:
    """What was met where the contract is silent."""

    def __init__(self) -> None:
        self.silent = ""


class Doubled(dict[str, Any]):
    """An object with a key that stands there twice."""


Check = Callable[[Any, Notes], None]


def _need(holds: bool, why: str) -> None:
    if not holds:
        raise Breach(why)


# Kinds of values


def _number(low: float = -math.inf, high: float = math.inf) -> Check:
    def check(value: Any, _: Notes) -> None:
        _need(type(value) in (int, float), "not a number")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        _need(math.isfinite(value), "beyond what a number can be")
        _need(low <= value <= high, "out of its range")

    return check


def _whole(low: int, high: int | None = None) -> Check:
    def check(value: Any, notes: Notes) -> None:
        _need(type(value) in (int, float), "not a number")
        if type(value) is float:
            _need(math.isfinite(value) and value == int(value), "not a whole number")
            notes.silent = "a whole number with a point"
        _need(value >= low, "below its least")
        _need(high is None or value <= high, "above its greatest")
        if value > _MAX_SEQ:
            notes.silent = "a count above 2^63"

    return check


def _text(value: Any, notes: Notes) -> None:
    _need(isinstance(value, str), "not a text")
    if not 0 < len(value) <= _LONGEST_TEXT:
        notes.silent = "an empty or very long text"


def _any_text(value: Any, _: Notes) -> None:
    _need(isinstance(value, str), "not a text")


def _yes_or_no(value: Any, _: Notes) -> None:
    _need(isinstance(value, bool), "neither true nor false")


def _anything(_value: Any, _: Notes) -> None:
    return


def _object(value: Any, notes: Notes) -> None:
    _need(isinstance(value, dict), "not an object")
    if "Infinity" in json.dumps(value):
        notes.silent = "a number beyond what a number can be, where any may stand"


def _one_of(*words: str) -> Check:
    def check(value: Any, _: Notes) -> None:
        _need(isinstance(value, str) and value in words, "no word of the contract")

    return check


def _matching(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any, _: Notes) -> None:
        _need(isinstance(value, str) and pattern.fullmatch(value) is not None, f"not {what}")

    return check


def _time(value: Any, notes: Notes) -> None:
    _need(isinstance(value, str), "not a time")
    found = _TIME.fullmatch(value)
    _need(found is not None, "not RFC 3339 in UTC with Z")
    assert found is not None
    begin, second, part = found.groups()
    if second == "60" or value.startswith("0000"):
        notes.silent = "a leap second, or the year 0"
        return
    try:
        datetime.fromisoformat(f"{begin}{second}+00:00")
    except ValueError as err:
        raise Breach(f"no such time: {err}") from None
    if part is None or len(part) != 4:
        notes.silent = "not exactly milliseconds"


def _or_null(check: Check) -> Check:
    return lambda value, notes: None if value is None else check(value, notes)


def _list_of(check: Check) -> Check:
    def all_of(value: Any, notes: Notes) -> None:
        _need(isinstance(value, list), "not a list")
        for one in value:
            check(one, notes)

    return all_of


def _each(check: Check, keys: tuple[str, ...] = ()) -> Check:
    def all_of(value: Any, notes: Notes) -> None:
        _need(isinstance(value, dict), "not an object")
        _note_doubled(value, notes)
        for key, one in value.items():
            _need(not keys or key in keys, "a key that is none")
            check(one, notes)

    return all_of


def _fields(required: Mapping[str, Check], **optional: Check) -> Check:
    known = {**required, **optional}

    def check(value: Any, notes: Notes) -> None:
        _need(isinstance(value, dict), "not an object")
        _note_doubled(value, notes)
        for name in required:
            _need(name in value, f"no {name}")
        for name, one in value.items():
            if name in known:
                try:
                    known[name](one, notes)
                except Breach as err:
                    raise Breach(f"{name}: {err}") from None

    return check


def _note_doubled(value: dict[str, Any], notes: Notes) -> None:
    if isinstance(value, Doubled):
        notes.silent = "a key that stands there twice"


# The contract

_some = _number(0)
_count = _whole(0)
_seq = _whole(1, _MAX_SEQ)
_ratio = _number(0, 1)
_uuid = _matching(_UUID, "a UUID in lower case")
_site = _matching(_SITE, "a site id")
_verdict = _one_of("ok", "fail")
_rungs = ("carrier", "gateway", "isp", "domestic", "world", "dns", "web")
_rung = _one_of(*_rungs)
_far = ("gateway", "isp", "domestic", "world")
_band = _one_of("2.4", "5", "6", "60")
_outcome = _one_of(
    *("answer", "nxdomain", "servfail", "refused", "empty", "garbage", "timeout", "unreachable")
)
_steps = ("associate", "lease", "portal", "pass", "web", "leave")


def _version(value: Any, notes: Notes) -> None:
    _need(type(value) in (int, float) and value == 1, "not version 1")
    if type(value) is float:
        notes.silent = "a whole number with a point"


_echoes = _fields(
    {},
    sent=_count,
    received=_count,
    loss_ratio=_ratio,
    **{f"rtt_{name}_ms": _some for name in ("min", "p50", "p95", "max")},
    pdv_p95_ms=_some,
)
_ping = _fields({}, **dict.fromkeys(_far, _echoes))
_heard = _fields({"signal_dbm": _number()}, band=_band, channel=_whole(1, 253), load_ratio=_ratio)
_reading = _fields(
    {
        "seq": _seq,
        "boot": _text,
        "taken_at": _time,
        "uptime_s": _some,
        "clock": _fields({"synced": _yes_or_no}, age_s=_some),
        "window_s": _number(1, 3600),
        "agent": _text,
        "ladder": _fields({}, **dict.fromkeys(_rungs, _verdict), first_failure=_rung),
    },
    settings_revision=_count,
    ping=_ping,
    ping6=_ping,
    dead=_list_of(_fields({"rung": _one_of(*_far), "from": _time, "to": _or_null(_time)})),
    dns=_fields(
        {},
        ok=_yes_or_no,
        time_ms=_some,
        outcome=_outcome,
        compared=_fields({"resolver": _text, "ok": _yes_or_no}, outcome=_outcome, time_ms=_some),
    ),
    filter=_fields(
        {
            "wrong": _count,
            "names": _each(
                _fields(
                    {
                        "ok": _yes_or_no,
                        "how": _one_of("open", "answer", "cname", "nxdomain", "refused", "empty"),
                    }
                )
            ),
        }
    ),
    web=_fields(
        {},
        ok=_yes_or_no,
        status=_whole(100, 999),
        time_ms=_some,
        portal=_yes_or_no,
        first_byte_ms=_some,
        failure=_one_of("name", "connect", "tls", "timeout", "answer"),
    ),
    ntp=_fields(
        {},
        offset_ms=_number(),
        delay_ms=_some,
        server=_text,
        stratum=_whole(1, 15),
        samples=_count,
    ),
    path=_list_of(
        _fields(
            {
                "target": _text,
                "at": _time,
                "why": _one_of("failure", "daily", "command"),
                "reached": _yes_or_no,
                "hops": _list_of(
                    _fields(
                        {"ttl": _whole(1, 255)}, address=_text, rtt_ms=_some, foreign=_yes_or_no
                    )
                ),
            },
            rung=_rung,
            address=_text,
            stops_at=_count,
            foreign_hop=_yes_or_no,
        )
    ),
    links=_each(
        _fields(
            {},
            up=_yes_or_no,
            **dict.fromkeys(
                ("speed_mbps", "rx_mbps", "tx_mbps", "rx_peak_mbps", "tx_peak_mbps"), _some
            ),
            rx_errors=_count,
            rx_drops=_count,
        )
    ),
    clients=_fields(
        {},
        source=_text,
        associated=_count,
        active=_count,
        radios=_each(
            _fields(
                {"associated": _count},
                band=_band,
                active=_count,
                signal_p50_dbm=_number(),
                signal_p10_dbm=_number(),
                retry_ratio=_ratio,
            )
        ),
    ),
    access_points=_each(_fields({}, reachable=_yes_or_no, rtt_ms=_some, clients=_count)),
    wifi=_fields(
        {"seen": _yes_or_no},
        expected=_count,
        foreign=_count,
        others=_count,
        strongest=_heard,
        access_points=_each(_heard),
    ),
    walk=_fields(
        {"ok": _yes_or_no, "steps_ms": _each(_some, _steps)},
        portal=_yes_or_no,
        first_failure=_one_of(*_steps),
    ),
    throughput=_fields(
        {},
        method=_text,
        **dict.fromkeys(("down_mbps", "up_mbps", "latency_ms", "latency_loaded_ms"), _some),
        server=_text,
        bytes=_count,
    ),
    metered=_fields(
        {"used_bytes": _count, "budget_bytes": _count},
        month=_text,
        slowed=_list_of(_one_of("tests", "echoes", "probes", "windows")),
    ),
    host=_fields(
        {},
        **dict.fromkeys(("cpu_ratio", "memory_ratio", "disk_ratio", "storage_worn_ratio"), _ratio),
        temperature_c=_number(),
        **dict.fromkeys(
            (
                *("undervoltage", "undervoltage_seen", "throttled", "throttled_seen"),
                *("storage_read_only", "last_shutdown_clean"),
            ),
            _yes_or_no,
        ),
        **dict.fromkeys(
            ("storage_errors", "agent_restarts", "spool_readings", "spool_dropped"), _count
        ),
        storage_spare_blocks=_one_of("normal", "warning", "urgent"),
    ),
    errors=_each(_any_text),
)


def _readings(value: Any, _: Notes) -> None:
    _need(isinstance(value, list), "not a list")
    _need(1 <= len(value) <= 100, "not 1 to 100 readings")


def _reply_id(value: Any, notes: Notes) -> None:
    _text(value, notes)
    if not (_UUID.fullmatch(value) or re.fullmatch(r"settings-\d+", value)):
        notes.silent = "an id that is neither of a command nor of settings"


_told_of_reply: dict[str, Check] = {"ok": _yes_or_no, "result": _object, "echo": _yes_or_no}
_whole_reply = _fields({"v": _version, "site": _site, "id": _reply_id}, **_told_of_reply)
_short_echo = _fields({"id": _reply_id}, v=_version, site=_site, **_told_of_reply)


def _reply(value: Any, notes: Notes) -> None:
    """An echo needs neither v nor site."""
    is_echo = isinstance(value, dict) and value.get("echo") is True
    (_short_echo if is_echo else _whole_reply)(value, notes)


_PARTS: dict[str, Check] = {
    "readings": _fields(
        {
            "v": _version,
            "site": _site,
            "stream": _uuid,
            "sent_boot": _text,
            "sent_uptime_s": _some,
            "oldest": _seq,
            "readings": _readings,
        }
    ),
    "presence": _fields(
        {
            "v": _version,
            "site": _site,
            "state": _one_of("online", "offline"),
            "session": _uuid,
            "at": _time,
        },
        agent=_text,
        boot=_text,
        uptime_s=_some,
        settings_revision=_count,
        keepalive_s=_some,
        reason=_one_of("lost", "stopped", "upgrade", "reboot"),
        problem=_text,
    ),
    "replies": _reply,
    "acks": _fields({"v": _version, "stream": _uuid, "through": _whole(0, _MAX_SEQ)}),
    "settings": _fields(
        {"v": _version, "site": _site, "revision": _count},
        window_s=_number(1, 3600),
        mqtt=_fields({}, url=_text),
        metered=_fields({}, monthly_mb=_count),
        targets=_each(
            lambda value, notes: (_list_of(_text) if isinstance(value, list) else _text)(
                value, notes
            )
        ),
        access_points=_fields({}, addresses=_each(_text), by=_text),
    ),
    "commands": _fields(
        {"v": _version, "site": _site, "id": _uuid, "do": _text, "expires_at": _time},
        args=_object,
    ),
}


# Payloads


def judge(topic: str, payload: bytes) -> Judgement:
    """What the contract says of what a device published."""
    found = _TOPIC.fullmatch(topic)
    if found is None or not _SITE.fullmatch(found[1]):
        return Judgement(Verdict.INVALID, "no topic of a site")
    site, leaf = found.groups()
    if leaf == "presence" and not payload:
        return Judgement(Verdict.IGNORED)
    return judge_part(leaf, payload, site)


def judge_part(leaf: str, payload: bytes, site: str) -> Judgement:
    """The same where the topic is known to be good, also for what agents read."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 4 * _TOO_DEEP)  # ours alone: those who are judged have theirs
    try:
        return _judged(leaf, payload, site)
    finally:
        sys.setrecursionlimit(limit)


def _judged(leaf: str, payload: bytes, site: str) -> Judgement:
    notes = Notes()
    try:
        tree = _parsed(_plain(payload), notes)
        _PARTS[leaf](tree, notes)
        if leaf != "acks":
            _need(tree.get("site", site) == site, "speaks for another site")
        outer = tree
        if leaf == "readings":
            outer = {name: value for name, value in tree.items() if name != "readings"}
        _no_surrogates(outer)
    except Breach as err:
        return Judgement(Verdict.INVALID, str(err))
    verdict = Verdict.SILENT if notes.silent else Verdict.VALID
    if leaf != "readings":
        return Judgement(verdict, notes.silent, tree=tree)
    told = tuple(_told(one) for one in tree["readings"])
    return Judgement(verdict, notes.silent, tree["stream"], told, tree)


def _told(reading: Any) -> Told:
    notes = Notes()
    seq = reading.get("seq") if isinstance(reading, dict) else None
    seq = seq if type(seq) is int and 1 <= seq <= _MAX_SEQ else None
    try:
        _reading(reading, notes)
        _no_surrogates(reading)
    except Breach:
        return Told(Verdict.INVALID, seq, b"")
    verdict = Verdict.SILENT if notes.silent or _has_doubled(reading) else Verdict.VALID
    same = json.dumps(_alike(reading), sort_keys=True)
    return Told(verdict, seq, hashlib.blake2b(same.encode(), digest_size=16).digest())


def _alike(value: Any) -> Any:
    """Numbers that are equal, written alike."""
    if isinstance(value, dict):
        return {key: _alike(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_alike(one) for one in value]
    if type(value) is float and math.isfinite(value) and value == int(value):
        return int(value)
    return value


def _has_doubled(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value, Doubled) or any(map(_has_doubled, value.values()))
    return isinstance(value, list) and any(map(_has_doubled, value))


def _no_surrogates(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    _need(_SURROGATE.search(text) is None, "a lone surrogate")


def _plain(payload: bytes) -> str:
    _need(payload != b"", "nothing at all")
    if payload[0] == 0x78:
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(payload, LIMIT + 1)
        except zlib.error as err:
            raise Breach(f"no zlib: {err}") from None
        _need(len(data) <= LIMIT, "too large once decompressed")
        _need(inflater.eof, "zlib that stops")
        _need(not inflater.unused_data, "something behind the zlib")
    else:
        data = payload
    _need(len(data) <= LIMIT, "too large")
    try:
        return data.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Breach("not UTF-8") from None


def inflated(payload: bytes) -> bytes:
    """What stands in it, as far as it can be read; empty where it cannot."""
    if payload[:1] != b"\x78":
        return payload
    try:
        return zlib.decompressobj().decompress(payload, LIMIT + 1)
    except zlib.error:
        return b""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Doubled(found)


def _no_constant(_: str) -> Any:
    """NaN and Infinity are as a lone surrogate is: wrong anywhere, in one reading alone."""
    return "\ud800"


def _int(text: str) -> int | float:
    return int(text) if len(text) < 300 else float(text)


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_no_constant, parse_int=_int)


def _depth(text: str) -> int:
    """How deep it is nested; brackets in strings count for nothing."""
    deepest = depth = 0
    for bracket in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in "]}":
            depth -= 1
    return deepest


def _parsed(text: str, notes: Notes) -> Any:
    if text.count("[") + text.count("{") >= _DEEPEST:
        depth = _depth(text)
        _need(depth < _TOO_DEEP, "nested too deep")
        if depth >= _DEEPEST:
            notes.silent = "nested about as deep as a parser allows"
    try:
        return _decoder.decode(text)
    except ValueError as err:
        raise Breach(f"not JSON: {err}") from None
