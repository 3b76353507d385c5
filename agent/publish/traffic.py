"""What the connections to the broker took, as the kernel counts it (tcp(7), TCP_INFO)."""

from __future__ import annotations

import contextlib
import socket
import struct

_ATTEMPT_BYTES = 1_000
"""Asking for the broker's address, and what is sent before a connection stands or fails."""
_TLS_ATTEMPT_BYTES = 8_000
"""The same where TLS is spoken: certificates, in vain."""
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

    def begin(self, *, tls: bool) -> None:
        """A connection is tried; until it is looked at, it counts as one that fails."""
        self._ended += self._now
        self._now = _TLS_ATTEMPT_BYTES if tls else _ATTEMPT_BYTES

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
