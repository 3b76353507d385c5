"""Which messages go first while more waits than is taken at once. Pure.

What tells how a site is now does: presence, replies, and a message with a reading that is as
new as its sender has. A backlog may wait. This decides the order alone, so a guess is enough:
what breaks the contract goes first, and is refused at its turn.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from agent import wire
from server import payloads
from server.mqtt import Message, Turn

_FRESH_WINDOWS = 2.5


class _Reading(Struct):
    boot: str
    uptime_s: float
    window_s: float


class _Envelope(Struct):
    sent_boot: str
    sent_uptime_s: float
    readings: list[_Reading]


_peek = msgspec.json.Decoder(_Envelope)


def choose(message: Message) -> Turn:
    """Of which site a message is, and whether it goes first."""
    if message.topic == payloads.MARKER:
        return Turn("", first=False)
    try:
        site, leaf = wire.split_site_topic(message.topic)
    except wire.Invalid:
        return Turn(message.topic, first=True)
    return Turn(site, first=leaf != "readings" or _fresh(message.payload))


def _fresh(payload: bytes) -> bool:
    try:
        seen = _peek.decode(wire.plain(payload))
    except (wire.Invalid, msgspec.MsgspecError, RecursionError):
        return True
    return any(
        one.boot == seen.sent_boot
        and seen.sent_uptime_s - one.uptime_s <= _FRESH_WINDOWS * one.window_s
        for one in seen.readings
    )
