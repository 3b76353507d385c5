"""A DHCP lease as a user's device takes it (RFC 2131), on one interface, configuring nothing."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from agent.helpers.walk_talk import HelperError

_TRIES, _WAIT_S = 3, 3.0


class Lease(NamedTuple):
    """What the server gave."""

    address: str
    prefix: int
    router: str
    server: str


def take(interface: str, hardware: str) -> Lease:
    """Discover, offer, request, acknowledgement.

    Raises:
        HelperError: no server answers, or it refuses.
    """
    ident = secrets.randbits(32)
    offer = _ask(interface, hardware, ident, [("message-type", "discover")], (2,))
    if offer is None:
        raise HelperError("no DHCP server answers")
    server, address = str(_options(offer).get("server_id", "")), str(_bootp(offer).yiaddr)
    wanted = [("message-type", "request"), ("requested_addr", address), ("server_id", server)]
    answer = _ask(interface, hardware, ident, wanted, (5, 6))
    if answer is None:
        raise HelperError("the DHCP server offers an address, and then falls silent")
    options = _options(answer)
    if options["message-type"] == 6:
        raise HelperError("the DHCP server refuses the address that it offered")
    mask = str(options.get("subnet_mask", "255.255.255.0"))
    prefix = sum(bin(int(part)).count("1") for part in mask.split("."))
    return Lease(address, prefix, str(options.get("router", server)), server)


def release(interface: str, hardware: str, lease: Lease) -> None:
    """Give the address back; nobody answers that."""
    options = [("message-type", "release"), ("server_id", lease.server)]
    from scapy.sendrecv import sendp

    sendp(_packet(hardware, secrets.randbits(32), options, lease.address), iface=interface,
          verbose=0)  # fmt: skip


def _ask(
    interface: str,
    hardware: str,
    ident: int,
    options: list[tuple[str, str]],
    kinds: tuple[int, ...],
) -> Any:
    """The first answer to our request that is of one of these kinds; None if none comes."""
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.sendrecv import AsyncSniffer, sendp

    def ours(received: Any) -> bool:
        if BOOTP not in received or DHCP not in received or received[BOOTP].xid != ident:
            return False
        return received[BOOTP].op == 2 and _options(received).get("message-type") in kinds

    for _ in range(_TRIES):
        sniffer = AsyncSniffer(
            iface=interface, lfilter=ours, count=1,
            started_callback=lambda: sendp(
                _packet(hardware, ident, options), iface=interface, verbose=0
            ),
        )  # fmt: skip
        sniffer.start()
        sniffer.join(timeout=_WAIT_S)
        if sniffer.running:
            sniffer.stop()
        if sniffer.results:
            return sniffer.results[0]
    return None


def _packet(
    hardware: str,
    ident: int,
    options: list[tuple[str, str]],
    client: str = "0.0.0.0",  # noqa: S104 - "no address yet"
) -> Any:
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    return (
        Ether(src=hardware, dst="ff:ff:ff:ff:ff:ff")
        / IP(src=client, dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(
            chaddr=bytes.fromhex(hardware.replace(":", "")), xid=ident, flags=0x8000, ciaddr=client
        )
        / DHCP(options=[*options, ("param_req_list", [1, 3, 6]), "end"])
    )


def _bootp(packet: Any) -> Any:
    from scapy.layers.dhcp import BOOTP

    return packet[BOOTP]


def _options(packet: Any) -> dict[str, Any]:
    from scapy.layers.dhcp import DHCP

    return {option[0]: option[1] for option in packet[DHCP].options if isinstance(option, tuple)}
