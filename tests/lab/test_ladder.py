"""The ladder on a real chain of hops: what is cut is what fails first, and when it was cut.

agent -- gateway -- isp -- domestic, world, resolver, page      each its own namespace
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent import wire
from agent.probes.addresses import Addresses
from agent.probes.echo import who_answers
from tests.agent.servers import tcp_server, udp_server
from tests.lab.net import Namespace, cable, child_environment, inside
from tests.wait import until

pytestmark = pytest.mark.needs_root

AGENT, GATEWAY, ISP = "10.0.1.2", "10.0.1.1", "10.0.2.1"
LEAVES = {"domestic": "10.0.3.2", "world": "10.0.4.2", "resolver": "10.0.5.2", "page": "10.0.6.2"}
WINDOW_S = 1.0


class Chain:
    """The namespaces by name, and the agent's cable."""

    def __init__(self, spaces: dict[str, Namespace]) -> None:
        self.spaces = spaces
        agent, gateway, isp = spaces["agent"], spaces["gateway"], spaces["isp"]
        _, self.plug = cable(agent, f"{AGENT}/24", gateway, f"{GATEWAY}/24")
        cable(gateway, "10.0.2.2/24", isp, f"{ISP}/24")
        agent.route("default", GATEWAY)
        gateway.route("default", ISP)
        isp.route("10.0.1.0/24", "10.0.2.2")
        for name, address in LEAVES.items():
            router = address.rsplit(".", 1)[0] + ".1"
            cable(isp, f"{router}/24", spaces[name], f"{address}/24")
            spaces[name].route("default", router)
        gateway.forward()
        isp.forward()


def answer_dns(packet: bytes) -> list[bytes]:
    record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 192, 0, 2, 1)
    return [packet[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + packet[12:] + record]


def answer_204(connection: socket.socket) -> None:
    connection.settimeout(5)
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with contextlib.ExitStack() as stack:
        names = ("agent", "gateway", "isp", *LEAVES)
        yield Chain({name: stack.enter_context(Namespace()) for name in names})


class Measuring:
    """A measuring process in the agent's place, and its windows as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stdout = process.stdout
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._stdout is not None
        for line in self._stdout:
            self._lines.put(json.loads(line))

    def window(self, good: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The next window that is `good`."""
        last: dict[str, Any] = {}
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            with contextlib.suppress(queue.Empty):
                last = self._lines.get(timeout=1)
                if good(last):
                    return last
        raise AssertionError(f"waited 30 s for {what}; last seen: {last}")

    def after(self, moment: float) -> dict[str, Any]:
        """The first window that lies wholly after a moment of the wall clock."""
        return self.window(
            lambda line: wire.epoch(line["taken_at"]) - line["window_s"] >= moment,
            "a window after the change",
        )

    def end(self) -> None:
        self._reader.join()


@pytest.fixture(scope="module")
def measuring(chain: Chain) -> Iterator[Measuring]:
    with contextlib.ExitStack() as stack:
        with inside(chain.spaces["resolver"].name):
            resolver = stack.enter_context(udp_server(answer_dns, LEAVES["resolver"]))
        with inside(chain.spaces["page"].name):
            page = stack.enter_context(tcp_server(answer_204, LEAVES["page"]))
        given = {
            "targets": {
                "gateway": "auto",
                "isp": "auto",
                "domestic": [LEAVES["domestic"]],
                "world": [LEAVES["world"]],
            },
            "window_s": WINDOW_S,
            "probes": ["link", "dns", "web"],
            "names": ["example.org"],
            "resolver": resolver,
            "url": f"http://{page}/",
        }
        process = chain.spaces["agent"].popen(
            sys.executable, "-m", "tests.lab.prober", json.dumps(given),
            stdout=subprocess.PIPE, env=child_environment(),
        )  # fmt: skip
        stack.enter_context(process)
        measuring = Measuring(process)
        try:
            yield measuring
        finally:
            process.terminate()
            measuring.end()


def cut(chain: Chain, rung: str) -> None:
    """Cuts the far side of a rung: nothing comes back from there to the agent."""
    if rung == "carrier":
        chain.spaces["gateway"].ip("link", "set", chain.plug, "down")
    else:
        far = {"dns": "resolver", "web": "page"}.get(rung, rung)
        chain.spaces[far].cut(AGENT)


def mend(chain: Chain, rung: str) -> None:
    if rung == "carrier":
        chain.spaces["gateway"].ip("link", "set", chain.plug, "up")
        chain.spaces["gateway"].route("default", ISP)
    else:
        far = {"dns": "resolver", "web": "page"}.get(rung, rung)
        chain.spaces[far].mend()


ALL_OK = dict.fromkeys(wire.RUNGS, "ok")
BEYOND = {
    "carrier": wire.RUNGS,
    "gateway": ("gateway", "isp", "domestic", "world", "dns", "web"),
    "isp": ("isp", "domestic", "world", "dns", "web"),
    "domestic": ("domestic",),
    "world": ("world",),
    "dns": ("dns",),
    "web": ("web",),
}
"""What fails with each rung on this chain: all behind it."""


@pytest.mark.parametrize("rung", wire.RUNGS)
def test_cutting_the_far_side_of_a_rung_makes_it_the_first_failure(
    chain: Chain, measuring: Measuring, rung: str
) -> None:
    measuring.window(lambda line: line["ladder"] == ALL_OK, "everything to be fine")
    failing = BEYOND[rung]
    silent = {name for name in failing if name in wire.ECHO_RUNGS}

    cut_at = time.time()
    cut(chain, rung)
    cut_by = time.time()
    ladder = {**ALL_OK, **dict.fromkeys(failing, "fail"), "first_failure": rung}
    window = measuring.after(cut_by)
    # A busy machine may be late for a name or a page: then one of the next windows is whole.
    quick = wire.RUNGS[: wire.RUNGS.index("dns")]
    assert [window["ladder"][name] for name in quick] == [ladder[name] for name in quick]
    if window["ladder"] != ladder:
        window = measuring.window(lambda line: line["ladder"] == ladder, f"{ladder}")
    began = {edge["rung"]: edge["from"] for edge in window.get("dead", ())}
    assert set(began) == silent
    assert all(edge["to"] is None for edge in window.get("dead", ()))
    for name, at in began.items():
        assert cut_at - 2 <= wire.epoch(at) <= cut_by + 2, f"{name} went silent at {at}"

    mended_at = time.time()
    mend(chain, rung)
    mended_by = time.time()
    ended: dict[str, str] = {}

    def all_fine(line: dict[str, Any]) -> bool:
        for edge in line.get("dead", ()):
            assert edge["from"] == began[edge["rung"]], "the same beginning in every window"
            if edge["to"] is not None:
                ended[edge["rung"]] = edge["to"]
        return bool(line["ladder"] == ALL_OK)

    measuring.window(all_fine, "everything to be fine again")
    assert set(ended) == silent
    for name, at in ended.items():
        assert mended_at - 0.1 <= wire.epoch(at) <= mended_by + 2, f"{name} answered again at {at}"


@pytest.mark.parametrize("group_range", ["0 2147483647", "1 0"], ids=["datagram", "raw"])
def test_each_hop_answers_at_its_distance(chain: Chain, group_range: str) -> None:
    agent = chain.spaces["agent"]
    agent.run("sysctl", "-qw", f"net.ipv4.ping_group_range={group_range}")
    with inside(agent.name):
        answers = [who_answers(LEAVES["domestic"], ttl) for ttl in (1, 2, 3, 64)]
    assert answers == [GATEWAY, ISP, LEAVES["domestic"], LEAVES["domestic"]]


def test_the_isps_hop_is_found_again_when_the_route_changes() -> None:
    with contextlib.ExitStack() as stack:
        agent, gateway, other, isp = (stack.enter_context(Namespace()) for _ in range(4))
        cable(agent, "10.0.1.2/24", gateway, "10.0.1.1/24")
        cable(agent, "10.0.11.2/24", other, "10.0.11.1/24")
        cable(gateway, "10.0.2.2/24", isp, "10.0.2.1/24")
        cable(other, "10.0.12.2/24", isp, "10.0.12.1/24")
        far = stack.enter_context(Namespace())
        cable(isp, "10.0.3.1/24", far, "10.0.3.2/24")
        far.route("default", "10.0.3.1")
        gateway.route("default", "10.0.2.1")
        other.route("default", "10.0.12.1")
        isp.route("10.0.1.0/24", "10.0.2.2")
        isp.route("10.0.11.0/24", "10.0.12.2")
        for router in (gateway, other, isp):
            router.forward()
        agent.route("default", "10.0.1.1")

        with inside(agent.name):
            addresses = Addresses({"gateway": "auto", "isp": "auto", "domestic": ("10.0.3.2",)})
            addresses.start()
        stack.callback(addresses.stop)

        def found(gateway: str, hop: str) -> Callable[[], bool]:
            return lambda: (
                addresses.get(("gateway", "auto")) == gateway
                and addresses.get(("isp", "auto")) == hop
            )

        until(found("10.0.1.1", "10.0.2.1"), 20, "the first way out to be found")
        agent.route("default", "10.0.11.1")
        until(found("10.0.11.1", "10.0.12.1"), 20, "the second way out to be found")
        assert addresses.errors() == {}
        agent.ip("route", "del", "default")
        until(lambda: "gateway" in addresses.errors(), 20, "the missing route to be seen")
        assert addresses.errors()["gateway"] == "no default route"
        assert addresses.get(("gateway", "auto")) == "10.0.11.1", "still measured, and failing"


def test_a_backup_without_a_gateway_leaves_the_gateway_unmeasured() -> None:
    with Namespace() as agent, Namespace() as gateway, Namespace() as provider:
        cable(agent, "10.0.1.2/24", gateway, "10.0.1.1/24")
        backup, _ = cable(agent, "10.0.9.2/32", provider, "10.0.9.1/32")
        agent.route("default", "10.0.1.1")
        with inside(agent.name):
            addresses = Addresses({"gateway": "auto"})
            addresses.start()
        try:
            assert addresses.get(("gateway", "auto")) == "10.0.1.1"
            agent.ip("route", "replace", "default", "dev", backup)
            until(lambda: not addresses.get(("gateway", "auto")), 20, "the other route to be seen")
            assert addresses.errors() == {}, "nothing is there to measure, and nothing was tried"
            agent.ip("route", "del", "default")
            until(lambda: "gateway" in addresses.errors(), 20, "the missing route to be seen")
            agent.ip("route", "add", "default", "dev", backup)
            until(lambda: addresses.errors() == {}, 20, "the route without a gateway to be seen")
            agent.route("default", "10.0.1.1")
            until(lambda: addresses.get(("gateway", "auto")) == "10.0.1.1", 20, "the first way")
        finally:
            addresses.stop()


def test_an_isps_hop_that_keeps_silent_is_told_and_not_measured(chain: Chain) -> None:
    isp = chain.spaces["isp"]
    isp.run("nft", "add table ip mute")
    isp.run("nft", "add chain ip mute output { type filter hook output priority 0 ; }")
    isp.run("nft", "add rule ip mute output icmp type time-exceeded drop")
    with inside(chain.spaces["agent"].name):
        addresses = Addresses({"isp": "auto", "domestic": (LEAVES["domestic"],)})
        addresses.start()
    try:
        until(lambda: "isp" in addresses.errors(), 20, "the search to end")
        assert addresses.errors()["isp"] == "nobody answers with TTL 2 towards 10.0.3.2"
        assert addresses.get(("isp", "auto")) is None
    finally:
        addresses.stop()
        isp.run("nft", "delete table ip mute")
