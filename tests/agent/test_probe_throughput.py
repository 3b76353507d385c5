"""The process of a throughput test: killed when it hangs, and believed only where it is clear."""

from __future__ import annotations

import socket

import psutil
import pytest

from agent.probes import throughput
from agent.probes.runner import ProbeError


@pytest.mark.slow
def test_a_test_that_hangs_is_killed_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "_SLACK_S", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://{}:{}/mini".format(*silent.getsockname())
        with pytest.raises(throughput.TestError, match="the test hung and was killed after 2 s"):
            throughput.throughput(throughput.Test("speedtest", url, 1))
    assert psutil.Process().children() == []


@pytest.mark.parametrize("out", [b"", b"Traceback", b"[1]", b'{"down_mbps": "fast"}', b'{"down'])
def test_a_process_that_says_nothing_clear_gave_no_result(out: bytes) -> None:
    with pytest.raises(ProbeError, match="the test's process ended without a result"):
        throughput.parse(out)


def test_a_process_that_says_why_is_believed() -> None:
    with pytest.raises(ProbeError, match="iperf3: the server is busy"):
        throughput.parse(b'{"error": "iperf3: the server is busy"}')


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (None, None),
        ("http://speed.example:8080/mini", "speed.example"),
        ("speed.example:5201", "speed.example"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_echoes_go_to_the_server_that_is_named(server: str | None, host: str | None) -> None:
    assert throughput.host_of(throughput.Test("iperf3", server, 5)) == host
