"""A publisher that is faster than any client library: MQTT 3.1.1 bytes made beforehand.

It speaks just enough of the protocol to fill a broker at QoS 1 and to know that
every message was acknowledged (CONNECT, SUBSCRIBE, PUBLISH, PUBACK).
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable

_MAX_ID = 65_000
_CHUNK = 1 << 20
_TIMEOUT_S = 120.0


def publish_packets(messages: Iterable[tuple[str, bytes]]) -> list[bytes]:
    """The PUBLISH packets (QoS 1) of topics and payloads."""
    return [
        _packet(0x32, _text(topic) + struct.pack("!H", number % _MAX_ID + 1) + payload)
        for number, (topic, payload) in enumerate(messages)
    ]


class Connection:
    """One connection to the broker at `port` of the loopback."""

    def __init__(self, port: int, client_id: str, *, clean: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
        head = _text("MQTT") + bytes([4, 2 if clean else 0]) + struct.pack("!H", 0)
        self.socket.sendall(_packet(0x10, head + _text(client_id)))
        answer = self._exactly(4)
        if answer[3] != 0:
            raise ConnectionError(f"the broker refused {client_id}: code {answer[3]}")

    def subscribe(self, *filters: str) -> None:
        """Subscribe at QoS 1; returns once the broker has granted it."""
        body = b"".join(_text(text) + b"\x01" for text in filters)
        self.socket.sendall(_packet(0x82, b"\x00\x01" + body))
        granted = self._exactly(4 + len(filters))[4:]
        if any(code > 1 for code in granted):
            raise ConnectionError(f"a subscription was refused: {granted.hex()}")

    def flood(self, packets: list[bytes]) -> None:
        """Send all, as fast as the broker takes them; returns when all are acknowledged."""
        reader = threading.Thread(target=self._exactly, args=(4 * len(packets),))
        reader.start()
        joined = b"".join(packets)
        for start in range(0, len(joined), _CHUNK):
            self.socket.sendall(joined[start : start + _CHUNK])
        reader.join()
        if self._short:
            raise ConnectionError("the broker closed the connection before all was acknowledged")

    def close(self) -> None:
        """A clean end."""
        self.socket.sendall(b"\xe0\x00")
        self.socket.close()

    _short = False

    def _exactly(self, size: int) -> bytes:
        """The next `size` bytes, or fewer when the broker closed."""
        parts: list[bytes] = []
        while size > 0:
            part = self.socket.recv(min(size, 1 << 16))
            if not part:
                self._short = True
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def persistent_session(port: int, client_id: str, *filters: str) -> None:
    """Leave an empty persistent session behind, whatever was there before."""
    Connection(port, client_id, clean=True).close()
    session = Connection(port, client_id, clean=False)
    session.subscribe(*filters)
    session.close()


def _packet(kind: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, low = divmod(rest, 128)
        length += bytes([low | 0x80 if rest else low])
        if not rest:
            return bytes([kind]) + length + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data
