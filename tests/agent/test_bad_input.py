"""What every probe makes of bad surroundings that its own file of tests does not show.

docs/probes/bad-input.md has the table of all of them.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.hotspot import AccessPoints, Hotspot
from agent.measured import Outcome
from agent.probes import PROBES, Context, FilterRules, ProbeError, clients_hostapd, run
from tests.lab.net import Namespace, cable, child_environment, inside

pytestmark = pytest.mark.needs_root
FAR = "192.0.2.1"
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def lone() -> Iterator[Namespace]:
    """A machine without any route."""
    with Namespace() as namespace:
        yield namespace


def outcome(namespace: Namespace, name: str, context: Context) -> Outcome:
    with inside(namespace.name):
        return run(name, context, 1.0)


FILTER = FilterRules(("example.org",), ("bad.example",), (), 3600.0)


@pytest.mark.parametrize(
    ("name", "context", "error"),
    [
        ("dns", Context(names=("example.org",), resolver=FAR), "Network is unreachable"),
        ("filter", Context(filter=FILTER, resolver=FAR), "Network is unreachable"),
        ("web", Context(url=f"http://{FAR}/"), "Network is unreachable"),
        ("ntp", Context(time_servers=(FAR,)), f"{FAR}: Network is unreachable"),
    ],
)
def test_without_a_route_the_probe_says_so(
    lone: Namespace, name: str, context: Context, error: str
) -> None:
    found = outcome(lone, name, context)
    assert found.error is not None
    assert error in found.error


def test_without_a_route_an_access_point_is_not_reachable_and_nobody_is_counted(
    lone: Namespace,
) -> None:
    points = Hotspot(access_points=AccessPoints({"ap-1": FAR}, "icmp"))
    found = outcome(lone, "access_points", Context(hotspot=points))
    assert found.error is None
    assert [point.reachable for point in found.value.by_name.values()] == [False]  # type: ignore[union-attr]  # it is there
    assert outcome(lone, "clients", Context()).value is None


def _agent(namespace: Namespace, toml: Path, *prefix: str) -> dict[str, Any]:
    """One reading of an agent there."""
    done = subprocess.run(
        namespace.within(*prefix, sys.executable, "-m", "agent.main", "reading", "--json",
                         "--config", str(toml)),
        env=child_environment(), capture_output=True, text=True, timeout=90, check=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    reading: dict[str, Any] = json.loads(done.stdout)
    return reading


NO_CAPABILITY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
EVERYTHING = f"""
site = "lab-0001"
[mqtt]
url = "mqtt://127.0.0.1"
[reading]
window_s = 2
[targets]
gateway = "auto"
isp = "auto"
domestic = ["{FAR}"]
[dns]
names = ["example.org"]
resolver = "{FAR}"
[filter]
must_resolve = ["example.org"]
[web]
url = "http://{FAR}/"
[ntp]
server = "{FAR}"
[access_points]
addresses = {{ ap-1 = "{FAR}" }}
[wifi]
ssid = "lab"
interface = "wlan9"
[walk]
interface = "wlan8"
url = "http://{FAR}/"
"""


def test_an_agent_that_can_do_nothing_publishes_its_window_with_a_clear_line_for_each_probe(
    lone: Namespace, tmp_path: Path
) -> None:
    """No route, no capability, no radio, no resolver, no group that may send echoes."""
    lone.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    toml = tmp_path / "agent.toml"
    toml.write_text(EVERYTHING)
    reading = _agent(lone, toml, *NO_CAPABILITY)
    errors = reading["errors"]
    assert "CAP_NET_RAW" in errors["icmp"]
    assert "CAP_NET_RAW" in errors["access_points"]
    for name in ("dns", "filter", "web", "ntp"):
        assert "Network is unreachable" in errors[name]
    for name in ("wifi", "walk"):  # a helper that starts slowly tells it in the next window
        assert "CAP_NET_ADMIN" in errors.get(name, "CAP_NET_ADMIN")
    assert not [line for line in errors.values() if "\n" in line or "Error:" in line]
    assert reading["host"]["memory_ratio"] > 0
    assert "ping" not in reading


def test_a_lease_file_that_may_not_be_read_is_named_with_the_mend(tmp_path: Path) -> None:
    leases = tmp_path / "leases"
    leases.write_text("")
    leases.chmod(0)
    toml = tmp_path / "agent.toml"
    toml.write_text(
        'site = "lab-0001"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n[reading]\nwindow_s = 1\n'
        f'[clients]\nleases = "{leases}"\nhostapd = "{tmp_path}/none"\n'
    )
    with Namespace() as gateway, Namespace() as isp, Namespace() as client:
        cable(gateway, "10.1.0.2/24", isp, "10.1.0.1/24")
        cable(gateway, "10.2.0.1/24", client, "10.2.0.2/24")
        gateway.route("default", "10.1.0.1")
        reading = _agent(gateway, toml, *NO_CAPABILITY)
    mend = f"{leases}: not permitted; let this user read it, or mend [clients] leases"
    assert reading["errors"]["clients"] == mend


@contextmanager
def _hostapd(path: Path, answer: bytes) -> Iterator[None]:
    """Answers everything with the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))

        def serve() -> None:
            while (asked := sock.recvfrom(1024))[0] != b"end":
                sock.sendto(answer, asked[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            sock.sendto(b"end", str(path))
            thread.join()


@pytest.mark.parametrize(
    "answer", [b"\xff\xfe\x00", b"UNKNOWN COMMAND\n", b"02:00:00:0", b"x" * 4000]
)
def test_what_is_no_hostapd_counts_nobody_and_is_named(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "wlan0"
    with _hostapd(path, answer), pytest.raises(ProbeError) as error:
        clients_hostapd.networks(tmp_path)
    assert str(error.value) == f"{path}: hostapd answers something that is no station"


def test_the_table_of_bad_input_has_every_probe_and_names_tests_that_are_there() -> None:
    table = (_ROOT / "docs" / "probes" / "bad-input.md").read_text()
    tests = "".join(path.read_text() for path in (_ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", table))
    assert named - set(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE)) == set()
    assert {*PROBES, "icmp", "path", "throughput"} <= set(re.findall(r"^\| (\w+) \|", table, re.M))
