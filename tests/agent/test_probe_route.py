"""The default route from captured route tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.probes.route import Route, default_route, parse
from tests.lab.net import Namespace, cable, inside

FIXTURES = Path(__file__).with_name("fixtures")
HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def captured(name: str) -> str:
    return (FIXTURES / name).read_text()


def test_of_two_default_routes_the_one_with_the_lower_metric_holds() -> None:
    assert parse(captured("proc_net_route_two_defaults.txt")) == Route("eth0", "10.8.0.2")


def test_a_point_to_point_default_route_has_no_gateway() -> None:
    assert parse(captured("proc_net_route_point_to_point.txt")) == Route("ppp0", None)


def test_a_table_without_default_route_has_none() -> None:
    assert parse(HEAD + "eth0\t0000080A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n") is None


def test_half_of_everything_is_no_default_route() -> None:
    """As VPNs install it: 0.0.0.0/1, beside the true one."""
    half = "tun0\t00000000\t0200080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"
    assert parse(HEAD + half) is None


def test_a_route_that_is_not_up_does_not_hold() -> None:
    assert parse(HEAD + "eth0\t00000000\t0200080A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n") is None


@pytest.mark.parametrize("text", ["", HEAD, HEAD + "eth0\n\n"])
def test_an_empty_table_has_no_default_route(text: str) -> None:
    assert parse(text) is None


@pytest.mark.needs_root
@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole"])
def test_a_route_that_leads_nowhere_is_no_default_route(kind: str) -> None:
    with Namespace() as a:
        a.ip("route", "add", kind, "default")
        with inside(a.name):
            assert default_route() is None


@pytest.mark.needs_root
def test_the_route_is_that_of_the_asking_threads_namespace() -> None:
    with Namespace() as a, Namespace() as b:
        name, _ = cable(a, "10.0.0.1/24", b, "10.0.0.2/24")
        a.route("default", "10.0.0.2")
        with inside(a.name):
            assert default_route() == Route(name, "10.0.0.2")
        with inside(b.name):
            assert default_route() is None
