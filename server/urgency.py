"""Which messages go first while more waits than is taken at once. Pure.

What tells how a site is now does: presence, replies, and a message with a reading that is as
new as its sender has. A backlog may wait. This decides the order alone, so a guess is enough, and
it must be a cheap one, whatever the message holds: its last reading alone is looked at, what is
large, or cannot be read, may wait.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from agent import wire
from server import payloads
from server.mqtt import Message, Turn

_FRESH_WINDOWS = 2.5
_PEEK_BYTES = 32 << 10
"""Also once inflated. Agents send their newest reading alone, which takes one to ten KiB."""


class _Reading(Struct):
    boot: str
    uptime_s: float
    window_s: float


class _Envelope(Struct):
    sent_boot: str
    sent_uptime_s: float
    readings: list[msgspec.Raw]


_envelope = msgspec.json.Decoder(_Envelope)
_reading = msgspec.json.Decoder(_Reading)


def choose(message: Message) -> Turn:
    """Of which site a message is, and whether it goes first."""
    if message.topic == payloads.MARKER:
        return Turn("", first=False)
    try:
        site, leaf = wire.split_site_topic(message.topic)
    except wire.Invalid:
        return Turn(message.topic, first=True)
    small = len(message.payload) <= _PEEK_BYTES
    return Turn(site, first=small and (leaf != "readings" or _fresh(message.payload)))


def _fresh(payload: bytes) -> bool:
    try:
        seen = _envelope.decode(wire.plain(payload, _PEEK_BYTES))
        last = _reading.decode(seen.readings[-1])
    except (wire.Invalid, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError):
        return False  # msgspec has had UnicodeDecodeError for a lone surrogate
    age_s = seen.sent_uptime_s - last.uptime_s
    return last.boot == seen.sent_boot and age_s <= _FRESH_WINDOWS * last.window_s
