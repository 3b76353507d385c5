"""The hops on the way to some targets, as JSON on stdout.

    python -m agent.helpers.trace '{"targets": ["192.0.2.1", "example.org"], "tries": 2}'

A process of its own, because scapy takes more memory than the rest of the agent: it is paid
only while a path is traced. Each line of the answer is for one target, as soon as it is known:

    {"target": "192.0.2.1", "address": "192.0.2.1", "reached": false,
     "hops": [{"ttl": 1, "address": "10.0.0.1", "rtt_ms": 0.41}, {"ttl": 2}]}

or ``{"target": …, "error": "one clear line"}``. ICMP echoes (RFC 792, RFC 4443) with a growing
time to live; the router where one ends reports it (type 11, or 3 with ICMPv6).
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable
from typing import Any

MAX_HOPS = 30
_AT_ONCE = 6
_TIMEOUT_S = 1.0
_SILENT_HOPS = 6
"""After so many hops in a row without an answer the rest will not answer either."""

TARGET, ROUTER, REFUSAL = "target", "router", "refusal"
Answers = dict[int, tuple[str, float, str]]
"""By TTL: who answered, after how many milliseconds, and as what.

A refusal is a router that knows no way on, or does not let echoes pass.
"""
AskAll = Callable[[list[int]], Answers]


def hops(ask: AskAll, tries: int) -> tuple[bool, list[dict[str, object]]]:
    """Whether the target answered, and the hops up to it or to the last that answered.

    Args:
        ask: sends one echo for each TTL given, and gives the answers.
        tries: how often a TTL without an answer is asked.
    """
    found: Answers = {}
    for first in range(1, MAX_HOPS + 1, _AT_ONCE):
        ttls = list(range(first, min(first + _AT_ONCE, MAX_HOPS + 1)))
        for _ in range(tries):
            missing = [ttl for ttl in ttls if ttl not in found and not _ended(found, ttl)]
            if missing:
                found |= ask(missing)
        if _ended(found, ttls[-1] + 1) or ttls[-1] - max(found, default=0) >= _SILENT_HOPS:
            break
    ends = [ttl for ttl, (_, _, kind) in found.items() if kind != ROUTER]
    last = min(ends, default=max(found, default=0))
    reached = last in found and found[last][2] == TARGET
    if last in found and found[last][2] == REFUSAL and found[last][0] == _who(found, last - 1):
        last -= 1  # the same router once more, now as the end
    return reached, [_hop(ttl, found) for ttl in range(1, last + 1)]


def _who(found: Answers, ttl: int) -> str | None:
    return found[ttl][0] if ttl in found else None


def _ended(found: Answers, ttl: int) -> bool:
    """Whether the way ends before `ttl`."""
    return any(kind != ROUTER and at < ttl for at, (_, _, kind) in found.items())


def _hop(ttl: int, found: Answers) -> dict[str, object]:
    if ttl not in found:
        return {"ttl": ttl}
    address, rtt_ms, _ = found[ttl]
    return {"ttl": ttl, "address": address, "rtt_ms": round(rtt_ms, 3)}


def _asker(address: str) -> AskAll:
    """Sends with scapy, which knows which report belongs to which echo."""
    os.environ["HOME"] = "/nonexistent"  # scapy would keep its settings there
    import logging

    logging.getLogger("scapy").setLevel(logging.CRITICAL)  # errors are told by us, in one line
    from scapy.config import conf

    conf.verb = 0
    conf.sniff_promisc = False
    from scapy.layers.inet import ICMP, IP
    from scapy.sendrecv import sr

    make: Callable[[int, int, int], Any]
    if ipaddress.ip_address(address).version == 4:

        def make(ttl: int, ident: int, seq: int) -> Any:
            echo = ICMP(id=ident, seq=seq)
            return IP(dst=address, ttl=ttl, id=secrets.randbits(16)) / echo / bytes(32)

    else:
        from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

        def make(ttl: int, ident: int, seq: int) -> Any:
            return IPv6(dst=address, hlim=ttl) / ICMPv6EchoRequest(
                id=ident, seq=seq, data=bytes(32)
            )

    def ask(ttls: list[int]) -> Answers:
        ident = secrets.randbits(16)
        by_ttl = [make(ttl, ident, ttl) for ttl in ttls]
        answered: Any
        answered, _ = sr(by_ttl, timeout=_TIMEOUT_S, retry=0)
        found: Answers = {}
        for query, answer in answered:
            ttl = query.ttl if hasattr(query, "ttl") else query.hlim
            rtt_ms = max(0.0, (float(answer.time) - float(query.sent_time)) * 1000)
            found[ttl] = (answer.src, rtt_ms, _kind(answer, address))
        return found

    return ask


def _kind(answer: Any, address: str) -> str:
    if answer.src == address:
        return TARGET
    v6 = ":" in address
    return REFUSAL if answer.payload.type == (1 if v6 else 3) else ROUTER


def trace(target: str, tries: int) -> dict[str, object]:
    """The way to one target; or why there is none to be seen."""
    try:
        address = str(socket.getaddrinfo(target, None, type=socket.SOCK_DGRAM)[0][4][0])
    except OSError as err:
        return {"target": target, "error": f"{target} does not resolve: {err.strerror}"}
    try:
        reached, found = hops(_asker(address), tries)
    except PermissionError:
        return {"target": target, "error": "tracing is not permitted: grant CAP_NET_RAW"}
    except OSError as err:
        return {"target": target, "error": f"cannot trace {target}: {err.strerror or err}"}
    return {"target": target, "address": address, "reached": reached, "hops": found}


def main() -> None:
    given = json.loads(sys.argv[1])
    for target in given["targets"]:
        sys.stdout.write(json.dumps(trace(target, given.get("tries", 2))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
