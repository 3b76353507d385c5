"""DNS packets (RFC 1035): a question, and what an answer says. Pure."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from agent import wire

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_TYPE_A, _TYPE_CNAME, _CLASS_IN = 1, 5, 1
_ADDRESS_BYTES = 4
_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8000
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_OUTCOMES: dict[int, wire.DnsOutcome] = {3: "nxdomain", 5: "refused"}
_POINTER = 0xC0


class Answer(NamedTuple):
    """What one packet says: its outcome, in words where it is no good, and what it holds."""

    outcome: wire.DnsOutcome
    refusal: str = ""
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def question(ident: int, name: str) -> bytes:
    """The packet that asks for the IPv4 address of `name`.

    Raises:
        ValueError: the name cannot stand in a question.
    """
    try:
        labels = name.rstrip(".").encode("idna").split(b".")
    except UnicodeError:
        raise ValueError(f"{name!r} is no host name") from None
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is no host name")
    wire_name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = _HEADER.pack(ident, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + wire_name + struct.pack("!2H", _TYPE_A, _CLASS_IN)


def judge(packet: bytes, asked: bytes) -> Answer:
    """What `packet` says to the question `asked`."""
    if len(packet) < len(asked):
        return Answer("garbage", "half a packet")
    _, flags, _, records, _, _ = _HEADER.unpack_from(packet)
    if not flags & _RESPONSE or packet[12 : len(asked)].lower() != asked[12:].lower():
        return Answer("garbage", "something that is no answer")
    if code := flags & 0xF:
        return Answer(_OUTCOMES.get(code, "servfail"), _RCODES.get(code, f"RCODE {code}"))
    try:
        addresses, aliases = _records(packet, len(asked), records)
    except (struct.error, IndexError, ValueError):
        return Answer("garbage", "half a packet")
    if not addresses:
        return Answer("empty", "no address", aliases=aliases)
    return Answer("answer", "", addresses, aliases)


def _records(packet: bytes, at: int, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The addresses, and the names that aliases point to."""
    addresses: list[str] = []
    aliases: list[str] = []
    for _ in range(count):
        _, at = _name(packet, at)
        kind, class_, _, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        if at + length > len(packet):
            raise ValueError
        if (kind, class_) == (_TYPE_A, _CLASS_IN):
            if length != _ADDRESS_BYTES:
                raise ValueError
            addresses.append(socket.inet_ntoa(packet[at : at + length]))
        elif (kind, class_) == (_TYPE_CNAME, _CLASS_IN):
            aliases.append(_name(packet, at)[0])
        at += length
    return tuple(addresses), tuple(aliases)


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at `at`, and where what follows it begins."""
    labels: list[str] = []
    end: int | None = None
    while length := packet[at]:
        if length & _POINTER == _POINTER:
            end = at + 2 if end is None else end
            before, at = at, (length & ~_POINTER) << 8 | packet[at + 1]
            if at >= before:
                raise ValueError  # pointers lead back, or they may lead in a circle
            continue
        label = packet[at + 1 : at + 1 + length]
        labels.append(label.decode("ascii", "replace").lower())
        at += 1 + length
    return ".".join(labels), at + 1 if end is None else end
