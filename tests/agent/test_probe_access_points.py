"""Access points on a real LAN in namespaces: there, gone, and asked in two ways."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from msgspec import UNSET

from agent import window, wire
from agent.measured import Outcome
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


def test_this_machine_as_an_access_point_is_not_asked_and_has_the_users_of_its_radios() -> None:
    with Namespace() as gateway, Namespace() as point:
        cable(gateway, "10.0.0.1/24", point, "10.0.0.2/24")
        for by in ("icmp", "arp"):
            found = ask(gateway, by, own="10.0.0.1", other="10.0.0.2")
            assert found["own"] == {"reachable": True}
            assert found["other"]["rtt_ms"] >= 0


@pytest.mark.parametrize(
    ("clients", "count"),
    [
        (wire.Clients("nl80211", 5, 2, {"wlan0": wire.Radio(3), "wlan1": wire.Radio(2)}), 5),
        (wire.Clients("neighbours", 9, 9), UNSET),
        (None, UNSET),
    ],
)
def test_users_are_told_of_this_machines_radios_alone(
    clients: wire.Clients | None, count: object
) -> None:
    outcomes = [
        Outcome("access_points", told({"other": 0.5}, frozenset({"own"})), None, 0.1),
        Outcome("clients", clients, None, 0.1),
    ]
    reading = window.build(
        seq=1, boot="boot", agent="0.1.0", taken_at=0.0, uptime_s=1.0,
        clock=wire.Clock(synced=False), window_s=1, samples=[], outcomes=outcomes, dead=[],
    )  # fmt: skip
    assert isinstance(reading.access_points, dict)
    assert reading.access_points["own"].clients == count
    assert reading.access_points["other"].clients is UNSET
