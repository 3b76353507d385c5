"""Throughput on a shaped link: 20 Mbit/s down, 10 up, against servers that are good and bad."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.net import Namespace, cable, child_environment, inside
from tests.lab.pki import Authority

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

SERVER, SECONDS = "10.92.0.1", 3
DOWN_MBPS, UP_MBPS = 20.0, 10.0
TOLERANCE = 0.1
"""Of the rate. What is measured is TCP's share of it (95 %); an upload over HTTP also counts
what the sender's buffers still hold at its end."""
ATTEMPTS = 3
"""A machine busy with other work takes from a rate and never adds to it: none of the tests may
find more than the link gives, and the best of them all of it."""
TOLERANCE_BYTES = 0.1
"""Of the interface's counters, which count headers and acknowledgements, too."""


class Link(NamedTuple):
    """The two ends."""

    device: Namespace
    server: Namespace


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    with Namespace() as device, Namespace() as server:
        names = cable(device, "10.92.0.2/24", server, f"{SERVER}/24")
        rates = ((device, names[0], UP_MBPS), (server, names[1], DOWN_MBPS))
        for namespace, name, mbps in rates:
            shape = f"tbf rate {mbps}mbit burst 32kb latency 60ms"
            namespace.run("tc", "qdisc", "add", "dev", name, "root", *shape.split())
        yield Link(device, server)


def _serve(link: Link, *command: str, says: str = "") -> subprocess.Popen[str]:
    """A server that has said that it listens."""
    process = link.server.popen(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=child_environment()
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    while says not in line:
        line = process.stdout.readline()
        assert line, f"{command} ended"
    return process


def _mini(link: Link, port: int, *more: str) -> subprocess.Popen[str]:
    return _serve(link, sys.executable, "-m", "tests.lab.mini", SERVER, str(port), *more)


def _iperf3(link: Link, port: int) -> subprocess.Popen[str]:
    # --forceflush: it says that it listens at once
    return _serve(
        link, "iperf3", "--server", "--forceflush", "--port", str(port), says="Server listening"
    )


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _run(
    link: Link,
    method: str,
    server: str,
    max_bytes: int = 0,
    seconds: int = SECONDS,
    **environment: str,
) -> dict[str, Any]:
    """What the agent makes of it, and what passed the interface meanwhile."""
    module = [sys.executable, "-m", "tests.lab.one_throughput"]
    done = subprocess.run(
        link.device.within(*module, method, server, str(seconds), str(max_bytes)),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**child_environment(), **environment},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _find_the_rates(link: Link, method: str, server: str, **environment: str) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        told = _run(link, method, server, 0, **environment)
        assert "result" in told, told
        result = told["result"]
        assert result["method"] == method
        passed = told["received"] + told["sent"]
        assert result["bytes"] == pytest.approx(passed, rel=TOLERANCE_BYTES)
        assert result["latency_loaded_ms"] > 2 * result["latency_ms"] > 0
        assert result["down_mbps"] <= DOWN_MBPS * (1 + TOLERANCE)
        assert result["up_mbps"] <= UP_MBPS * (1 + TOLERANCE)
        slow = result["down_mbps"] < DOWN_MBPS * (1 - TOLERANCE) or result["up_mbps"] < UP_MBPS * (
            1 - TOLERANCE
        )
        if not slow:
            return
        assert attempt < ATTEMPTS, f"the link gives {DOWN_MBPS} and {UP_MBPS} Mbit/s: {result}"


def test_speedtest_finds_the_rates_of_the_link_and_its_latency_under_load(link: Link) -> None:
    server = _mini(link, 8080)
    try:
        _find_the_rates(link, "speedtest", f"http://{SERVER}:8080/mini")
    finally:
        _end(server)


def test_speedtest_over_tls_believes_only_a_certificate_that_is_trusted(
    link: Link, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    own = authority.server(f"IP:{SERVER}")
    server = _mini(link, 8443, str(own.cert), str(own.key))
    url = f"https://{SERVER}:8443/mini"
    try:
        refused = _run(link, "speedtest", url)
        assert f"speedtest to {url}: " in refused["error"]
        _find_the_rates(link, "speedtest", url, SSL_CERT_FILE=str(authority.ca))
    finally:
        _end(server)


def test_iperf3_finds_the_same(link: Link) -> None:
    server = _iperf3(link, 5202)
    try:
        _find_the_rates(link, "iperf3", f"{SERVER}:5202")
    finally:
        _end(server)


def test_an_iperf3_server_that_is_slow_between_two_tests_is_waited_for(link: Link) -> None:
    once = "iperf3 --server --one-off --forceflush --port 5203"
    server = _serve(link, "sh", "-c", f"{once}; sleep 2; exec {once}", says="Server listening")
    try:
        told = _run(link, "iperf3", f"{SERVER}:5203")
    finally:
        _end(server)
    assert "result" in told, told


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("page", "Invalid Speedtest Mini Server"),
        ("download", "download: HTTP Error 500"),
        ("upload", "mini: upload: "),
    ],
)
def test_half_an_answer_is_told_as_what_it_is(link: Link, bad: str, why: str) -> None:
    server = _mini(link, 8081, "--bad", bad)
    try:
        told = _run(link, "speedtest", f"http://{SERVER}:8081/mini")
    finally:
        _end(server)
    assert "result" not in told
    assert why in told["error"]


@pytest.mark.parametrize(
    ("method", "server", "why"),
    [
        ("speedtest", f"http://{SERVER}:81/mini", "Failed to connect"),
        ("iperf3", f"{SERVER}:81", "iperf3: unable to connect to server: Connection refused"),
        ("iperf3", "nowhere.invalid", "iperf3: unable to connect to server"),
    ],
)
def test_a_server_that_is_not_there_is_told(link: Link, method: str, server: str, why: str) -> None:
    told = _run(link, method, server)
    assert "result" not in told
    assert why in told["error"]


def test_a_server_that_answers_garbage_is_told(link: Link) -> None:
    server = _mini(link, 8082)
    try:
        told = _run(link, "iperf3", f"{SERVER}:8082")
    finally:
        _end(server)
    assert "result" not in told
    assert told["error"].startswith("iperf3")


def test_a_server_that_never_answers_is_given_up(link: Link) -> None:
    with inside(link.server.name), socket.create_server((SERVER, 8083)):
        told = _run(link, "iperf3", f"{SERVER}:8083")
    assert told == {**told, "error": f"iperf3 to {SERVER}:8083: no end after {SECONDS + 15} s"}


def test_a_test_ends_where_its_bytes_are_over_and_tells_how_many_passed(link: Link) -> None:
    server = _mini(link, 8084)
    try:
        url = f"http://{SERVER}:8084/mini"
        told = _run(link, "speedtest", url, max_bytes=2_000_000, seconds=15)
    finally:
        _end(server)
    assert told["error"] == "ended before its time: more than 2.0 MB passed"
    assert 2_000_000 < told["bytes"] <= told["received"] + told["sent"]
    assert told["received"] + told["sent"] < 15_000_000, "19 MB fit into the time up, and 37 down"
