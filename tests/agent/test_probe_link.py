"""The link probe: carrier from captured files, rates from counters, and a real cable cut."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import UNSET

from agent import wire
from agent.probes import throughput
from agent.probes.link import LinkProbe, Peaks, Snapshot, has_carrier, link, peaks, with_peaks
from agent.probes.route import Route
from agent.probes.runner import Context
from tests.lab.net import Namespace, cable, child_environment


class Counted(NamedTuple):
    """As psutil gives it."""

    bytes_recv: int = 0
    bytes_sent: int = 0
    packets_recv: int = 0
    packets_sent: int = 0
    errin: int = 0
    dropin: int = 0


def snapshot(at_s: float, **counted: Counted) -> Snapshot:
    return Snapshot(at_s, counted)


def interfaces(folder: Path, carriers: Mapping[str, str]) -> Path:
    for name, carrier in carriers.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "carrier").write_text(carrier + "\n")
    return folder


def test_rates_and_counts_are_the_difference_to_the_last_run() -> None:
    before = snapshot(100.0, eth0=Counted(1_000, 500, errin=1, dropin=2))
    now = snapshot(160.0, eth0=Counted(7_501_000, 750_500, errin=4, dropin=7))
    assert link("eth0", True, 1000, now, before) == wire.Link(
        up=True, speed_mbps=1000, rx_mbps=1.0, tx_mbps=0.1, rx_errors=3, rx_drops=5
    )


def test_a_first_run_has_state_and_no_rates() -> None:
    now = snapshot(160.0, eth0=Counted(7_501_000))
    assert link("eth0", True, 0, now, None) == wire.Link(up=True)


def test_an_interface_that_was_not_there_before_has_no_rates() -> None:
    found = link("wwan0", True, 0, snapshot(60.0, wwan0=Counted(9)), snapshot(0.0, eth0=Counted()))
    assert found.rx_mbps is UNSET


def test_counters_that_began_anew_give_no_rates() -> None:
    old, new = Counted(10, packets_recv=2), Counted(9, packets_recv=1)
    found = link("eth0", True, 0, snapshot(60.0, eth0=new), snapshot(0.0, eth0=old))
    assert found == wire.Link(up=True)


def test_a_counter_of_32_bits_that_is_full_goes_on() -> None:
    old, new = Counted(2**32 - 500_000, 7, 10, 10), Counted(250_000, 7, 1_000, 10)
    found = link("eth0", True, 0, snapshot(60.0, eth0=new), snapshot(0.0, eth0=old))
    assert (found.rx_mbps, found.tx_mbps) == (0.1, 0.0)


def test_a_counter_of_64_bits_that_fell_is_no_full_one() -> None:
    old, new = Counted(2**40, packets_recv=1), Counted(9, packets_recv=1)
    found = link("eth0", True, 0, snapshot(60.0, eth0=new), snapshot(0.0, eth0=old))
    assert found == wire.Link(up=True)


def test_the_peak_is_the_highest_window_of_the_day_and_each_day_begins_anew() -> None:
    first = {"eth0": wire.Link(up=True, rx_mbps=5.0, tx_mbps=1.0)}
    second = {"eth0": wire.Link(up=True, rx_mbps=3.0, tx_mbps=2.0)}
    highest = peaks(peaks(Peaks(), 20_000, first), 20_000, second)
    told = with_peaks(second, highest)["eth0"]
    assert (told.rx_mbps, told.rx_peak_mbps, told.tx_peak_mbps) == (3.0, 5.0, 2.0)
    assert peaks(highest, 20_001, second).by_name == {"eth0": (3.0, 2.0)}


def test_an_interface_that_never_had_rates_has_no_peak() -> None:
    links = {"wwan0": wire.Link(up=False)}
    assert with_peaks(links, peaks(Peaks(), 20_000, links)) == links


def test_a_window_with_a_test_of_ours_makes_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = LinkProbe()
    probe(Context())
    with monkeypatch.context() as patched:
        patched.setattr(throughput, "_busy_until_s", float("inf"))
        during = probe(Context()).by_name
    after = probe(Context()).by_name
    assert during
    assert all(found.rx_peak_mbps is UNSET for found in during.values())
    assert all(found.rx_peak_mbps == found.rx_mbps for found in after.values())


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("0", False)])
def test_carrier_is_what_the_kernel_says(tmp_path: Path, text: str, expected: bool) -> None:
    assert has_carrier(interfaces(tmp_path, {"eth0": text}) / "eth0") is expected


def test_an_interface_that_is_gone_has_no_carrier(tmp_path: Path) -> None:
    assert not has_carrier(tmp_path / "eth9")


@pytest.mark.parametrize(("carrier", "verdict"), [("1", "ok"), ("0", "fail")])
def test_the_default_routes_interface_is_judged(tmp_path: Path, carrier: str, verdict: str) -> None:
    folder = interfaces(tmp_path, {"eth0": carrier, "wlan0": "1"})
    probe = LinkProbe(folder, lambda: Route("eth0", "192.0.2.1"))
    assert probe(Context()).carrier == verdict


def test_an_interface_that_takes_its_route_along_is_still_judged(tmp_path: Path) -> None:
    routes = iter([Route("eth0", "192.0.2.1"), None])
    probe = LinkProbe(interfaces(tmp_path, {"eth0": "1"}), lambda: next(routes))
    assert probe(Context()).carrier == "ok"
    interfaces(tmp_path, {"eth0": "0"})
    assert probe(Context()).carrier == "fail"


def test_without_a_default_route_ever_carrier_is_not_measured(tmp_path: Path) -> None:
    assert LinkProbe(tmp_path, lambda: None)(Context()).carrier is None


def test_loopback_is_left_out_and_a_second_run_has_rates() -> None:
    probe = LinkProbe()
    probe(Context())
    links = probe(Context()).by_name
    assert "lo" not in links
    assert all(found.rx_mbps is not UNSET for found in links.values())


@pytest.mark.needs_root
def test_traffic_and_a_pulled_cable_are_seen_on_a_real_interface() -> None:
    with Namespace() as device, Namespace() as gateway:
        name, peer = cable(device, "10.0.0.2/24", gateway, "10.0.0.1/24")
        device.route("default", "10.0.0.1")
        process = device.popen(
            sys.executable, "-m", "tests.lab.one_probe", "link", "{}",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(),
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process, process.stdin:
            first = json.loads(process.stdout.readline())["value"]
            assert first["carrier"] == "ok"
            assert first["by_name"][name]["up"] is True
            assert "rx_mbps" not in first["by_name"][name]
            device.run("ping", "-q", "-c", "20", "-i", "0.01", "-s", "1000", "10.0.0.1")
            gateway.ip("link", "set", peer, "down")
            process.stdin.write("again\n")
            process.stdin.flush()
            second = json.loads(process.stdout.readline())["value"]
        assert second["carrier"] == "fail"
        assert second["by_name"][name]["up"] is False
        assert second["by_name"][name]["rx_mbps"] > 0
        assert second["by_name"][name]["tx_mbps"] > 0
