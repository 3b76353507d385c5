"""What the connections to the broker took, as the kernel counts it (tcp(7), TCP_INFO)."""

from __future__ import annotations

import contextlib
import socket
import struct

_ATTEMPT_BYTES = 500
"""Asking for the broker's address, and a connection that is refused."""
_HANDSHAKE_BYTES = 8_000
"""Certificates, in vain: such a connection ends before it can be looked at."""
_HEADER_BYTES, _HEADER6_BYTES = 52, 72
"""IP and TCP with its time stamps."""
_INFO_BYTES = 256
# struct tcp_info of linux/tcp.h: bytes_received, segs_out, segs_in; bytes_sent, with what was
# sent twice, since Linux 4.19
_RECEIVED = struct.Struct("=QII")
_RECEIVED_AT = 128
_SENT = struct.Struct("=Q")
_SENT_AT = 200


class Traffic:
    """Bytes at IP level over all connections. Written by one thread, read by others."""

    def __init__(self) -> None:
        self._ended = 0
        self._now = 0

    @property
    def bytes(self) -> int:
        return self._ended + self._now

    def begin(self) -> None:
        """A connection is tried."""
        self._ended += self._now
        self._now = _ATTEMPT_BYTES

    def handshake_failed(self) -> None:
        """TLS was spoken, and led to nothing."""
        self._now += _HANDSHAKE_BYTES

    def look(self, sock: socket.socket) -> None:
        """Take in what the connection has taken so far."""
        with contextlib.suppress(OSError):  # it is closed: what was last seen stands
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            self._now = max(self._now, _ATTEMPT_BYTES + counted(info, sock.family))


def counted(info: bytes, family: int) -> int:
    """The bytes of a ``struct tcp_info``; 0 where the kernel is too old to tell."""
    if len(info) < _SENT_AT + _SENT.size:
        return 0
    received, segments_out, segments_in = _RECEIVED.unpack_from(info, _RECEIVED_AT)
    (sent,) = _SENT.unpack_from(info, _SENT_AT)
    header = _HEADER_BYTES if family == socket.AF_INET else _HEADER6_BYTES
    return int(sent + received + (segments_out + segments_in) * header)
