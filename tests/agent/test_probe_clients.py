"""Counting clients: from recorded kernel dumps, and from real neighbours in a namespace."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.nl80211 import nl80211cmd
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from agent.probes.clients import Count, count_neighbours, count_stations
from tests.lab.net import Namespace, cable, child_environment

FIXTURES = Path(__file__).with_name("fixtures")
LAN, UPLINK = 2, 3
"""The interfaces of the recorded neighbour dump."""


def stations() -> list[Any]:
    """The recorded dump of an access point with three stations, decoded by pyroute2."""
    family, text = (FIXTURES / "nl80211_station_dump.hex").read_text().split()
    data = bytes.fromhex(text)
    messages = []
    while data:
        length, kind = struct.unpack_from("=IH", data)
        if kind == int(family):
            messages.append(nl80211cmd(data[:length]))
            messages[-1].decode()
        data = data[(length + 3) & ~3 :]
    return messages


def neighbours() -> list[Any]:
    """The recorded dump of a neighbour table.

    On the LAN: …:11 reachable by IPv4 and stale by IPv6, …:12 stale, …:13 being asked,
    …:14 permanent, one failed, and multicast; on the uplink …:99 reachable.
    """
    data = bytes.fromhex((FIXTURES / "neighbour_dump.hex").read_text())
    rtm_newneigh = 28
    return [m for m in MarshalRtnl().parse(data) if m["header"]["type"] == rtm_newneigh]


def test_every_station_of_the_recorded_dump_is_counted() -> None:
    assert count_stations(stations(), window_s=60) == Count(associated=3, active=3)


def test_a_station_that_was_silent_for_a_window_is_associated_and_not_active() -> None:
    idle_ms = [
        m.get_attr("NL80211_ATTR_STA_INFO").get_attr("NL80211_STA_INFO_INACTIVE_TIME")
        for m in stations()
    ]
    window_s = (max(idle_ms) - 1) / 1000
    active = sum(ms <= window_s * 1000 for ms in idle_ms)
    assert active < 3
    assert count_stations(stations(), window_s) == Count(associated=3, active=active)


def test_an_access_point_without_stations_has_none() -> None:
    assert count_stations([], window_s=60) == Count(0, 0)


def test_neighbours_are_counted_by_device_and_only_on_local_networks() -> None:
    assert count_neighbours(neighbours(), {LAN}) == Count(associated=3, active=2)
    assert count_neighbours(neighbours(), {UPLINK}) == Count(associated=1, active=1)
    assert count_neighbours(neighbours(), {LAN, UPLINK}) == Count(associated=4, active=3)
    assert count_neighbours(neighbours(), set()) == Count(0, 0)


@pytest.mark.parametrize(("age_s", "associated"), [(299, 3), (301, 2)])
def test_a_stale_neighbour_counts_for_five_minutes(age_s: int, associated: int) -> None:
    messages = neighbours()
    for message in messages:
        if message.get_attr("NDA_DST") == "10.9.0.12":
            message.get_attr("NDA_CACHEINFO")["ndm_confirmed"] = age_s * 100
    assert count_neighbours(messages, {LAN}).associated == associated


def count_in(namespace: Namespace) -> dict[str, object]:
    """What the probe says in a namespace; it must not tell any address."""
    command = namespace.within(sys.executable, "-m", "tests.lab.one_probe", "clients", "{}")
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, timeout=60, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert not done.stderr
    assert "02:" not in done.stdout
    outcome: dict[str, object] = json.loads(done.stdout)
    assert outcome["error"] is None
    return outcome


@pytest.mark.needs_root
def test_real_neighbours_behind_a_gateway_are_counted_and_the_uplinks_are_not() -> None:
    with Namespace() as gateway, Namespace() as client, Namespace() as isp:
        cable(gateway, "10.0.0.1/24", client, "10.0.0.2/24")
        cable(gateway, "10.1.0.2/24", isp, "10.1.0.1/24")
        gateway.route("default", "10.1.0.1")
        assert count_in(gateway)["value"] is None, "nobody was heard yet"
        gateway.run("ping", "-c", "1", "-W", "2", "10.0.0.2")
        gateway.run("ping", "-c", "1", "-W", "2", "10.1.0.1")
        assert count_in(gateway)["value"] == {
            "source": "neighbours",
            "associated": 1,
            "active": 1,
        }


@pytest.mark.needs_root
def test_a_machine_with_an_uplink_alone_has_no_clients_to_count() -> None:
    with Namespace() as device, Namespace() as gateway:
        cable(device, "10.0.0.2/24", gateway, "10.0.0.1/24")
        device.route("default", "10.0.0.1")
        device.run("ping", "-c", "1", "-W", "2", "10.0.0.1")
        assert count_in(device)["value"] is None
