"""Whatever arrives, decoding gives an answer or `wire.Invalid`; nothing else comes out."""

from __future__ import annotations

import contextlib
import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire

SITE = "bitung-0123"
_GOLDEN = json.loads((Path(__file__).parent / "golden" / "0.1.0.json").read_text())["payloads"]
_GOOD = [json.dumps(payload).encode() for payload in _GOLDEN.values()]
_KINDS: list[type[wire.Part]] = [wire.Presence, wire.Ack, wire.Settings, wire.Command, wire.Reply]


def _answer(payload: bytes) -> None:
    """Decode as everything there is."""
    try:
        batch = wire.decode_readings(payload, site=SITE)
    except wire.Invalid:
        pass
    else:
        assert len(batch.good) + len(batch.bad) == len(batch.envelope.readings)
        for bad in batch.bad:
            assert bad.reason
            bad.raw.decode()
    for kind in _KINDS:
        with contextlib.suppress(wire.Invalid):
            wire.decode(kind, payload, site=SITE)


@given(st.binary(max_size=400))
def test_any_bytes_are_answered(payload: bytes) -> None:
    _answer(payload)
    _answer(zlib.compress(payload))
    _answer(b"x" + payload)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A good payload with some bytes replaced, inserted, left out or repeated."""
    data = bytearray(draw(st.sampled_from(_GOOD)))
    if draw(st.booleans()):
        data = bytearray(zlib.compress(bytes(data)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 12)))
        with_what = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(bytes(data[at:until] * 2)),
                st.sampled_from(
                    [b"null", b"-1", b"1e999", b"NaN", b"{}", b'"\\ud800"', b"\\u", b"["]
                ),
            )
        )
        data[at:until] = with_what
    return bytes(data)


@given(_mutated())
def test_a_good_payload_that_was_damaged_is_answered(payload: bytes) -> None:
    _answer(payload)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of everything in a JSON value."""
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [at, *(place for key, part in inner for place in _places(part, (*at, key)))]


@given(st.data())
def test_a_good_payload_with_any_value_in_any_place_is_answered(data: st.DataObject) -> None:
    payload = json.loads(data.draw(st.sampled_from(_GOOD)))
    *way, last = data.draw(st.sampled_from(_places(payload)[1:]))
    inner = payload
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(_json)
    _answer(json.dumps(payload).encode())


def _strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a wire type, from its own constraints; fields may be absent."""
    info = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    match info:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            required = {f.encode_name: _strategy(f.type) for f in fields if f.required}
            optional = {f.encode_name: _strategy(f.type) for f in fields if not f.required}
            return st.fixed_dictionaries(required, optional=optional).map(
                lambda fields: msgspec.convert(fields, cls)
            )
        case msgspec.inspect.UnionType(types=types):
            return st.one_of(
                *(_strategy(t) for t in types if not isinstance(t, msgspec.inspect.CustomType))
            )
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.IntType(ge=ge, le=le):
            return st.integers(ge, le)
        case msgspec.inspect.FloatType(ge=ge, le=le):
            return st.floats(ge, le, allow_nan=False, allow_infinity=False)
        case msgspec.inspect.StrType(pattern=str(pattern)) if "T(" in pattern:
            return st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds") + "Z")
        case msgspec.inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern.replace(r"\Z", ""), fullmatch=True)
        case msgspec.inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=min(high or 20, 20))
        case msgspec.inspect.ListType(item_type=item):
            return st.lists(_strategy(item), max_size=2)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_strategy(key), _strategy(value), max_size=2)
    raise AssertionError(f"no strategy for {info}")


@given(reading=_strategy(wire.Reading))
def test_a_reading_comes_back_as_it_was_sent(reading: wire.Reading) -> None:
    assert wire.decode_reading(wire.encode(reading)).reading == reading


@given(
    readings=st.lists(_strategy(wire.Reading), min_size=1, max_size=3),
    seq=st.integers(1, 2**63 - 1),
)
def test_a_batch_comes_back_as_it_was_sent(readings: list[wire.Reading], seq: int) -> None:
    stream = "5f0c1b7e-3c7e-4e0b-9a51-0d7f6b1c2a33"
    parts = [wire.encode(reading) for reading in readings]
    payload = wire.encode_readings(
        site=SITE, stream=stream, sent_boot="b", sent_uptime_s=1.0, oldest=seq, readings=parts
    )
    batch = wire.decode_readings(payload, site=SITE)
    assert [good.reading for good in batch.good] == readings
    assert [good.raw for good in batch.good] == parts
    assert (batch.envelope.stream, batch.envelope.oldest, batch.bad) == (stream, seq, [])


@pytest.mark.parametrize("compress", [False, True])
@given(data=st.data())
def test_every_other_payload_comes_back_as_it_was_sent(compress: bool, data: st.DataObject) -> None:
    kinds: list[type[wire.Part]] = [wire.Presence, wire.Ack, wire.Settings]
    kind = data.draw(st.sampled_from(kinds))
    part = data.draw(_strategy(kind))
    assert wire.decode(kind, wire.encode(part, compress=compress)) == part


@given(st.floats(0, 4_000_000_000))
def test_a_time_comes_back_to_the_millisecond(epoch_s: float) -> None:
    assert abs(wire.epoch(wire.iso(epoch_s)) - epoch_s) <= 0.001


@given(st.text(), st.sampled_from(["readings", "presence", "acks"]))
def test_only_a_sites_own_topic_is_taken_apart(text: str, leaf: str) -> None:
    topic = wire.site_topic(text, leaf)
    if wire.is_site(text):
        assert wire.split_site_topic(topic) == (text, leaf)
    else:
        with pytest.raises(wire.Invalid):
            wire.split_site_topic(topic)


@given(st.text())
def test_a_slug_can_stand_in_a_topic_and_stays_what_it_is(name: str) -> None:
    slug = wire.slug(name)
    assert slug == "-" or (wire.is_site(slug) or len(slug) == 1)
    assert wire.slug(slug) == slug
