"""Packets that are no MQTT, from a socket of our own: no client library would send them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

_ANSWER_S = 10.0
_PUBLISH = 0x32
_TOPIC = b"pantau/v1/sites/fuzz-0001/readings"


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _packet(kind: int, body: bytes) -> bytes:
    length, size = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        size.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind, *size]) + body


def _connect(version: int) -> bytes:
    more = b"\x00" if version == 5 else b""
    return _packet(0x10, _text(b"MQTT") + bytes([version, 2, 0, 60]) + more + _text(b"_raw"))


def packets() -> Iterator[tuple[str, int, bytes]]:
    """Name, version of MQTT, and packet. Each must end its connection."""
    topics = {
        "a topic that is no UTF-8": b"pantau/v1/sites/\xff\xfe/readings",
        "a topic in overlong UTF-8": b"pantau/v1/sites/\xc0\xaf/readings",
        "a topic with a surrogate": b"pantau/v1/sites/\xed\xa0\x80/readings",
        "a topic with NUL": b"pantau/v1/sites/a\x00/readings",
        "a topic with a newline": b"pantau/v1/sites/a\n/readings",
        "a topic with +": b"pantau/v1/sites/+/readings",
        "a topic with #": b"pantau/v1/#",
        "no topic": b"",
    }
    for name, topic in topics.items():
        yield name, 4, _packet(_PUBLISH, _text(topic) + b"\x00\x01{}")
        yield name, 5, _packet(_PUBLISH, _text(topic) + b"\x00\x01\x00{}")
    yield "QoS 3", 4, _packet(0x36, _text(_TOPIC) + b"\x00\x01{}")
    yield "a length that never ends", 4, b"\x32\xff\xff\xff\xff\xff"
    yield "a topic beyond the packet", 4, _packet(_PUBLISH, b"\xff\xffpantau")
    yield "packet id 0", 4, _packet(_PUBLISH, _text(_TOPIC) + b"\x00\x00{}")
    for name, block in {
        "a property of nobody": b"\x7f\x00",
        "a user property that is no UTF-8": b"\x26" + _text(b"\xff") + _text(b"a"),
        "a topic alias 0": b"\x23\x00\x00",
        "properties beyond the packet": b"\x26\xff\xff",
    }.items():
        body = _text(_TOPIC) + b"\x00\x01" + bytes([len(block)]) + block + b"{}"
        yield name, 5, _packet(_PUBLISH, body)
    yield "half a message", 4, _packet(_PUBLISH, _text(_TOPIC) + b"\x00\x01" + b"{" * 99)[:-50]


def refused(host: str, port: int, version: int, packet: bytes) -> bool:
    """Whether the broker ends the connection that brings this packet, after a good login.

    We have nothing more to say, so that half a packet ends it as well.
    """
    with socket.create_connection((host, port), _ANSWER_S) as line:
        line.sendall(_connect(version))
        if line.recv(4)[:1] != b"\x20":
            return False
        try:
            line.sendall(packet)
            line.shutdown(socket.SHUT_WR)
            said = b""
            while part := line.recv(4096):
                said += part
        except TimeoutError:
            return False
        except ConnectionError:
            return True
    return b"\x40\x02\x00\x01" not in said  # the PUBACK of what was taken
