"""Who answers ARP (RFC 826) on the LAN: one question an address, in a process of its own.

Request: ``addresses`` (name to IPv4 address). Value: name to round trip in milliseconds, or
null where nobody answered.
"""

from __future__ import annotations

from typing import Any

from agent.helpers.walk_talk import NET_RAW, HelperError, serve

_TIMEOUT_S = 1.0


def work(request: dict[str, Any]) -> object:
    """Ask all at once; twice those who are silent."""
    from scapy.config import conf
    from scapy.layers.l2 import ARP, Ether
    from scapy.sendrecv import srp

    found: dict[str, float | None] = dict.fromkeys(request["addresses"])
    by_interface: dict[str, list[str]] = {}
    for name, address in request["addresses"].items():
        interface, _, gateway = conf.route.route(address)
        if gateway != "0.0.0.0":  # noqa: S104 - "no gateway", not an address to listen on
            raise HelperError(f"{name}: {address} is not on a network of this machine")
        by_interface.setdefault(str(interface), []).append(name)
    for interface, names in by_interface.items():
        questions = [
            Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=request["addresses"][name]) for name in names
        ]
        answers, _ = srp(questions, iface=interface, timeout=_TIMEOUT_S, retry=1, verbose=0)
        for sent, received in answers:
            name = next(n for n in names if request["addresses"][n] == sent.pdst)
            found[name] = round(
                max(0.0, float(received.time) - float(sent.sent_time or 0)) * 1000, 3
            )
    return found


if __name__ == "__main__":
    serve(work, (NET_RAW,))
