"""Echoes over IPv6, beside IPv4: real sockets in namespaces, and what counts where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from agent import config, window, wire
from agent.measured import Sample
from agent.once import Echoes
from agent.probes.addresses import Addresses
from agent.probes.echo import who_answers
from agent.probes.icmp import Prober
from agent.probes.route import Route, has_address6, parse6
from tests.lab.net import Namespace, cable, inside
from tests.wait import until

ROUTES6 = """\
fd000001000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fe800000000000000000000000000001 00000400 00000003 00000000 00450003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fd000001000000000000000000000002 00000064 00000003 00000000 00000003     eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
"""


def test_of_two_ipv6_default_routes_the_one_with_the_lower_metric_holds() -> None:
    assert parse6(ROUTES6) == Route("eth1", "fd00:1::2")


def test_a_link_local_gateway_bears_its_interface() -> None:
    lines = ROUTES6.splitlines()
    assert parse6("\n".join(lines[:2])) == Route("eth0", "fe80::1%eth0")


def test_a_route_that_only_rejects_is_none() -> None:
    assert parse6(ROUTES6.splitlines()[-1]) is None
    assert parse6("") is None


@pytest.mark.parametrize(
    ("line", "usable"),
    [
        ("fd000001000000000000000000000001 02 40 00 80     eth0", True),
        ("fd000001000000000000000000000001 02 40 00 c0     eth0", False),  # tentative
        ("fd000001000000000000000000000001 02 40 00 88     eth0", False),  # somebody has it
        ("fe800000000000000000000000000001 02 40 20 80     eth0", False),  # link-local
        ("00000000000000000000000000000001 01 80 10 80       lo", False),
        ("", False),
    ],
)
def test_a_machine_speaks_ipv6_with_a_usable_global_address(line: str, usable: bool) -> None:
    assert has_address6(line + "\n") is usable


def test_each_family_has_its_own_section_and_a_rung_is_ok_by_either() -> None:
    samples = [Sample("world", "a.example", float(i), None, 4) for i in range(3)]
    samples += [Sample("world", "a.example", float(i), 20.0, 6) for i in range(3)]
    four, six = window.ping(samples), window.ping(samples, 6)
    assert isinstance(four.world, wire.Echoes)
    assert isinstance(six.world, wire.Echoes)
    assert (four.world.received, six.world.received) == (0, 3)
    assert window.ladder(four, {}, six).world == "ok"
    assert window.ladder(four, {}).world == "fail"
    assert window.silences({}, samples, 0.0)[1] == []


def test_a_rung_is_silent_when_both_families_are() -> None:
    samples = [
        Sample("world", "a.example", float(i), None, family) for i in range(3) for family in (4, 6)
    ]
    _, dead = window.silences({}, samples, 0.0)
    assert [edge.rung for edge in dead] == ["world"]


@contextmanager
def pair(*, ping_group: str) -> Iterator[tuple[Namespace, Namespace]]:
    """Two machines with IPv4 and IPv6, whose addresses are ready."""
    with Namespace() as here, Namespace() as there:
        names = cable(here, "10.0.0.1/24", there, "10.0.0.2/24")
        for namespace, name, address in zip(
            (here, there), names, ("fd00:1::1/64", "fd00:1::2/64"), strict=True
        ):
            namespace.ip("addr", "add", address, "dev", name, "nodad")
            namespace.run("sysctl", "-qw", f"net.ipv4.ping_group_range={ping_group}")
        here.ip("route", "add", "default", "via", "fd00:1::2")
        until(lambda: "tentative" not in here.ip("addr") + there.ip("addr"), 30, "addresses")
        yield here, there


@pytest.mark.needs_root
@pytest.mark.parametrize("ping_group", ["0 65535", "1 0"], ids=["datagram", "raw"])
def test_echoes_over_ipv6_come_back_and_are_timed(ping_group: str) -> None:
    targets = {"gateway": "auto", "world": ("fd00:1::2", "10.0.0.2"), "isp": ("fd00:1::99",)}
    with pair(ping_group=ping_group) as (here, _), inside(here.name):
        prober = Prober(targets, interval_s=0.1, family=6)  # type: ignore[arg-type]  # literal rungs
        prober.start()
        try:
            samples: list[Sample] = []

            def answered() -> bool:
                samples.extend(prober.take(0.0, float("inf")))
                return sum(one.rtt_ms is not None for one in samples) >= 6

            until(answered, 30, "echoes over IPv6")
        finally:
            prober.stop()
    assert {one.family for one in samples} == {6}
    assert {one.target for one in samples} == {"auto", "fd00:1::2", "fd00:1::99"}
    assert all(one.rtt_ms is None for one in samples if one.target == "fd00:1::99")
    assert all(0 <= one.rtt_ms < 2000 for one in samples if one.rtt_ms is not None)


@pytest.mark.needs_root
def test_ipv6_begins_when_the_machine_gets_an_address(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(
        'site = "bitung-0123"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n'
        '[targets]\nworld = ["fd00:1::2", "10.0.0.2"]\n'
    )
    with Namespace() as here, Namespace() as there:
        name, other = cable(here, "10.0.0.1/24", there, "10.0.0.2/24")
        there.ip("addr", "add", "fd00:1::2/64", "dev", other, "nodad")
        with inside(here.name):
            echoes = Echoes(config.load(tmp_path / "agent.toml"))
            echoes.start(0.1)
            families: set[int] = set()

            def heard(family: int) -> bool:
                echoes.set_interval(0.1)
                samples = echoes.take(0.0, float("inf"))
                families.update(one.family for one in samples if one.rtt_ms is not None)
                return family in families

            try:
                until(lambda: heard(4), 30, "an echo over IPv4")
                assert families == {4}
                here.ip("addr", "add", "fd00:1::1/64", "dev", name, "nodad")
                until(lambda: heard(6), 30, "an echo over IPv6")
            finally:
                echoes.stop()
    assert echoes.errors() == {}


@contextmanager
def ipv6_chain(*, ping_group: str) -> Iterator[list[Namespace]]:
    """agent - gateway - ISP - target, fd00:1::1 to fd00:3::2, and no IPv4 anywhere."""
    with ExitStack() as stack:
        machines = [stack.enter_context(Namespace()) for _ in range(4)]
        for number, (near, far) in enumerate(pairwise(machines), 1):
            names = cable(near, f"10.9.{number}.1/24", far, f"10.9.{number}.2/24")
            for end, (machine, name) in enumerate(zip((near, far), names, strict=True), 1):
                machine.ip("addr", "flush", "dev", name, "scope", "global")
                machine.ip("addr", "add", f"fd00:{number}::{end}/64", "dev", name, "nodad")
        agent, gateway, isp, target = machines
        for router in (gateway, isp):
            router.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        agent.ip("route", "add", "default", "via", "fd00:1::2")
        gateway.ip("route", "add", "default", "via", "fd00:2::2")
        isp.ip("route", "add", "fd00:1::/64", "via", "fd00:2::1")
        target.ip("route", "add", "default", "via", "fd00:3::1")
        agent.run("sysctl", "-qw", f"net.ipv4.ping_group_range={ping_group}")
        until(lambda: all("tentative" not in m.ip("addr") for m in machines), 30, "addresses")
        yield machines


@pytest.mark.needs_root
@pytest.mark.parametrize("ping_group", ["0 65535", "1 0"], ids=["datagram", "raw"])
def test_where_only_ipv6_is_the_isps_hop_is_found_by_it(ping_group: str) -> None:
    targets = {"gateway": "auto", "isp": "auto", "domestic": ("FD00:3:0::2",)}
    with ipv6_chain(ping_group=ping_group) as (agent, _, isp, _), inside(agent.name):
        addresses = Addresses(targets, family=6)  # type: ignore[arg-type]  # literal rungs
        addresses.start()
        try:
            found = until(lambda: addresses.get(("isp", "auto")), 30, "the hop")
            assert found == "fd00:2::2"
            assert addresses.get(("gateway", "auto")) == "fd00:1::2"
        finally:
            addresses.stop()
        assert who_answers("fd00:3::2", ttl=1) == "fd00:1::2"
        assert who_answers("fd00:3::2", ttl=64) == "fd00:3::2"
        isp.run("sysctl", "-qw", "net.ipv6.icmp.echo_ignore_all=1")
        assert who_answers("fd00:2::2", ttl=64, timeout_s=0.1) is None


@pytest.mark.needs_root
def test_echoes_to_the_isps_hop_over_ipv6_stand_in_the_reading(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(
        'site = "bitung-0123"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n'
        '[targets]\ngateway = "auto"\nisp = "auto"\ndomestic = ["FD00:3:0::2"]\n'
    )
    with ipv6_chain(ping_group="0 65535") as (agent, *_), inside(agent.name):
        echoes = Echoes(config.load(tmp_path / "agent.toml"))
        echoes.start(0.1)
        answered: set[str] = set()

        def heard() -> bool:
            samples = echoes.take(0.0, float("inf"))
            answered.update(one.rung for one in samples if one.rtt_ms is not None)
            return answered == {"gateway", "isp", "domestic"}

        try:
            until(heard, 30, "an echo of each rung")
        finally:
            echoes.stop()
