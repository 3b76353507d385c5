"""Access points on a real LAN in namespaces: there, gone, and asked in two ways."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from agent.probes.access_points import told
from tests.lab.net import Namespace, cable, child_environment

pytestmark = pytest.mark.needs_root
_ASK = """
import json, sys, time
import msgspec
from agent import hotspot, probes
from agent.probes.access_points import AccessPointsProbe
what = hotspot.Hotspot(access_points=hotspot.AccessPoints(json.loads(sys.argv[1]), sys.argv[2]))
probe = AccessPointsProbe()
end = time.monotonic() + 60
try:
    value = None
    while value is None and time.monotonic() < end:
        value = probe(probes.Context(hotspot=what))
    print(json.dumps(msgspec.to_builtins(value.by_name)))
except probes.ProbeError as err:
    print(json.dumps({"error": str(err)}))
"""


def ask(namespace: Namespace, by: str, **addresses: str) -> dict[str, Any]:
    """What the probe says in a namespace."""
    done = subprocess.run(
        namespace.within(sys.executable, "-c", _ASK, json.dumps(addresses), by),
        env=child_environment(), capture_output=True, text=True, timeout=90, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("by", ["icmp", "arp"])
def test_an_access_point_is_reachable_and_one_that_is_not_there_is_not(by: str) -> None:
    with Namespace() as gateway, Namespace() as point:
        cable(gateway, "10.0.0.1/24", point, "10.0.0.2/24")
        found = ask(gateway, by, **{"ap-1": "10.0.0.2", "ap-2": "10.0.0.3"})
    assert found["ap-1"]["reachable"] is True
    assert 0 <= found["ap-1"]["rtt_ms"] < 1000
    assert found["ap-2"] == {"reachable": False}


def test_one_that_answers_no_echo_is_found_by_arp() -> None:
    with Namespace() as gateway, Namespace() as point:
        cable(gateway, "10.0.0.1/24", point, "10.0.0.2/24")
        point.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
        assert ask(gateway, "icmp", ap="10.0.0.2")["ap"] == {"reachable": False}
        assert ask(gateway, "arp", ap="10.0.0.2")["ap"]["reachable"] is True


def test_arp_beyond_the_router_is_refused_with_the_name() -> None:
    with Namespace() as gateway, Namespace() as isp:
        cable(gateway, "10.1.0.2/24", isp, "10.1.0.1/24")
        gateway.route("default", "10.1.0.1")
        error = ask(gateway, "arp", ap="10.9.0.1")["error"]
    assert error == "ap: 10.9.0.1 is not on a network of this machine"


def test_who_is_silent_has_no_round_trip() -> None:
    assert [p.reachable for p in told({"a": None, "b": 0.5}).by_name.values()] == [False, True]
