"""Where the fleet lives, and the bound on new connections that the role `broker` brings."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from tests.lab.net import Namespace, sh

_TABLE = "pantau_storms"
BROKER = "10.253.7.1"
_FLEET = "10.253.7.2"


@contextlib.contextmanager
def elsewhere() -> Iterator[tuple[str, ...]]:
    """A namespace whose cable ends at `BROKER`; gives what to put before a command. Root."""
    with Namespace() as fleet:
        own, far = "pantau-storm0", "eth0"
        sh("ip", "link", "add", own, "type", "veth", "peer", "name", far, "netns", fleet.name)
        try:
            sh("ip", "address", "add", f"{BROKER}/30", "dev", own)
            sh("ip", "link", "set", own, "up")
            fleet.ip("address", "add", f"{_FLEET}/30", "dev", far)
            fleet.ip("link", "set", far, "up")
            yield "ip", "netns", "exec", fleet.name
        finally:
            sh("ip", "link", "del", own)


@contextlib.contextmanager
def bounded(port: int, per_s: int) -> Iterator[None]:
    """Drop what asks for a connection faster than that, for a moment twice as fast. Root.

    All of the fleet comes from one address, so the role's bound by address has no place here;
    what comes from the machine itself, as ingest does, is not bounded, as with the role.
    """
    rules = f"""
table inet {_TABLE} {{
  chain begin {{
    type filter hook input priority filter - 5; policy accept;
    iif != "lo" tcp dport {port} tcp flags & (syn | ack) == syn limit rate over {per_s}/second burst {2 * per_s} packets counter drop
  }}
}}
"""  # noqa: E501
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", _TABLE], check=False)
