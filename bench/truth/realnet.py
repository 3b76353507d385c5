"""The network of the real sites: a core, an ISP each, gateways, devices and access points.

    device ─┐
            ├ LAN ─ gateway ──(the line)── ISP ── core: broker's door, domestic, world, web, DNS
      ap-1 ─┘

Each is a network namespace of its own; nothing of it has an address outside. A line is cut where
it ends at the ISP, by nft before routing: the gateway still answers, whatever is behind it is
silent, nobody is refused. What befalls the lines is one nft table for each event, so that events
do not know each other.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from tests.lab.net import Namespace, SoftLink, cable, sh

MOST_SITES = 250
BROKER, WEB, RESOLVER = "10.73.0.1", "10.73.0.6", "10.73.0.6"
DOMESTIC, WORLD = ("10.73.0.2", "10.73.0.3"), ("10.73.0.4", "10.73.0.5")
_GUARD = """
while read -r name; do names="$names $name"; done
for name in $names; do ip netns del "$name" 2>/dev/null; done
"""


class Guard:
    """Removes the namespaces that it was told of once this process has ended, however it ended.

    Args:
        record: their names are written here, for who wants to look into them.
    """

    def __init__(self, record: Path) -> None:
        self._record = record.open("w", buffering=1)
        self._process = subprocess.Popen(
            ["sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def namespace(self) -> Namespace:
        """A new one, which it knows."""
        assert self._process.stdin is not None
        new = Namespace()
        self._process.stdin.write(f"{new.name}\n")
        self._process.stdin.flush()
        self._record.write(f"{new.name}\n")
        return new.__enter__()

    def close(self) -> None:
        """Remove all, and return when they are gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._record.close()


class Net:
    """The core and its ISPs. Sites are added as `Place`.

    Args:
        isps: their names.
        record: the names of all namespaces are written here.
    """

    def __init__(self, isps: Collection[str], record: Path) -> None:
        self.guard = Guard(record)
        self.core = self.guard.namespace()
        for address in sorted({BROKER, WEB, RESOLVER, *DOMESTIC, *WORLD}):
            self.core.ip("addr", "add", f"{address}/32", "dev", "lo")
        self.isps: dict[str, Namespace] = {}
        self.isp_address: dict[str, str] = {}
        for number, isp in enumerate(sorted(set(isps)), 1):
            space = self.isps[isp] = self.guard.namespace()
            space.forward()
            self.isp_address[isp] = f"10.72.{number}.2"
            cable(self.core, f"10.72.{number}.1/30", space, f"10.72.{number}.2/30")
            space.route("default", f"10.72.{number}.1")
        self._tables: dict[str, list[Namespace]] = {}

    def close(self) -> None:
        """Remove everything."""
        self.guard.close()

    def cut(self, event: str, places: Iterable[Place]) -> None:
        """Nothing passes the lines of these sites, either way, until `mend`."""
        self._befall(
            event,
            places,
            "type filter hook prerouting priority -300;",
            "ip saddr {{ {nets} }} drop; ip daddr {{ {nets} }} drop",
        )

    def lose(self, event: str, places: Iterable[Place], loss_ratio: float) -> None:
        """So many packets that these sites send beyond their ISP are lost until `mend`."""
        self._befall(
            event,
            places,
            "type filter hook forward priority 0;",
            f"ip saddr {{{{ {{nets}} }}}} numgen random mod 1000 < {round(loss_ratio * 1000)} drop",
        )

    def mend(self, event: str) -> None:
        """What `cut` or `lose` did is over."""
        for isp in self._tables.pop(event, []):
            isp.run("nft", f"delete table inet {_table(event)}")

    def _befall(self, event: str, places: Iterable[Place], hook: str, rules: str) -> None:
        nets: dict[str, list[str]] = defaultdict(list)
        for place in places:
            nets[place.isp] += place.nets
        self._tables[event] = [self.isps[isp] for isp in nets]
        table = _table(event)
        for isp, theirs in nets.items():
            told = [f"add table inet {table}", f"add chain inet {table} struck {{ {hook} }}"]
            for rule in rules.format(nets=", ".join(theirs)).split("; "):
                told.append(f"add rule inet {table} struck {rule}")
            self.isps[isp].run("nft", "; ".join(told))  # all at one instant


def _table(event: str) -> str:
    """A name for nft, whatever the story calls its events."""
    return "e" + event.encode().hex()


class Place:
    """Where one site is: its gateway, its device and its access points.

    Args:
        number: of the site, from 1 to `MOST_SITES`.
        slow: its line must be able to be slow; that costs a process.
    """

    def __init__(
        self, net: Net, number: int, isp: str, points: Collection[str], *, slow: bool
    ) -> None:
        self.isp = isp
        self.points = {name: f"10.71.{number}.{20 + n}" for n, name in enumerate(sorted(points), 1)}
        self.nets = (f"10.70.{number}.0/30", f"10.71.{number}.0/24")
        self.device: Namespace | None = None
        self._net = net
        self._number = number
        self._slow = slow
        self._spaces: list[Namespace] = []
        self._point: dict[str, Namespace] = {}
        self._line: SoftLink | None = None
        self._off: set[str] = set()
        self._delay_ms = 0.0
        for reached in self.nets:
            net.core.route(reached, net.isp_address[isp])

    def build(self) -> None:
        """Bring it about; what was away of it before it was removed is away again."""
        line, lan = f"10.70.{self._number}", f"10.71.{self._number}"
        isp = self._net.isps[self.isp]
        gateway, device = self._space(), self._space()
        gateway.forward()
        self._join(isp, f"{line}.1/30", gateway, f"{line}.2/30")
        gateway.route("default", f"{line}.1")
        isp.route(f"{lan}.0/24", f"{line}.2")
        gateway.ip("link", "add", "lan", "type", "bridge")
        gateway.ip("addr", "add", f"{lan}.1/24", "dev", "lan")
        gateway.ip("link", "set", "lan", "up")
        self._plug(gateway, device, f"{lan}.10/24", "eth0")
        device.route("default", f"{lan}.1")
        self._point = {}
        for name, address in self.points.items():
            point = self._space()
            self._plug(gateway, point, f"{address}/24", "ap0")
            self._point[name] = point
        self.device = device
        for name in self._off:
            self.switch_off(name)
        self.delay(self._delay_ms)

    def remove(self) -> None:
        """It is gone: no namespace of it is left."""
        self.device = None
        if self._line is not None:
            self._line.__exit__()
            self._line = None
        for space in self._spaces:
            space.__exit__()
        self._spaces = []

    def switch_off(self, point: str) -> None:
        """An access point is without power."""
        self._off.add(point)
        self._set_port(point, "down")

    def switch_on(self, point: str) -> None:
        """And has it again."""
        self._off.discard(point)
        self._set_port(point, "up")

    def delay(self, delay_ms: float) -> None:
        """The line takes so much longer there and back."""
        self._delay_ms = delay_ms
        if self._line is not None:
            self._line.set(delay_ms=delay_ms / 2)

    def _set_port(self, point: str, to: str) -> None:
        if self.device is not None:  # else it is gone as a whole
            self._point[point].ip("link", "set", "ap0", to)

    def _space(self) -> Namespace:
        new = self._net.guard.namespace()
        self._spaces.append(new)
        return new

    def _join(self, isp: Namespace, there: str, gateway: Namespace, here: str) -> None:
        if self._slow:
            self._line = SoftLink(isp, there, gateway, here).__enter__()
        else:
            cable(isp, there, gateway, here)

    @staticmethod
    def _plug(gateway: Namespace, guest: Namespace, address: str, name: str) -> None:
        """A cable from the LAN to a guest."""
        port = f"p{guest.name[2:]}"
        sh("ip", "link", "add", port, "netns", gateway.name, "type", "veth",
           "peer", "name", name, "netns", guest.name)  # fmt: skip
        gateway.ip("link", "set", port, "master", "lan", "up")
        guest.ip("addr", "add", address, "dev", name)
        guest.ip("link", "set", name, "up")
