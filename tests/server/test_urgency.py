"""Which messages go first while many wait."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from server import payloads, urgency
from server.mqtt import Message
from tests.server.made import SITE, Device

READINGS = wire.site_topic(SITE, "readings")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good message with other values in it, or with a part of its text replaced."""
    envelope: dict[str, object] = {"sent_boot": "b", "sent_uptime_s": 5.0}
    reading = {"boot": "b", "uptime_s": 5.0, "window_s": 60.0}
    odd = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([]))
    reading |= draw(st.dictionaries(st.sampled_from(sorted(reading)), odd))
    envelope |= draw(st.dictionaries(st.sampled_from(sorted(envelope)), odd))
    text = json.dumps({**envelope, "readings": draw(st.sampled_from([[], [reading], {}, [[]]]))})
    at = draw(st.integers(0, len(text)))
    return (text[:at] + draw(st.text(max_size=3)) + text[at:]).encode(errors="surrogatepass")


def first(payload: bytes, topic: str = READINGS) -> bool:
    whose, goes_first = urgency.choose(Message(topic, payload, False, 0.0))
    assert whose == SITE
    return goes_first


@pytest.fixture
def device() -> Device:
    """One with ten windows of a minute, the newest of which ended at 1000."""
    device = Device()
    for at in range(460, 1001, 60):
        device.reading(float(at))
    return device


@pytest.mark.parametrize(
    ("seqs", "sent_at", "goes"),
    [
        ((10,), 1000.0, True),
        ((10,), 1150.0, True),
        ((10,), 1151.0, False),
        (tuple(range(1, 11)), 1001.0, True),
        (tuple(range(1, 8)), 1001.0, False),
    ],
)
def test_a_message_with_the_newest_reading_goes_first_and_a_backlog_waits(
    device: Device, seqs: tuple[int, ...], sent_at: float, goes: bool
) -> None:
    assert first(device.envelope(sent_at, *seqs)) is goes
    assert first(zlib.decompress(device.envelope(sent_at, *seqs))) is goes


def test_a_large_presence_waits() -> None:
    assert not first(b"x" * 40_000, wire.site_topic(SITE, "presence"))


@pytest.mark.parametrize("field", ["sent_boot", "boot"])
def test_a_lone_surrogate_waits(device: Device, field: str) -> None:
    text = zlib.decompress(device.envelope(1000.0, 10))
    assert not first(text.replace(f'"{field}":"boot-1"'.encode(), rf'"{field}":"\ud800"'.encode()))


def test_readings_of_an_earlier_boot_wait(device: Device) -> None:
    device.restart("boot-2", 999.0)

    assert not first(device.envelope(1001.0, 10))


@pytest.mark.parametrize("leaf", ["presence", "replies"])
def test_what_is_no_reading_goes_first(leaf: str) -> None:
    assert first(b"whatever", wire.site_topic(SITE, leaf))


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"x\x9cbroken", b"{}", b'{"readings":' + 2000 * b"["]
)
def test_what_cannot_be_read_waits(payload: bytes) -> None:
    assert not first(payload)


def test_a_large_message_waits_whatever_it_holds(device: Device) -> None:
    text = zlib.decompress(device.envelope(1000.0, 10))
    assert first(zlib.compress(text + 1000 * b" "))
    assert not first(zlib.compress(text + 40_000 * b" "))


@given(st.one_of(st.binary(), mutated()))
def test_it_never_raises(payload: bytes) -> None:
    for one in (payload, zlib.compress(payload)):
        first(one)


def test_a_marker_is_nobodys_and_waits_and_other_topics_are_their_own() -> None:
    assert urgency.choose(Message(payloads.MARKER, b"", False, 0.0)) == ("", False)
    other = f"{wire.PREFIX}/sites/UPPER/readings"
    assert urgency.choose(Message(other, b"", False, 0.0)) == (other, True)
