"""ICMP echoes on plain sockets (RFC 792, RFC 4443): packets, sockets, the kernel's stamps."""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

from agent.measured import Family
from agent.probes.runner import ProbeError

ECHO_REPLY, ECHO_REQUEST = 0, 8
ECHO6_REQUEST, ECHO6_REPLY = 128, 129
COOKIE_BYTES = 56
"""The payload, all of it random, and as long as ping's."""

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, id, seq
_SO_TIMESTAMPNS = 64  # SO_TIMESTAMPNS_NEW: 64-bit time also on 32-bit machines
_TIMESPEC = struct.Struct("=qq")
_SO_ATTACH_FILTER = 26
_SOL_RAW, _ICMP_FILTER = 255, 1
_ICMP6_FILTER = 1
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err
_NOT_PERMITTED = (
    "ICMP is not permitted: grant CAP_NET_RAW, or put a group of this user "
    "into net.ipv4.ping_group_range"
)


class _Errors(NamedTuple):
    """How the kernel tells of a router's report that an echo's time to live ended.

    ``offender`` is where the router's address lies in the socket address behind the error.
    """

    level: int
    recverr: int
    ttl: int
    expired: tuple[int, int]
    offender: slice


_ERRORS: dict[Family, _Errors] = {
    4: _Errors(socket.IPPROTO_IP, 11, socket.IP_TTL, (2, 11), slice(4, 8)),
    6: _Errors(socket.IPPROTO_IPV6, 25, socket.IPV6_UNICAST_HOPS, (3, 3), slice(8, 24)),
}


class Reply(NamedTuple):
    """An echo reply; ``stamp_ns`` is the kernel's, CLOCK_REALTIME."""

    source: str
    ident: int
    seq: int
    cookie: bytes
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class EchoSocket:
    """A socket for echoes and the id that its echoes bear.

    With a datagram socket the kernel fills in id and checksum, and passes on the replies to
    that id alone. A raw one sees every reply to this machine, headed by its IP header.
    """

    sock: socket.socket
    ident: int
    raw: bool
    family: Family = 4

    def receive(self) -> Reply | None:
        """The next packet, or None when it is no echo reply; OSError when there is none."""
        data, ancillary, _, source = self.sock.recvmsg(2048, 64)
        headed = self.raw and self.family == 4 and data
        icmp = data[(data[0] & 0xF) * 4 :] if headed else data
        if len(icmp) < _HEADER.size:
            return None
        kind, _, _, ident, seq = _HEADER.unpack_from(icmp)
        if kind != (ECHO_REPLY if self.family == 4 else ECHO6_REPLY):
            return None
        for level, what, value in ancillary:
            if level == socket.SOL_SOCKET and what == _SO_TIMESTAMPNS:
                seconds, ns = _TIMESPEC.unpack(value)
                stamp_ns = seconds * 1_000_000_000 + ns
                return Reply(source[0], ident, seq, icmp[_HEADER.size :], stamp_ns)
        return None

    def __enter__(self) -> EchoSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def open_echo_socket(family: Family = 4) -> EchoSocket:
    """A datagram ICMP socket where it is permitted, else a raw one; not blocking.

    Raises:
        ProbeError: neither is permitted.
    """
    domain, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if family == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    try:
        sock = socket.socket(domain, socket.SOCK_DGRAM, protocol)
        raw = False
    except PermissionError:
        try:
            sock = socket.socket(domain, socket.SOCK_RAW, protocol)
        except PermissionError:
            raise ProbeError(_NOT_PERMITTED) from None
        raw = True
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError as err:  # a kernel before 5.1, or an emulated one
        sock.close()
        raise ProbeError(f"no receive stamps for ICMP: {err.strerror}; needs Linux 5.1") from None
    if raw:
        ident = secrets.randbelow(0x10000)
        _hear_only(sock, ident, family)
        return EchoSocket(sock, ident, raw, family)
    sock.bind(("", 0))
    return EchoSocket(sock, sock.getsockname()[1], raw, family)


def _hear_only(sock: socket.socket, ident: int, family: Family) -> None:
    """Has the kernel pass replies with our id alone, as it does on a datagram socket.

    Else another program's flood of echoes could fill the buffer that holds our replies.
    """
    if family == 4:
        only_replies = struct.pack("=I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, only_replies)
    else:
        blocked = [0xFFFFFFFF] * 8
        blocked[ECHO6_REPLY // 32] &= ~(1 << ECHO6_REPLY % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *blocked))
    instructions = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            # X = length of the IP header, which a raw socket for IPv6 does not show
            (0xB1, 0, 0, 0) if family == 4 else (0x01, 0, 0, 0),
            (0x48, 0, 0, 4),  # A = half a word at X + 4: the id
            (0x15, 0, 1, ident),  # another one: skip one instruction
            (0x06, 0, 0, 0xFFFFFFFF),  # pass all of it
            (0x06, 0, 0, 0),  # pass nothing
        )
    )
    program = ctypes.create_string_buffer(instructions, len(instructions))
    filter_ = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def packet(ident: int, seq: int, cookie: bytes, family: Family = 4) -> bytes:
    """An echo request with its checksum (RFC 1071); `cookie` has an even length.

    For IPv6 the kernel puts in the checksum, which covers addresses that it chooses.
    """
    if family == 6:
        return _HEADER.pack(ECHO6_REQUEST, 0, 0, ident, seq) + cookie
    body = _HEADER.pack(ECHO_REQUEST, 0, 0, ident, seq) + cookie
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _HEADER.pack(ECHO_REQUEST, 0, checksum, ident, seq) + cookie


def who_answers(address: str, ttl: int, timeout_s: float = 1.0, tries: int = 3) -> str | None:
    """Who answers an echo towards `address` that may pass `ttl` hops; None when nobody does.

    The target itself, or the router where the echo's time to live ends (RFC 792, type 11;
    RFC 4443, type 3).
    """
    family: Family = 6 if ":" in address else 4
    errors = _ERRORS[family]
    with open_echo_socket(family) as echo:
        echo.sock.setsockopt(errors.level, errors.ttl, ttl)
        echo.sock.setsockopt(errors.level, errors.recverr, 1)
        cookie = secrets.token_bytes(COOKIE_BYTES)
        for seq in range(1, tries + 1):
            end_s = time.monotonic() + timeout_s
            try:
                echo.sock.sendto(packet(echo.ident, seq, cookie, family), (address, 0))
            except OSError:
                continue  # no route now, or the error of the try before: the next try tells
            if (answerer := _answer(echo, address, cookie, end_s)) is not None:
                return answerer
    return None


def _answer(echo: EchoSocket, address: str, cookie: bytes, end_s: float) -> str | None:
    poller = select.poll()
    poller.register(echo.sock, select.POLLIN)
    while (left_s := end_s - time.monotonic()) > 0:
        for _, events in poller.poll(left_s * 1000):
            with contextlib.suppress(OSError):  # nothing there after all, or an error reported
                if events & select.POLLERR:
                    hop = _expired_at(echo, address)
                    if hop is not None:
                        return hop
                else:
                    reply = echo.receive()
                    if reply and (reply.source, reply.cookie) == (address, cookie):
                        return reply.source
            echo.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # cleared by being read
    return None


def _expired_at(echo: EchoSocket, address: str) -> str | None:
    """The router that reports our echo's end, from the socket's error queue."""
    data, ancillary, _, towards = echo.sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    if len(data) < _HEADER.size or towards[0] != address:
        return None
    kind, _, _, ident, _ = _HEADER.unpack_from(data)
    request = ECHO_REQUEST if echo.family == 4 else ECHO6_REQUEST
    if (kind, ident) != (request, echo.ident):
        return None  # a raw socket hears of every echo of this machine
    errors = _ERRORS[echo.family]
    for level, what, value in ancillary:
        if (level, what) == (errors.level, errors.recverr):
            _, origin, error, _, _, _, _ = _EXTENDED_ERROR.unpack_from(value)
            if (origin, error) == errors.expired:
                domain = socket.AF_INET if echo.family == 4 else socket.AF_INET6
                return socket.inet_ntop(domain, value[_EXTENDED_ERROR.size :][errors.offender])
    return None
