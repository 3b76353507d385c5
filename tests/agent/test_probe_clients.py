"""Counting clients: from recorded kernel dumps, and from real neighbours in a namespace."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from pyroute2.netlink.nl80211 import nl80211cmd
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from agent.probes.clients_leases import leases
from agent.probes.clients_leases import neighbours as devices
from agent.probes.clients_stations import Station, from_hostapd, from_nl80211, radio
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


def test_every_station_of_the_recorded_dump_is_read() -> None:
    found = from_nl80211(stations())
    assert len({station.address for station in found}) == 3
    assert all(
        station.signal_dbm is not None and -100 < station.signal_dbm < 0 for station in found
    )
    assert all(station.idle_ms is not None for station in found)


def station(
    number: int, *, idle_ms: float = 0, signal_dbm: float = -50, frames: int = 0, retries: int = 0
) -> Station:
    return Station(f"02:00:00:00:00:{number:02x}", idle_ms, signal_dbm, frames, retries)


@pytest.mark.parametrize(("idle_ms", "active"), [(60_000, 1), (60_001, 0)])
def test_a_station_is_active_for_60_s_after_its_last_frame(idle_ms: int, active: int) -> None:
    told = radio([station(1, idle_ms=idle_ms)], {}, None)
    assert (told.associated, told.active) == (1, active)


def test_signal_is_told_as_the_median_and_as_what_the_worst_tenth_has() -> None:
    told = radio([station(n, signal_dbm=-40 - n) for n in range(1, 11)], {}, "2.4")
    assert (told.signal_p50_dbm, told.signal_p10_dbm, told.band) == (-46, -50, "2.4")


def test_retries_are_those_since_the_last_look_of_stations_that_stayed() -> None:
    before = {s.address: s for s in (station(1, frames=100, retries=10), station(2, frames=9000))}
    now = [
        station(1, frames=190, retries=20),
        station(2, frames=5),  # came anew: its counters began again
        station(3, frames=50, retries=50),
    ]
    assert radio(now, before, None).retry_ratio == 0.1


def test_without_a_frame_sent_no_retry_ratio_is_told() -> None:
    same = station(1, frames=5)
    assert radio([same], {same.address: same}, None).retry_ratio is UNSET


def test_an_access_point_without_stations_has_none_and_no_signal() -> None:
    told = radio([], {}, None)
    assert (told.associated, told.active, told.signal_p50_dbm) == (0, 0, UNSET)


def test_a_station_of_hostapd_is_read_from_its_text() -> None:
    text = "02:00:00:00:01:00\nflags=[AUTH]\ntx_packets=4\ninactive_msec=20\nsignal=-30\n"
    assert from_hostapd(text) == Station("02:00:00:00:01:00", 20, -30, 4, None)


@pytest.mark.parametrize("end", ["", "FAIL\n", "\n"])
def test_hostapds_list_ends_with_an_empty_answer_or_fail(end: str) -> None:
    assert from_hostapd(end) is None


def test_neighbours_are_counted_by_device_and_only_on_local_networks() -> None:
    def counts(indexes: set[int]) -> tuple[int, int]:
        there, active = devices(neighbours(), indexes)
        return len(there), len(active)

    assert counts({LAN}) == (3, 2)
    assert counts({UPLINK}) == (1, 1)
    assert counts({LAN, UPLINK}) == (4, 3)
    assert counts(set()) == (0, 0)


@pytest.mark.parametrize(("age_s", "associated"), [(299, 3), (301, 2)])
def test_a_stale_neighbour_counts_for_five_minutes(age_s: int, associated: int) -> None:
    messages = neighbours()
    for message in messages:
        if message.get_attr("NDA_DST") == "10.9.0.12":
            message.get_attr("NDA_CACHEINFO")["ndm_confirmed"] = age_s * 100
    assert len(devices(messages, {LAN}).there) == associated


def test_leases_hold_until_their_end_and_other_lines_are_left_out() -> None:
    text = (
        "1000 02:00:00:00:00:01 10.0.0.5 phone *\n"
        "999 02:00:00:00:00:02 10.0.0.6 * *\n"
        "0 02:00:00:00:00:0A 10.0.0.7 * *\n"
        "duid 00:01:00:01:aa\n"
        "2000 1234 fd00::5 * 00:01\n"
        "half a li"
    )
    assert leases(text, now=999.5) == {"02:00:00:00:00:01", "02:00:00:00:00:0a"}


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
