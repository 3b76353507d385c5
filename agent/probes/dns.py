"""Name resolution: one UDP question a name, asked directly of one resolver (RFC 1035).

Not ``getaddrinfo``: that answers from caches and files, asks servers of its own choice,
and cannot be held to a deadline.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import time
from pathlib import Path

from agent import wire
from agent.probes.runner import Context, ProbeError

PORT = 53
_AGAIN_S = 0.6
_RESOLV_CONF = Path("/etc/resolv.conf")
_HEADER = struct.Struct("!6H")
_TYPE_A, _CLASS_IN = 1, 1
_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8000
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def dns(context: Context) -> wire.Dns | None:
    """Asks for the IPv4 address of every name at once; the first good answer decides.

    A lost question is asked again after 0.6 s; the time counts from the first question.

    Raises:
        ProbeError: no resolver, or it says no to every name (then with its time).
        OSError: the resolver refuses, cannot be reached, or is silent.
    """
    if not context.names:
        return None
    address = endpoint(context.resolver or system_resolver(_RESOLV_CONF.read_text()))
    questions = {}
    for name in context.names:
        ident = secrets.randbelow(0x10000)
        questions[ident] = name, question(ident, name)
    with socket.socket(_family(address[0]), socket.SOCK_DGRAM) as sock:
        sock.connect(address)  # from here on only this resolver is heard, and refusals too
        return _ask(sock, questions, address[0], context.deadline_s)


def _ask(
    sock: socket.socket, questions: dict[int, tuple[str, bytes]], resolver: str, deadline_s: float
) -> wire.Dns:
    begun_s = time.monotonic()
    again_s = begun_s
    refusals: list[str] = []
    while True:
        now_s = time.monotonic()
        if now_s >= begun_s + deadline_s:
            raise ProbeError("; ".join(refusals)) if refusals else TimeoutError
        if now_s >= again_s:
            for _, packet in questions.values():
                sock.send(packet)
            again_s = now_s + _AGAIN_S
        sock.settimeout(min(again_s, begun_s + deadline_s) - now_s)
        try:
            data = sock.recv(4096)
        except TimeoutError:
            continue
        time_ms = round((time.monotonic() - begun_s) * 1000, 3)
        ident = int.from_bytes(data[:2], "big")
        if ident not in questions:
            continue  # not ours, or late: as if it had not come
        name, packet = questions[ident]
        refusal = judge(data, packet)
        if refusal is None:
            return wire.Dns(ok=True, time_ms=time_ms)
        del questions[ident]
        refusals.append(f"{resolver} answers {refusal} for {name}")
        if not questions:
            raise ProbeError("; ".join(refusals), wire.Dns(ok=False, time_ms=time_ms))


def question(ident: int, name: str) -> bytes:
    """The packet that asks for the IPv4 address of `name`.

    Raises:
        ProbeError: the name cannot stand in a question.
    """
    try:
        labels = name.rstrip(".").encode("idna").split(b".")
    except UnicodeError:
        raise ProbeError(f"{name!r} is no host name") from None
    if not all(0 < len(label) < 64 for label in labels):
        raise ProbeError(f"{name!r} is no host name")
    wire_name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = _HEADER.pack(ident, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + wire_name + struct.pack("!2H", _TYPE_A, _CLASS_IN)


def judge(answer: bytes, asked: bytes) -> str | None:
    """Why an answer is no good one; None when it is."""
    if len(answer) < len(asked):
        return "half a packet"
    _, flags, _, answers, _, _ = _HEADER.unpack_from(answer)
    if not flags & _RESPONSE or answer[12 : len(asked)].lower() != asked[12:].lower():
        return "something that is no answer"
    if code := flags & 0xF:
        return _RCODES.get(code, f"RCODE {code}")
    return None if answers else "no address"


def system_resolver(text: str) -> str:
    """The first name server in the text of ``resolv.conf``.

    Raises:
        ProbeError: it names none.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            return words[1]
    raise ProbeError("no nameserver in /etc/resolv.conf; set resolver in [dns]")


def endpoint(resolver: str) -> tuple[str, int]:
    """Address and port of ``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[…]:5353``.

    Raises:
        ProbeError: it is none of these.
    """
    host, port = resolver, str(PORT)
    if resolver.startswith("["):
        host, _, port = resolver[1:].partition("]:")
    elif resolver.count(":") == 1:
        host, _, port = resolver.partition(":")
    try:
        ipaddress.ip_address(host)
        return host, int(port)
    except ValueError:
        raise ProbeError(f"resolver {resolver!r} is no IP address") from None


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
