"""What a released version said is understood for ever: golden payloads of each."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import agent
from agent import wire

SITE = "bitung-0123"
_FILES = sorted((Path(__file__).parent / "golden").glob("*.json"))
_KINDS: dict[str, type[wire.Part]] = {
    "presence": wire.Presence,
    "will": wire.Presence,
    "ack": wire.Ack,
    "settings": wire.Settings,
    "command": wire.Command,
    "reply": wire.Reply,
}


def _all(section: str) -> list[Any]:
    return [
        pytest.param(payload, name, id=f"{file.stem} {name}")
        for file in _FILES
        for name, payload in json.loads(file.read_text())[section].items()
    ]


def _again(payload: bytes, name: str) -> bytes:
    """`payload` decoded, and encoded anew from what was understood."""
    kind = name.partition("_")[0]
    if kind != "readings":
        return wire.encode(wire.decode(_KINDS[kind], payload, site=SITE))
    batch = wire.decode_readings(payload, site=SITE)
    assert batch.bad == []
    return wire.encode_readings(
        site=batch.envelope.site,
        stream=batch.envelope.stream,
        sent_boot=batch.envelope.sent_boot,
        sent_uptime_s=batch.envelope.sent_uptime_s,
        oldest=batch.envelope.oldest,
        readings=[wire.encode(good.reading) for good in batch.good],
    )


def test_this_version_has_its_golden_file() -> None:
    assert agent.__version__ in [file.stem for file in _FILES]


@pytest.mark.parametrize(("payload", "name"), _all("payloads"))
def test_a_golden_payload_keeps_its_meaning(payload: dict[str, Any], name: str) -> None:
    again = _again(json.dumps(payload).encode(), name)
    assert json.loads(wire.plain(again)) == payload


@pytest.mark.parametrize(("payload", "name"), _all("compressed"))
def test_a_golden_compressed_payload_keeps_its_meaning(payload: dict[str, Any], name: str) -> None:
    packed = base64.b64decode(payload["base64"])
    assert packed[0] == 0x78
    assert json.loads(wire.plain(packed)) == payload["says"]
    assert json.loads(wire.plain(_again(packed, name))) == payload["says"]


def test_the_golden_files_hold_every_field_of_every_payload() -> None:
    """A field that is added to a type has to be added to the newest golden file."""
    newest = json.loads(_FILES[-1].read_text())["payloads"]
    full = newest["readings_full"]
    seen = {name for payload in newest.values() for name in payload}
    kinds: set[type[wire.Part]] = {wire.Envelope, *_KINDS.values()}
    for kind in kinds:
        assert {field.encode_name for field in msgspec.structs.fields(kind)} <= seen
    assert _missing(wire.Reading, full["readings"][0], "reading") == []


def _missing(kind: type[msgspec.Struct], sample: dict[str, Any], at: str) -> list[str]:
    """The fields of `kind`, and of the structs in it, that `sample` does not show."""
    missing: list[str] = []
    for field in msgspec.structs.fields(kind):
        here = f"{at}.{field.encode_name}"
        if field.encode_name not in sample:
            missing.append(here)
            continue
        info, value = msgspec.inspect.type_info(field.type), sample[field.encode_name]
        if isinstance(info, msgspec.inspect.UnionType):
            info = next(t for t in info.types if not isinstance(t, msgspec.inspect.CustomType))
        if isinstance(info, msgspec.inspect.DictType):
            info, value = info.value_type, next(iter(value.values()))
        elif isinstance(info, msgspec.inspect.ListType):
            info, value = info.item_type, value[0]
        if isinstance(info, msgspec.inspect.StructType):
            missing += _missing(info.cls, value, here)
    return missing
