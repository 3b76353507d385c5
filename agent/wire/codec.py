"""Encoding and decoding: the only place where payload bytes are read or made."""

from __future__ import annotations

import zlib
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from agent.wire import faults
from agent.wire.base import MAX_PAYLOAD_BYTES, VERSION, Invalid, Part, Seq
from agent.wire.types import Envelope, Reading

_ZLIB_FIRST_BYTE = 0x78


class GoodReading(NamedTuple):
    """A valid reading beside its own bytes, and where it stands in its message."""

    reading: Reading
    taken_at: float
    raw: bytes
    place: int


class BadReading(NamedTuple):
    """An invalid reading; ``seq`` where even a broken one names it."""

    seq: int | None
    reason: str
    raw: bytes


class Batch(NamedTuple):
    """One decoded ``readings`` message."""

    envelope: Envelope
    good: list[GoodReading]
    bad: list[BadReading]


T = TypeVar("T")
P = TypeVar("P", bound=Part)
_YEAR_10000 = 253_402_300_800.0
_DAY_0 = date(1970, 1, 1).toordinal()
_encoder = msgspec.json.Encoder()
_envelope = msgspec.json.Decoder(Envelope)
_reading = msgspec.json.Decoder(Reading)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_seq_only = msgspec.json.Decoder(msgspec.defstruct("SeqOnly", [("seq", Seq)]))


def iso(epoch_s: float) -> str:
    """A UTC time as it stands on the wire, to the millisecond.

    >>> iso(1_700_000_000.1239)
    '2023-11-14T22:13:20.123Z'
    """
    day, ms = divmod(int(epoch_s * 1000 + 0.000_5), 86_400_000)
    minute, ms = divmod(ms, 60_000)
    return f"{_date(day)}T{_minute(minute)}:{ms // 1000:02d}.{ms % 1000:03d}Z"


# Formatting these anew for each time would take most of `iso`.
@lru_cache(maxsize=64)
def _date(day_since_1970: int) -> str:
    return date.fromordinal(_DAY_0 + day_since_1970).isoformat()


@lru_cache(maxsize=1440)
def _minute(minute_of_day: int) -> str:
    return f"{minute_of_day // 60:02d}:{minute_of_day % 60:02d}"


def epoch(text: str) -> float:
    """Seconds since 1970 of a wire time.

    Raises:
        Invalid: it matches the pattern but is no date (month 13, 30 February).
    """
    try:
        found = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as err:
        raise Invalid(f"not a time: {text!r} ({err})") from None
    if found >= _YEAR_10000:  # its microseconds were rounded up
        raise Invalid(f"not a time: {text!r} (too late)")
    return found


def encode(part: Part, *, compress: bool = False) -> bytes:
    """`part` as a payload, compressed with zlib when that was asked for."""
    data = _encoder.encode(part)
    return zlib.compress(data, 6) if compress else data


def encode_readings(
    *,
    site: str,
    stream: str,
    sent_boot: str,
    sent_uptime_s: float,
    oldest: int,
    readings: list[bytes],
) -> bytes:
    """A ``readings`` payload from encoded readings, compressed.

    Also a single one: that halves what a site sends in a month, for 0.1 ms a window.
    """
    envelope = Envelope(
        v=VERSION,
        site=site,
        stream=stream,
        sent_boot=sent_boot,
        sent_uptime_s=round(sent_uptime_s, 3),
        oldest=oldest,
        readings=[msgspec.Raw(raw) for raw in readings],
    )
    return encode(envelope, compress=True)


def plain(payload: bytes, max_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """The JSON text of a payload, decompressed within `max_bytes`.

    Raises:
        Invalid: empty, too large (also once decompressed), broken zlib, not UTF-8.
    """
    if not payload:
        raise Invalid("empty payload")
    if payload[0] == _ZLIB_FIRST_BYTE:
        payload = _inflate(payload, max_bytes)
    if len(payload) > max_bytes:
        raise Invalid(f"{len(payload)} bytes, more than {max_bytes}")
    try:
        payload.decode()
    except UnicodeDecodeError as err:
        raise Invalid(f"not UTF-8: {err.reason} at byte {err.start}") from None
    return payload


def _inflate(payload: bytes, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(payload, max_bytes + 1)
    except zlib.error as err:
        raise Invalid(f"broken zlib: {err}") from None
    if len(text) > max_bytes:
        raise Invalid(f"more than {max_bytes} bytes once decompressed")
    if not inflater.eof:
        raise Invalid("broken zlib: cut off")
    if inflater.unused_data:
        raise Invalid("broken zlib: bytes after its end")
    return text


# What msgspec says since 0.23; before, it let UnicodeDecodeError through.
_NOT_UTF8 = "Invalid UTF-8"


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    """Decode and validate; every way of being wrong becomes `Invalid`."""
    try:
        return decoder.decode(text)
    except UnicodeDecodeError:
        raise Invalid("lone surrogate") from None
    except (msgspec.MsgspecError, RecursionError) as err:
        said = str(err)
        raise Invalid("lone surrogate" if said.startswith(_NOT_UTF8) else said) from None


def _envelope_of(text: bytes) -> tuple[Envelope, bytes]:
    """An envelope, and the text that it was read from: `text`, or that with its faults exposed."""
    exposed = faults.exposed(text)
    try:
        return _decoded(_envelope, exposed), exposed
    except Invalid as err:
        quoted = faults.quoted(exposed)
        if quoted is exposed:
            raise
        try:
            return _decoded(_envelope, quoted), quoted
        except Invalid:
            raise err from None


def decode(kind: type[P], payload: bytes, *, site: str | None = None) -> P:
    """A presence, ack, settings, command or reply from its payload.

    Args:
        kind: the type that the topic carries.
        payload: as it came from the broker.
        site: the site that the topic names; another in the payload is refused.

    Raises:
        Invalid: anything that the contract does not allow.
    """
    text = faults.exposed(plain(payload))
    faults.check(text)
    part = _decoded(msgspec.json.Decoder(kind), text)
    if site is not None and getattr(part, "site", site) not in (site, UNSET):
        raise Invalid(f"speaks for {part.site!r} on the topic of {site!r}")  # type: ignore[attr-defined]  # every kind with a site has it
    for name in ("at", "expires_at"):
        if hasattr(part, name):
            epoch(getattr(part, name))
    return part


def decode_readings(payload: bytes, *, site: str) -> Batch:
    """The readings of one message, good and bad apart.

    Args:
        payload: as it came from the broker.
        site: the site that the topic names; another in the envelope is refused.

    Raises:
        Invalid: the envelope breaks the contract, so nothing in it can be used.
    """
    text = plain(payload)
    envelope, exposed = _envelope_of(text)
    if exposed != text:
        for name, field in _decoded(_fields, exposed).items():
            if name != "readings":  # each of those is judged alone
                faults.check(bytes(field))
    if envelope.site != site:
        raise Invalid(f"speaks for {envelope.site!r} on the topic of {site!r}")
    judge = _judged if exposed is text else decode_reading
    good: list[GoodReading] = []
    bad: list[BadReading] = []
    for place, part in enumerate(envelope.readings):
        raw = bytes(part)
        try:
            good.append(judge(raw, place))
        except Invalid as err:
            bad.append(BadReading(_seq_of(raw), str(err), faults.hidden(raw)))
    return Batch(envelope, good, bad)


def raw_readings(payload: bytes) -> list[bytes]:
    """The JSON text of each reading of a message that `decode_readings` has taken."""
    return [bytes(part) for part in _envelope_of(plain(payload))[0].readings]


def decode_reading(raw: bytes, place: int = 0) -> GoodReading:
    """One reading from its JSON text.

    Args:
        raw: the JSON text.
        place: where it stands in its message.

    Raises:
        Invalid: anything that the contract does not allow.
    """
    exposed = faults.exposed(raw)
    faults.check(exposed)
    return _judged(exposed, place)._replace(raw=raw)


def _judged(raw: bytes, place: int) -> GoodReading:
    """The same, where no lone surrogate can be: what nearly every reading goes through."""
    reading = _decoded(_reading, raw)
    if reading.dead is not UNSET:
        for edge in reading.dead:
            epoch(edge.start)
            if edge.end is not None:
                epoch(edge.end)
    if reading.path is not UNSET:
        for path in reading.path:
            epoch(path.at)
    return GoodReading(reading, epoch(reading.taken_at), raw, place)


def _seq_of(raw: bytes) -> int | None:
    try:
        seq: int = _seq_only.decode(raw).seq  # type: ignore[attr-defined]  # made by defstruct
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return seq
