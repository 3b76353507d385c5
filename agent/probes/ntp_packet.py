"""NTP's packets and formulas (RFC 5905): what is asked, what an answer is worth. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

PACKET_BYTES = 48
_PACKET = struct.Struct("!BBbbII4s4Q")
_CLIENT_V4 = 0x23  # leap 0, version 4, mode 3
_MODE_SERVER = 4
_ALARM = 3
_MAX_DISTANCE_MS = 16_000.0  # MAXDISP: a server beyond it is not synchronised
_EPOCH_S = 2_208_988_800  # from 1900 to 1970
_FRACTION = 1 << 32


class Sample(NamedTuple):
    """One exchange; ``offset_ms`` is what must be added to our clock."""

    offset_ms: float
    delay_ms: float
    stratum: int
    server: str


class Refused(Exception):
    """A kiss-o'-death (RFC 5905, 7.4); `code` is its four letters."""

    def __init__(self, code: str) -> None:
        super().__init__(f"kiss-o'-death {code}")
        self.code = code


class Unusable(Exception):
    """An answer that cannot be used; the text says why."""


def timestamp(wall_ns: int) -> int:
    """A time since 1970 as NTP's 64 bits, which begin anew in each era (2036).

    >>> hex(timestamp(0))
    '0x83aa7e8000000000'
    """
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    return (((seconds + _EPOCH_S) << 32) | (ns * _FRACTION // 1_000_000_000)) % (1 << 64)


def request(nonce: int) -> bytes:
    """A question whose transmit timestamp is a secret number instead of our clock.

    The server gives it back unread. So an answer that bears it is an answer to this very
    question, and nobody on the way learns how wrong our clock is.
    """
    return _PACKET.pack(_CLIENT_V4, 0, 0, 0, 0, 0, b"", 0, 0, 0, nonce)


def bears(answer: bytes, nonce: int) -> bool:
    """Whether `answer` was made for the question with this number."""
    return len(answer) >= PACKET_BYTES and answer[24:32] == nonce.to_bytes(8, "big")


def sample(answer: bytes, server: str, sent_wall_ns: int, came_wall_ns: int) -> Sample:
    """Offset and delay from one answer (RFC 5905, section 8).

    Args:
        answer: one that `bears` our number.
        server: whom we asked.
        sent_wall_ns: our clock at the sending, T1.
        came_wall_ns: our clock at the arrival, T4.

    Raises:
        Refused: the server asks us to go away or to slow down.
        Unusable: wrong mode, not synchronised, or times that cannot be.
    """
    fields = _PACKET.unpack_from(answer)
    head, stratum, _, precision, root_delay, root_dispersion, reference = fields[:7]
    received, transmitted = fields[9], fields[10]
    if head & 7 != _MODE_SERVER:
        raise Unusable(f"answers in mode {head & 7}, not as a server")
    if stratum == 0:
        raise Refused(reference.decode("ascii", "replace").strip("\0 ") or "without code")
    if head >> 6 == _ALARM or stratum > 15:
        raise Unusable("is not synchronised itself")
    if (root_delay / 2 + root_dispersion) / 65.536 > _MAX_DISTANCE_MS:
        raise Unusable("is too far from its own source")
    if not received or not transmitted or _signed(transmitted - received) < 0:
        raise Unusable("tells impossible times")
    there_ms = _ms(received - timestamp(sent_wall_ns))
    back_ms = _ms(transmitted - timestamp(came_wall_ns))
    delay_ms = there_ms - back_ms
    if delay_ms < -1000.0 * 2.0 ** max(precision, -20):
        raise Unusable("tells impossible times")
    return Sample((there_ms + back_ms) / 2, max(0.0, delay_ms), stratum, server)


def _signed(difference: int) -> int:
    """A difference of timestamps: right within 68 years, whatever the era."""
    return (difference + (1 << 63)) % (1 << 64) - (1 << 63)


def _ms(difference: int) -> float:
    return _signed(difference) * 1000 / _FRACTION
