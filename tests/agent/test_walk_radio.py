"""The lease of a walk in a real network namespace: its address, its rule, and their end."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path

import pytest

from agent.helpers.walk_dhcp import Lease
from agent.helpers.walk_radio import Radio
from tests.lab.net import Namespace, cable, child_environment, inside

pytestmark = pytest.mark.needs_root

LEASE = Lease("10.5.0.7", 24, "10.5.0.1", "10.5.0.1")
ANOTHER = Lease("10.5.0.9", 24, "10.5.0.1", "10.5.0.1")
KILLED = """
import os, signal, sys
from agent.helpers.walk_dhcp import Lease
from agent.helpers.walk_radio import Radio
Radio(sys.argv[1]).configure(Lease(sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def _rules(device: Namespace) -> list[str]:
    """Whose way leads through the table of the walk."""
    rules = json.loads(device.ip("-json", "rule"))
    return [rule["src"] for rule in rules if rule["table"] == "7204"]


def _addresses(device: Namespace, interface: str) -> list[str]:
    [link] = json.loads(device.ip("-json", "addr", "show", "dev", interface))
    return [one["local"] for one in link["addr_info"] if one["family"] == "inet"]


@pytest.mark.parametrize("next_lease", [LEASE, ANOTHER], ids=["same", "another"])
def test_a_walk_that_was_killed_does_not_keep_the_next_from_its_lease(
    tmp_path: Path, next_lease: Lease
) -> None:
    with Namespace() as device, Namespace() as hotspot:
        interface, _ = cable(device, "10.6.0.1/24", hotspot, "10.5.0.1/24")
        device.ip("rule", "add", "from", "10.6.0.1", "lookup", "77")
        environment = {**child_environment(), "TMPDIR": str(tmp_path)}
        command = (sys.executable, "-c", KILLED, interface, *map(str, LEASE))
        with device.popen(*command, env=environment) as killed:
            assert killed.wait(60) == -signal.SIGKILL
        assert (_rules(device), "10.5.0.7" in _addresses(device, interface)) == (["10.5.0.7"], True)

        with inside(device.name), contextlib.ExitStack() as end:
            radio = Radio(interface)
            end.push(radio)
            radio.configure(next_lease)
            assert _rules(device) == [next_lease.address]
            assert _addresses(device, interface) == [next_lease.address]
            way = device.ip("route", "get", "192.0.2.1", "from", next_lease.address)
            assert f"via 10.5.0.1 dev {interface} table 7204" in way
        assert (_rules(device), _addresses(device, interface)) == ([], [])
        assert "from 10.6.0.1 lookup 77" in device.ip("rule")
