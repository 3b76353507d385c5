"""Networks for tests: namespaces, cables between them, and links that are slow and lossy.

Everything is made with ``ip`` under names that no other test has, and removed on leaving.
The kernel needs no netem: `SoftLink` relays frames between two TAP devices in a process of
its own, which also counts what it dropped, so that a test can be judged by the truth.

    with Namespace() as a, Namespace() as b, SoftLink(a, "10.0.0.1/24", b, "10.0.0.2/24") as link:
        link.set(delay_ms=20, loss_ratio=0.05)
        a.run("ping", "-c", "3", "10.0.0.2")
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def _unique(kind: str) -> str:
    """A name for an interface or namespace: 13 characters at most, of this process alone."""
    return f"{kind}{secrets.token_hex(3)}{next(_numbers)}"


def sh(*command: str, within_s: float = 30.0) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Moves this thread into a namespace: its new sockets, and threads it starts, live there.

    ``/sys`` does not move along; what reads it must run in a process of `Namespace.within`.
    """
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if _libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns", name)
        yield
    finally:
        _libc.setns(here, _CLONE_NEWNET)
        os.close(here)
        os.close(there)


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self) -> None:
        self.name = _unique("pt")

    def __enter__(self) -> Self:
        sh("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        sh("ip", "netns", "del", self.name)

    def ip(self, *arguments: str) -> str:
        """``ip`` within it."""
        return sh("ip", "-n", self.name, *arguments)

    def links(self) -> list[str]:
        """The names of its interfaces."""
        return [str(link["ifname"]) for link in json.loads(self.ip("-json", "link"))]

    def run(self, *command: str, within_s: float = 30.0) -> str:
        """The output of a command that must succeed, run within it."""
        return sh(*self.within(*command), within_s=within_s)

    def popen(self, *command: str, **kwargs: object) -> subprocess.Popen[str]:
        """A process within it; whoever starts it ends it."""
        return subprocess.Popen(self.within(*command), text=True, **kwargs)  # type: ignore[call-overload,no-any-return]  # passed on as they are

    def within(self, *command: str) -> list[str]:
        """A command line that runs `command` within it."""
        return ["ip", "netns", "exec", self.name, *command]

    def forward(self) -> None:
        """Makes it a router."""
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def route(self, to: str, via: str) -> None:
        """Adds or changes a route; ``default`` is one, too."""
        self.ip("route", "replace", to, "via", via)

    def cut(self, destination: str) -> None:
        """Drops, from now on, all that goes to `destination` (address or network)."""
        chains = [
            f"chain {hook} {{ type filter hook {hook} priority 0; ip daddr {destination} drop; }}"
            for hook in ("output", "forward")
        ]
        self.run("nft", f"table ip cut {{ {'; '.join(chains)}; }}")

    def mend(self) -> None:
        """Drops nothing any more."""
        self.run("nft", "delete table ip cut")


def cable(a: Namespace, a_address: str, b: Namespace, b_address: str) -> tuple[str, str]:
    """A perfect link between two namespaces; addresses with prefix length.

    Returns the names of the two interfaces; they vanish with the namespaces.
    """
    names = _unique("pv"), _unique("pv")
    sh("ip", "link", "add", names[0], "netns", a.name, "type", "veth", "peer", "name", names[1],
       "netns", b.name)  # fmt: skip
    for namespace, name, address in ((a, names[0], a_address), (b, names[1], b_address)):
        namespace.ip("addr", "add", address, "dev", name)
        namespace.ip("link", "set", name, "up")
    return names


class Counts(NamedTuple):
    """What a link did with the frames of one direction."""

    passed: int
    dropped: int


class SoftLink:
    """A link with delay, jitter and loss in each direction; its floor is about 0.1 ms a way.

    Jitter is uniform, so frames may overtake each other. Loss strikes only IPv4 frames: the
    few ARP packets pass, so that the loss of a measurement is the loss that was asked for.
    """

    def __init__(self, a: Namespace, a_address: str, b: Namespace, b_address: str) -> None:
        self._ends = ((a, a_address), (b, b_address))
        self.names = _unique("pl"), _unique("pl")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        ends = [f"{ns.name}:{name}" for (ns, _), name in zip(self._ends, self.names, strict=True)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.relay", *ends],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        try:
            self.set()
            for (namespace, address), name in zip(self._ends, self.names, strict=True):
                namespace.ip("addr", "add", address, "dev", name)
                namespace.ip("link", "set", name, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def set(
        self,
        *,
        delay_ms: float = 0.0,
        jitter_ms: float = 0.0,
        loss_ratio: float = 0.0,
        seed: int | None = None,
    ) -> None:
        """How it behaves from now on, each way: ``delay_ms`` give or take ``jitter_ms``."""
        self._ask(delay_ms=delay_ms, jitter_ms=jitter_ms, loss_ratio=loss_ratio, seed=seed)

    def counts(self) -> tuple[Counts, Counts]:
        """IPv4 frames from the first end to the second, and back, since the last asking."""
        there, back = self._ask(counts=True)
        return Counts(*there), Counts(*back)

    def _ask(self, **request: object) -> list[list[int]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the relay ended with {self._process.wait()}"
        reply: list[list[int]] = json.loads(line)
        return reply


def child_environment() -> dict[str, str]:
    """The environment for a Python process that is to import what the tests import."""
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
