"""Each way of being wrong has its rule, and each rule its reason in words."""

from __future__ import annotations

import json
import sys
import zlib
from typing import Any

import pytest

from agent import wire

SITE = "bitung-0123"
_UUID = "5f0c1b7e-3c7e-4e0b-9a51-0d7f6b1c2a33"
_TIME = "2026-11-22T06:50:00.000Z"
READING: dict[str, Any] = {
    "seq": 2,
    "boot": "b",
    "taken_at": _TIME,
    "uptime_s": 61.5,
    "clock": {"synced": True},
    "window_s": 60,
    "agent": "0.1.0",
    "ladder": {},
}
ENVELOPE: dict[str, Any] = {
    "v": 1,
    "site": SITE,
    "stream": _UUID,
    "sent_boot": "b",
    "sent_uptime_s": 62.0,
    "oldest": 1,
    "readings": [READING],
}
PRESENCE: dict[str, Any] = {
    "v": 1,
    "site": SITE,
    "state": "online",
    "session": _UUID,
    "at": _TIME,
}
_GOOD = json.dumps(ENVELOPE).encode()


class Text(str):
    """Stands in a payload as it is, and not as a string: what JSON cannot say."""

    __slots__ = ()


def text(value: object) -> bytes:
    """JSON, with each `Text` written bare."""
    if isinstance(value, Text):
        return value.encode()
    if isinstance(value, dict):
        return b"{" + b",".join(text(k) + b":" + text(v) for k, v in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(text, value)) + b"]"
    return json.dumps(value).encode()


def message(**changed: object) -> bytes:
    """A good message with some fields of the envelope changed; `...` leaves one out."""
    return text({k: v for k, v in {**ENVELOPE, **changed}.items() if v is not ...})


def reading(**changed: object) -> dict[str, object]:
    """A good reading with some fields changed; `...` leaves one out."""
    return {k: v for k, v in {**READING, **changed}.items() if v is not ...}


_NESTED = Text("[" * 100_000 + "]" * 100_000)

WHOLE_MESSAGE = {
    "an empty payload": (b"", "empty payload"),
    "not JSON": (b"hello", "JSON is malformed"),
    "only blanks": (b"  \n", "Input data was truncated"),
    "JSON cut off": (_GOOD[:-7], "Input data was truncated"),
    "JSON with something after it": (_GOOD + b"{}", "JSON is malformed: trailing characters"),
    "a number": (b"42", "Expected `object`, got `int`"),
    "a list": (b"[]", "Expected `object`, got `array`"),
    "a null": (b"null", "Expected `object`, got `null`"),
    "not UTF-8": (_GOOD.replace(b"0.1.0", b"0.\xff.0"), "not UTF-8: invalid start byte at byte"),
    "UTF-16": (_GOOD.decode().encode("utf-16"), "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf" + _GOOD, "JSON is malformed"),
    "bad zlib": (b"x" + _GOOD, "broken zlib"),
    "zlib with a wrong checksum": (zlib.compress(_GOOD)[:-1] + b"\0", "broken zlib"),
    "zlib cut off": (zlib.compress(_GOOD)[:-3], "broken zlib: cut off"),
    "zlib with something after it": (
        zlib.compress(_GOOD) + b"x",
        "broken zlib: bytes after its end",
    ),
    "zlib in zlib": (zlib.compress(zlib.compress(_GOOD)), "not UTF-8"),
    "a zlib bomb": (
        zlib.compress(b" " * 50_000_000),
        "more than 262144 bytes once decompressed",
    ),
    "10 MB": (b" " * 10_000_000, "10000000 bytes, more than 262144"),
    "one byte too many": (_GOOD.ljust(262_145), "262145 bytes, more than 262144"),
    "deep nesting": (message(extra=_NESTED), "maximum recursion depth exceeded"),
    "deep nesting in a reading": (message(readings=[reading(x=_NESTED)]), "maximum recursion"),
    "nesting that never closes": (b"[" * 100_000, "Expected `object`, got `array`"),
    "NaN": (message(sent_uptime_s=float("nan")), "JSON is malformed: invalid character"),
    "NaN in a field that is not read": (message(extra=float("nan")), "NaN is no number"),
    "Infinity": (message(sent_uptime_s=float("inf")), "JSON is malformed: invalid character"),
    "minus Infinity": (message(sent_uptime_s=float("-inf")), "JSON is malformed"),
    "1e999": (message(sent_uptime_s=Text("1e999")), "Number out of range - at `$.sent_uptime_s`"),
    "a lone surrogate": (message(sent_boot="\ud800"), "lone surrogate"),
    "a lone surrogate in a field that is not read": (message(extra="a\udfffb"), "lone surrogate"),
    "a lone surrogate in a name": (message(**{"\ud83d": 1}), "lone surrogate"),
    "half an escape": (message(extra=Text('"\\ud8"')), "JSON is malformed"),
    "a bare control character": (_GOOD.replace(b"bitung", b"bit\x01ng"), "JSON is malformed"),
    "single quotes": (_GOOD.replace(b'"', b"'"), "JSON is malformed"),
    "version 2": (message(v=2), "Invalid enum value 2 - at `$.v`"),
    "version as text": (message(v="1"), "Expected `int`, got `str` - at `$.v`"),
    "a foreign site": (
        message(site="bitung-0999"),
        "speaks for 'bitung-0999' on the topic of 'bitung-0123'",
    ),
    "a site in capitals": (message(site="BITUNG-0123"), "Expected `str` matching regex"),
    "a service as a site": (message(site="_ingest"), "Expected `str` matching regex"),
    "a site with a line end": (message(site=SITE + "\n"), "Expected `str` matching regex"),
    "a stream in capitals": (message(stream=_UUID.upper()), "Expected `str` matching regex"),
    "a stream that is no UUID": (message(stream="1"), "Expected `str` matching regex"),
    "an oldest of 0": (message(oldest=0), "Expected `int` >= 1 - at `$.oldest`"),
    "an oldest that is null": (message(oldest=None), "Expected `int`, got `null` - at `$.oldest`"),
    "a negative uptime": (message(sent_uptime_s=-1), "Expected `float` >= 0.0"),
    "no readings": (message(readings=[]), "Expected `array` of length >= 1 - at `$.readings`"),
    "101 readings": (message(readings=[READING] * 101), "Expected `array` of length <= 100"),
    "readings that are no list": (message(readings=READING), "Expected `array`, got `object`"),
    **{
        f"an envelope without {name}": (
            message(**{name: ...}),
            f"Object missing required field `{name}`",
        )
        for name in ENVELOPE
    },
}

ONE_READING: dict[str, tuple[object, str]] = {
    "null": (None, "Expected `object`, got `null`"),
    "a number": (7, "Expected `object`, got `int`"),
    "a list": ([], "Expected `object`, got `array`"),
    "a null where absent is meant": (reading(ping=None), "Expected `object`, got `null`"),
    "a null verdict": (reading(ladder={"isp": None}), "Expected `str`, got `null`"),
    "a null time of a rung": (
        reading(ping={"isp": {"rtt_p50_ms": None}}),
        "Expected `float`, got `null` - at `$.ping.isp.rtt_p50_ms`",
    ),
    "a seq of 0": (reading(seq=0), "Expected `int` >= 1 - at `$.seq`"),
    "a negative seq": (reading(seq=-1), "Expected `int` >= 1 - at `$.seq`"),
    "a seq of 2^63": (reading(seq=2**63), "Expected `int` <= 9223372036854775807 - at `$.seq`"),
    "a seq of 2^64": (reading(seq=2**64), "Expected `int` <= 9223372036854775807 - at `$.seq`"),
    "a seq as text": (reading(seq="2"), "Expected `int`, got `str` - at `$.seq`"),
    "a seq with a fraction": (reading(seq=2.5), "Expected `int`, got `float` - at `$.seq`"),
    "a bool as a number": (reading(seq=True), "Expected `int`, got `bool` - at `$.seq`"),
    "a bool as a time": (reading(uptime_s=False), "Expected `float`, got `bool`"),
    "a number as a bool": (reading(clock={"synced": 1}), "Expected `bool`, got `int`"),
    "a text as a number": (reading(uptime_s="61"), "Expected `float`, got `str`"),
    "a number as text": (reading(agent=1), "Expected `str`, got `int`"),
    "1e999": (reading(uptime_s=Text("1e999")), "Number out of range - at `$.uptime_s`"),
    "400 digits": (reading(uptime_s=Text("9" * 400)), "Number out of range - at `$.uptime_s`"),
    "a negative count": (
        reading(clients={"source": "nl80211", "associated": -1}),
        "Expected `int` >= 0 - at `$.clients.associated`",
    ),
    "a count with a fraction": (
        reading(ping={"isp": {"sent": 59.5}}),
        "Expected `int`, got `float` - at `$.ping.isp.sent`",
    ),
    "a negative round trip": (
        reading(ping={"isp": {"rtt_min_ms": -0.1}}),
        "Expected `float` >= 0.0 - at `$.ping.isp.rtt_min_ms`",
    ),
    "a ratio above 1": (
        reading(ping={"world": {"loss_ratio": 1.01}}),
        "Expected `float` <= 1.0 - at `$.ping.world.loss_ratio`",
    ),
    "a negative ratio": (reading(host={"cpu_ratio": -0.1}), "Expected `float` >= 0.0"),
    "an unknown verdict": (
        reading(ladder={"isp": "maybe"}),
        "Invalid enum value 'maybe' - at `$.ladder.isp`",
    ),
    "an unknown first failure": (
        reading(ladder={"first_failure": "moon"}),
        "Invalid enum value 'moon' - at `$.ladder.first_failure`",
    ),
    "a silence of a rung without echoes": (
        reading(dead=[{"rung": "dns", "from": _TIME, "to": None}]),
        "Invalid enum value 'dns' - at `$.dead[0].rung`",
    ),
    "a silence without its start": (
        reading(dead=[{"rung": "isp", "to": None}]),
        "Object missing required field `from`",
    ),
    "a silence without its end": (
        reading(dead=[{"rung": "isp", "from": _TIME}]),
        "Object missing required field `to`",
    ),
    "a silence from no date": (
        reading(dead=[{"rung": "isp", "from": "2026-02-30T00:00:00Z", "to": None}]),
        "not a time: '2026-02-30T00:00:00Z'",
    ),
    "a silence to no date": (
        reading(dead=[{"rung": "isp", "from": _TIME, "to": "2026-00-01T00:00:00Z"}]),
        "not a time: '2026-00-01T00:00:00Z'",
    ),
    "a time without Z": (reading(taken_at=_TIME[:-1]), "Expected `str` matching regex"),
    "a time with an offset": (
        reading(taken_at="2026-11-22T06:50:00.000+08:00"),
        "Expected `str` matching regex",
    ),
    "a time with a blank": (
        reading(taken_at="2026-11-22 06:50:00.000Z"),
        "Expected `str` matching regex",
    ),
    "a time as a number": (reading(taken_at=1_700_000_000), "Expected `str`, got `int`"),
    "the hour 24": (reading(taken_at="2026-11-22T24:00:00Z"), "Expected `str` matching regex"),
    "the month 13": (
        reading(taken_at="2026-13-22T06:50:00.000Z"),
        "not a time: '2026-13-22T06:50:00.000Z'",
    ),
    "a path traced on no date": (
        reading(
            path=[
                {
                    "target": "t",
                    "at": "2026-02-30T00:00:00Z",
                    "why": "daily",
                    "reached": False,
                    "hops": [],
                }
            ],
        ),
        "not a time: '2026-02-30T00:00:00Z'",
    ),
    "a time that rounds up to the year 10000": (
        reading(taken_at="9999-12-31T23:59:59.999999999Z"),
        "not a time: '9999-12-31T23:59:59.999999999Z'",
    ),
    "the year 0": (reading(taken_at="0000-11-22T06:50:00Z"), "not a time: '0000-11-22"),
    "a window of 0": (reading(window_s=0), "Expected `float` >= 1.0 - at `$.window_s`"),
    "a window of 3601": (reading(window_s=3601), "Expected `float` <= 3600.0 - at `$.window_s`"),
    "a negative uptime": (reading(uptime_s=-0.5), "Expected `float` >= 0.0 - at `$.uptime_s`"),
    "a lone surrogate": (reading(boot="\udc00"), "lone surrogate"),
    "a lone surrogate in a field that is not read": (reading(x=["\ud83d"]), "lone surrogate"),
    "a lone surrogate in a name": (reading(links={"\udbff": {"up": True}}), "lone surrogate"),
    "an empty boot": (reading(boot=""), "Expected `str` of length >= 1 - at `$.boot`"),
    "a boot without end": (reading(boot="b" * 4097), "Expected `str` of length <= 4096"),
    "a status of the web that is none": (
        reading(web={"ok": False, "status": 99}),
        "Expected `int` >= 100 - at `$.web.status`",
    ),
    **{
        f"a reading without {name}": (
            reading(**{name: ...}),
            f"Object missing required field `{name}`",
        )
        for name in READING
    },
    "a clock without synced": (reading(clock={}), "Object missing required field `synced`"),
}

PRESENCES = {
    "empty": (b"", "empty payload"),
    "not JSON": (b"online", "JSON is malformed"),
    "a state in between": ({"state": "idle"}, "Invalid enum value 'idle' - at `$.state`"),
    "an unknown reason": ({"reason": "tired"}, "Invalid enum value 'tired' - at `$.reason`"),
    "a null reason": ({"reason": None}, "Expected `str`, got `null`"),
    "a session in capitals": ({"session": _UUID.upper()}, "Expected `str` matching regex"),
    "no session": ({"session": ...}, "Object missing required field `session`"),
    "a day that is none": ({"at": "2026-02-30T00:00:00Z"}, "not a time: '2026-02-30T00:00:00Z'"),
    "a foreign site": (
        {"site": "bitung-0999"},
        "speaks for 'bitung-0999' on the topic of 'bitung-0123'",
    ),
    "version 2": ({"v": 2}, "Invalid enum value 2 - at `$.v`"),
    "a lone surrogate": ({"agent": "\ud800"}, "lone surrogate"),
}

REPLIES = {
    "no version, and no echo": ({"v": ...}, "Object missing required field `v`"),
    "no site, and no echo": ({"site": ...}, "Object missing required field `site`"),
    "no site, and no echo asked for": (
        {"site": ..., "echo": False},
        "Object missing required field `site`",
    ),
    "an echo without an id": ({"id": ..., "echo": True}, "Object missing required field `id`"),
    "an echo of version 2": ({"v": 2, "echo": True}, "Invalid enum value 2 - at `$.v`"),
    "an echo of a foreign site": (
        {"v": ..., "site": "bitung-0999", "echo": True},
        "speaks for 'bitung-0999' on the topic of 'bitung-0123'",
    ),
    "a null site": ({"site": None, "echo": True}, "Expected `str`, got `null`"),
}


@pytest.mark.parametrize(("payload", "reason"), WHOLE_MESSAGE.values(), ids=WHOLE_MESSAGE)
def test_a_message_is_refused_as_a_whole_for(payload: bytes, reason: str) -> None:
    with pytest.raises(wire.Invalid) as refused:
        wire.decode_readings(payload, site=SITE)
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(("bad", "reason"), ONE_READING.values(), ids=ONE_READING)
def test_a_reading_is_refused_alone_for(bad: object, reason: str) -> None:
    good = [reading(seq=1), reading(seq=3)]
    batch = wire.decode_readings(message(readings=[good[0], bad, good[1]]), site=SITE)
    assert [(one.reading.seq, one.raw) for one in batch.good] == [
        (1, text(good[0])),
        (3, text(good[1])),
    ]
    (refused,) = batch.bad
    assert refused.reason.startswith(reason)
    assert refused.raw == text(bad)
    named = isinstance(bad, dict) and type(bad.get("seq")) is int and 1 <= bad["seq"] < 2**63
    assert refused.seq == (bad["seq"] if isinstance(bad, dict) and named else None)


@pytest.mark.parametrize(("changed", "reason"), PRESENCES.values(), ids=PRESENCES)
def test_a_presence_is_refused_for(changed: bytes | dict[str, object], reason: str) -> None:
    if isinstance(changed, dict):
        changed = text({k: v for k, v in {**PRESENCE, **changed}.items() if v is not ...})
    with pytest.raises(wire.Invalid) as refused:
        wire.decode(wire.Presence, changed, site=SITE)
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(("changed", "reason"), REPLIES.values(), ids=REPLIES)
def test_a_reply_is_refused_for(changed: dict[str, object], reason: str) -> None:
    whole = {"v": 1, "site": SITE, "id": _UUID}
    with pytest.raises(wire.Invalid) as refused:
        wire.decode(
            wire.Reply,
            text({k: v for k, v in {**whole, **changed}.items() if v is not ...}),
            site=SITE,
        )
    assert str(refused.value).startswith(reason)


def test_the_samples_are_good_but_for_what_each_test_changes() -> None:
    assert wire.decode_readings(message(), site=SITE).bad == []
    assert wire.decode(wire.Presence, text(PRESENCE), site=SITE).state == "online"
    assert wire.decode_readings(_GOOD.ljust(262_144), site=SITE).bad == []


def test_there_are_fields_that_nobody_reads_and_nobody_minds() -> None:
    new = {"name": "NaN", "list": [1, {"a": None}], "text": '\U0001f4f6 \\ud800 "Infinity" \\'}
    extra = reading(
        x=new, ladder={"moon": "ok"}, ping={"moon": {"sent": 1}}, clock={"synced": True, "y": 1}
    )
    batch = wire.decode_readings(message(x=new, readings=[extra]), site=SITE)
    assert (len(batch.good), batch.bad) == (1, [])
    assert json.loads(batch.good[0].raw) == extra
    assert wire.decode(wire.Presence, text({**PRESENCE, "x": new}), site=SITE).site == SITE


@pytest.mark.parametrize(
    "part",
    [
        *({"clients": {"associated": 14}}, {"links": {"eth0": {"speed_mbps": 1000}}}),
        *({"dns": {"time_ms": 3}}, {"web": {"status": 204}}, {"throughput": {"down_mbps": 3.1}}),
        *({"ntp": {"offset_ms": 1.2}}, {"ntp": {"delay_ms": 1.2}}),
        *({"access_points": {"ap-1": {"clients": 3}}}, {"ping": {"isp": {}}}, {"host": {}}),
        *({"dns": {}}, {"web": {}}, {"ntp": {}}, {"clients": {}}, {"throughput": {}}),
    ],
    ids=str,
)
def test_what_was_not_measured_of_a_part_is_absent_and_nobody_minds(part: dict[str, Any]) -> None:
    assert wire.decode_readings(message(readings=[reading(**part)]), site=SITE).bad == []


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_string_that_nobody_closes_takes_no_time_to_refuse(end: bytes) -> None:
    """Looking again behind each of its quotes would take minutes: then this does not end."""
    with pytest.raises(wire.Invalid, match=r"truncated|malformed"):
        wire.decode_readings(b'{"a":NaN,"b":"' + b'\\"' * 130_000 + end, site=SITE)


def test_what_stands_beside_a_number_that_is_none_is_found_again() -> None:
    payload = message(readings=[reading(seq=1), reading(seq=2, uptime_s=float("nan"))])
    batch = wire.decode_readings(payload, site=SITE)
    assert wire.raw_readings(payload)[batch.good[0].place] == batch.good[0].raw


def test_nesting_is_refused_however_deep_the_caller_already_is() -> None:
    def deeper(levels: int) -> str:
        if levels:
            return deeper(levels - 1)
        with pytest.raises(wire.Invalid) as refused:
            wire.decode_readings(message(extra=_NESTED), site=SITE)
        return str(refused.value)

    assert deeper(sys.getrecursionlimit() // 2).startswith("maximum recursion depth exceeded")


@pytest.mark.parametrize("name", [b"NaN", b"-Infinity \t", b"Infinity"])
def test_what_is_no_number_as_the_name_of_a_field_is_no_json_and_spoils_the_message(
    name: bytes,
) -> None:
    whole = message(readings=[reading(more={"a name": 1})])
    with pytest.raises(wire.Invalid, match="JSON is malformed"):
        wire.decode_readings(whole.replace(b'"a name"', name), site=SITE)
