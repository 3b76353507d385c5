"""What `check` has to know of a certificate (RFC 5280): whose it is, and from when to when."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _OID, _UTC_TIME, _TIME = 0x30, 0xA0, 0x06, 0x17, 0x18
_COMMON_NAME = bytes((0x55, 0x04, 0x03))


class Certificate(NamedTuple):
    """Times are seconds since 1970; ``name`` is the subject's common name, if it has one."""

    name: str | None
    not_before: float
    not_after: float


class _Part(NamedTuple):
    """One value of DER (X.690)."""

    tag: int
    body: bytes


def parse(pem: str) -> Certificate:
    """The first certificate in the text of a PEM file.

    Raises:
        ValueError: there is none that can be read.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM")
    try:
        whole = _parts(ssl.PEM_cert_to_DER_cert(found[0]))[0]
        signed = _parts(_parts(whole.body)[0].body)
        fields = signed[1:] if signed[0].tag == _VERSION else signed
        validity, subject = fields[3], fields[4]
        begin, end = (_time(part) for part in _parts(validity.body)[:2])
        return Certificate(_name(subject), begin, end)
    except IndexError:
        raise ValueError("a certificate that is cut off") from None


def _parts(body: bytes) -> list[_Part]:
    found = []
    at = 0
    while at < len(body):
        tag, length = body[at], body[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(body[at : at + size], "big")
            at += size
        if at + length > len(body):
            raise ValueError("a certificate that is cut off")
        found.append(_Part(tag, body[at : at + length]))
        at += length
    return found


def _time(part: _Part) -> float:
    text = part.body.decode("ascii")
    if part.tag == _UTC_TIME:  # two digits of the year: 1950 to 2049 (RFC 5280, 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    elif part.tag != _TIME:
        raise ValueError("a certificate without a validity")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _name(subject: _Part) -> str | None:
    for group in _parts(subject.body):
        for attribute in _parts(group.body):
            kind, value = _parts(attribute.body)[:2]
            if (kind.tag, kind.body) == (_OID, _COMMON_NAME):
                return value.body.decode("utf-8", errors="replace")
    return None
