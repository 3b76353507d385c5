"""No address of a client leaves the agent: everything sent, spooled and logged is searched."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from agent import wire
from tests.lab.broker import Broker
from tests.lab.net import Namespace, cable, sh
from tests.lab.private import held, notations
from tests.lab.process import Service
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]
SITE = "lab-0001"
_LEASE_SCRIPT = """#!/bin/sh
[ "$1" = bound ] && ip addr add $ip/24 dev $interface
exit 0
"""


class Lan(NamedTuple):
    """A gateway with DHCP and its clients, their link and IP addresses known."""

    gateway: Namespace
    leases: Path
    hardware: list[str]
    addresses: list[str]


@contextmanager
def lan(folder: Path, count: int) -> Iterator[Lan]:
    """dnsmasq on a bridge, and clients that took leases from it."""
    script = folder / "lease.sh"
    script.write_text(_LEASE_SCRIPT)
    script.chmod(0o755)
    leases = folder / "leases"
    with ExitStack() as stack:
        gateway, uplink = (stack.enter_context(Namespace()) for _ in range(2))
        cable(gateway, "10.1.0.2/24", uplink, "10.1.0.1/24")
        gateway.route("default", "10.1.0.1")
        gateway.ip("link", "add", "br0", "type", "bridge")
        gateway.ip("addr", "add", "10.82.0.1/24", "dev", "br0")
        gateway.ip("link", "set", "br0", "up")
        clients = [stack.enter_context(Namespace()) for _ in range(count)]
        for number, client in enumerate(clients):
            hardware = f"02:5e:aa:bb:cc:{0x10 + number:02x}"
            sh("ip", "link", "add", f"port{number}", "netns", gateway.name, "type", "veth",
               "peer", "name", "wlan0", "address", hardware, "netns", client.name)  # fmt: skip
            gateway.ip("link", "set", f"port{number}", "master", "br0", "up")
            client.ip("link", "set", "wlan0", "up")
        dhcp = gateway.popen(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
            "--interface=br0", "--bind-interfaces", "--dhcp-range=10.82.0.50,10.82.0.99,2m",
            f"--dhcp-leasefile={leases}", f"--pid-file={folder / 'dnsmasq.pid'}",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for client in clients:
                client.run("busybox", "udhcpc", "-q", "-n", "-i", "wlan0", "-s", str(script))
                client.run("ping", "-c", "1", "-W", "5", "10.82.0.1")
            found = [line.split() for line in leases.read_text().splitlines()]
            yield Lan(gateway, leases, [line[1] for line in found], [line[2] for line in found])
        finally:
            dhcp.terminate()
            dhcp.wait(20)


def test_the_search_finds_an_address_in_every_notation_and_within_what_is_compressed() -> None:
    hardware = "02:5e:aa:bb:cc:10"
    spelt = ("02:5e:aa:bb:cc:10", "025EAABBCC10", "02-5e-aa-bb-cc-10", "025e.aabb.cc10")
    for text in (*spelt, "10:cc:bb:aa:5e:02", "2:5e:aa:bb:cc:10", "Al6qu8wQ", "2605614615568"):
        assert held(f"x{text}y".encode(), notations(hardware))
        assert held(b"head" + zlib.compress(b"\0" * 50 + text.encode()), notations(hardware))
    assert not held(b'{"clients":{"associated":3}}', notations(hardware))


def test_no_address_of_a_client_is_published_spooled_or_logged(tmp_path: Path) -> None:
    with (
        lan(tmp_path, 3) as site,
        Broker(
            tmp_path / "broker", host="127.0.0.1", port=1883,
            prefix=site.gateway.within(),
        ) as broker,
    ):  # fmt: skip
        conf = tmp_path / "agent.toml"
        conf.write_text(
            f'site = "{SITE}"\n{broker.config(SITE)}\n[spool]\npath = "{tmp_path}/spool"\n'
            f'[reading]\nwindow_s = 1\n[targets]\ngateway = "auto"\n'
            f'[clients]\nleases = "{site.leases}"\n'
            f'[access_points]\naddresses = {{ ap-1 = "{site.addresses[0]}" }}\nby = "arp"\n'
        )
        sent = tmp_path / "sent"
        listen = ("mosquitto_sub", "-t", "pantau/#", "-F", "%t %x")
        hear = Service("hear", site.gateway.within(*listen), sent)
        command = [sys.executable, "-m", "agent.main", "run", "--config", str(conf)]
        agent = Service("agent", site.gateway.within(*command), tmp_path / "agent.log")
        hear.start()
        agent.start()
        try:
            until(
                lambda: {"source", "access_points"} <= counted(sent, len(site.hardware)),
                120, f"clients and access points in readings\n{agent}",
            )  # fmt: skip
            assert agent.stop() == 0
        finally:
            agent.discard()
            hear.discard()
        searched = [one for hardware in site.hardware for one in notations(hardware)]
        searched += [address.encode() for address in site.addresses[1:]]
        spool = [path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file()]
        payloads = [
            bytes.fromhex(line.split()[-1]) for line in sent.read_text().splitlines() if " " in line
        ]
    assert held(site.leases.read_bytes(), searched), "the lease file has them"
    assert sum(map(len, spool)) > 1000
    for data in (*spool, *payloads, sent.read_bytes(), (tmp_path / "agent.log").read_bytes()):
        assert held(data, searched) == []


def counted(sent: Path, associated: int) -> set[str]:
    """What the readings so far have told of the site."""
    found: set[str] = set()
    if not sent.exists():
        return found
    for line in sent.read_text().split("\n")[:-1]:
        topic, _, payload = line.partition(" ")
        if not topic.endswith("/readings"):
            continue
        for good in wire.decode_readings(bytes.fromhex(payload), site=SITE).good:
            clients, points = good.reading.clients, good.reading.access_points
            if isinstance(clients, wire.Clients) and clients.source == "leases":
                assert clients.associated == associated
                found.add("source")
            if isinstance(points, dict) and points["ap-1"].reachable:
                found.add("access_points")
    return found
