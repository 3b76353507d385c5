"""The story that the guest plays; each scene ends with one line ``@@ {json}`` for the judge.

Namespaces: `hot` is the hotspot (radio wlan0, DHCP, portal, broker, the agent that counts);
`s1` to `s3` are stations, `evil` sends the same SSID from another radio. The first namespace
is a technician's device with a radio to scan (wlan1) and one to walk with (wlan2).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent import hotspot, probes, wire
from agent.probes.wifi import WalkProbe, WifiProbe
from tests.lab.net import Namespace, inside
from tests.lab.private import held, spellings
from tests.wait import until

SSID, PASSWORD = "lab-hotspot", "labpassword"
WINDOW_S = 5.0
_T = Path("/tmp")  # noqa: S108 - the guest's own memory, alone in there
FAULT = _T / "fault"
URL = "http://10.90.0.1/generate_204"


class Fixed(Namespace):
    """A namespace with a name that the story knows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def radio(self, number: int) -> None:
        """Takes a radio, and with it its interface."""
        subprocess.run(["iw", "phy", f"phy{number}", "set", "netns", "name", self.name], check=True)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A process within it that says nothing."""
        return self.popen(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def say(scene: str, **told: object) -> None:
    """One line for the judge."""
    print("@@ " + json.dumps({"scene": scene, **told}), flush=True)


def end(process: subprocess.Popen[str]) -> None:
    """End a process by its id."""
    process.terminate()
    process.wait(20)


def listens(namespace: Fixed, port: int) -> None:
    """Waits until somebody listens there."""
    until(lambda: f":{port} " in namespace.run("ss", "-ltn"), 60, f"port {port}")


def address(namespace: Fixed, interface: str) -> str:
    """An interface's link address."""
    [link] = json.loads(namespace.ip("-j", "link", "show", interface))
    return str(link["address"])


def access_point(namespace: Fixed, interface: str, channel: int) -> subprocess.Popen[str]:
    """hostapd with WPA2 on a radio."""
    conf = _T / f"{interface}.conf"
    conf.write_text(
        f"interface={interface}\ndriver=nl80211\nssid={SSID}\nhw_mode=g\nchannel={channel}\nwpa=2\n"
        f"wpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase={PASSWORD}\n"
        f"ctrl_interface=/run/{namespace.name}\n"
    )
    process = namespace.start("hostapd", str(conf))
    until(lambda: "type AP" in namespace.run("iw", "dev", interface, "info"), 60, "an access point")
    return process


def leases() -> tuple[str, ...]:
    """A DHCP server for the hotspot's network on wlan0."""
    return (
        "dnsmasq", "--keep-in-foreground", "--interface=wlan0", "--bind-interfaces", "--port=0",
        "--conf-file=/dev/null", "--user=root", "--dhcp-range=10.90.0.50,10.90.0.99,1h",
        f"--dhcp-leasefile={_T}/leases", f"--pid-file={_T}/dnsmasq.pid",
    )  # fmt: skip


def join(namespace: Fixed, interface: str) -> subprocess.Popen[str]:
    """A station that joins the hotspot, and stays."""
    conf = _T / "station.conf"
    network = f'ssid="{SSID}"\npsk="{PASSWORD}"\nscan_freq=2437\n'
    conf.write_text(f"network={{\n{network}}}\n")
    process = namespace.start("wpa_supplicant", "-i", interface, "-c", str(conf))
    until(
        lambda: "Connected to" in namespace.run("iw", "dev", interface, "link"),
        120, f"{interface} to join",
    )  # fmt: skip
    return process


class Published:
    """What the agent publishes, read from its broker."""

    def __init__(self, hot: Fixed) -> None:
        self._log = (_T / "published").open("w+b")
        topic = "pantau/v1/sites/lab-0001/readings"
        self.process = hot.popen(
            "mosquitto_sub", "-t", topic, "-F", "%x", stdin=subprocess.DEVNULL, stdout=self._log
        )

    def readings(self) -> list[wire.Reading]:
        """All so far."""
        lines = (_T / "published").read_text().split("\n")[:-1]
        batches = [wire.decode_readings(bytes.fromhex(x), site="lab-0001") for x in lines]
        return [good.reading for batch in batches for good in batch.good]

    def follows(self, count: int, since: float) -> dict[str, object]:
        """Waits for the first whole window after `since` with a count, and tells it.

        A window in which the probe had no time, on a machine that is busy elsewhere, is no
        wrong count: it is passed over.
        """

        def found() -> wire.Reading | None:
            for reading in self.readings():
                begun = wire.epoch(reading.taken_at) - reading.window_s
                if begun >= since and isinstance(reading.clients, wire.Clients):
                    return reading
            return None

        reading = until(found, 120, "a window")
        return {"expected": count, **json.loads(wire.encode(reading))}


def count_scene(hot: Fixed, stations: list[Fixed]) -> None:
    """Stations join and leave, and the published clients follow."""
    conf = _T / "agent.toml"
    conf.write_text(
        f'site = "lab-0001"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n[spool]\npath = "{_T}/spool"\n'
        f"[reading]\nwindow_s = {WINDOW_S}\n"
    )
    broker = hot.start("mosquitto")
    listens(hot, 1883)
    published = Published(hot)
    agent = hot.start(sys.executable, "-m", "agent.main", "run", "--config", str(conf))
    # the first run of the probe loads pyroute2, which in here takes longer than it may
    until(
        lambda: any(isinstance(r.clients, wire.Clients) for r in published.readings()),
        300, "the first count",
    )  # fmt: skip
    say("empty", **published.follows(0, time.time()))
    joined = []
    for number, station in enumerate(stations, 1):
        joined.append(join(station, f"wlan{number + 2}"))
        say("joined", **published.follows(number, time.time()))
    addresses = [address(s, f"wlan{n + 2}") for n, s in enumerate(stations, 1)]
    end(joined[1])
    left = time.time()
    until(
        lambda: hot.run("iw", "dev", "wlan0", "station", "dump").count("Station") == 2,
        60, "the station to be gone",
    )  # fmt: skip
    say("left", **published.follows(2, left))
    hostapd_scene(hot)
    end(agent)
    spool = b"".join(p.read_bytes() for p in (_T / "spool").rglob("*") if p.is_file())
    text = b"".join(wire.encode(r) for r in published.readings()) + spool
    say(
        "private",
        found=[one.decode() for a in addresses for one in held(text, spellings(a))],
        bytes=len(text),
    )
    for process in (published.process, broker, joined[0], joined[2]):
        end(process)


def hostapd_scene(hot: Fixed) -> None:
    """The same stations as hostapd's control socket tells them."""
    from agent.probes import clients_hostapd
    from agent.probes.clients_stations import band, radio, total

    with inside(hot.name):
        networks = clients_hostapd.networks(Path("/run/hot"))
    radios = {n: radio(w.stations, {}, band(w.frequency_mhz)) for n, w in networks.items()}
    say("hostapd", clients=msgspec.to_builtins(total("hostapd", radios)))


def told(value: object) -> dict[str, object]:
    """As it stands on the wire."""
    found: dict[str, object] = json.loads(msgspec.json.encode(value))
    return found


def ask(probe: Callable[[probes.Context], object], what: hotspot.Hotspot) -> dict[str, object]:
    """The probe's value, window by window as the runner asks, or its error."""

    def step() -> dict[str, object] | None:
        try:
            value = probe(probes.Context(hotspot=what, deadline_s=2.0))
        except probes.ProbeError as err:
            failed: dict[str, object] = {"error": str(err)}
            return failed if err.value is None else failed | {"value": told(err.value)}
        return None if value is None else {"value": told(value)}

    return until(step, 150, "the probe")


def scan_scene(evil: Fixed, own: str) -> None:
    """The scan hears the hotspot alone, then with an evil twin, then by a name it has not."""
    wifi = hotspot.Wifi(SSID, {"ap-1": own}, "wlan1", 1)
    say("scan", **ask(WifiProbe(), hotspot.Hotspot(wifi=wifi)))
    twin = access_point(evil, "wlan6", 11)
    say("twin", **ask(WifiProbe(), hotspot.Hotspot(wifi=wifi)))
    end(twin)
    absent = hotspot.Wifi("nobody-sends-this", {}, None, 1)
    say("absent", **ask(WifiProbe(), hotspot.Hotspot(wifi=absent)))
    wrong = hotspot.Wifi(SSID, {}, "wlan99", 1)
    say("no radio", **ask(WifiProbe(), hotspot.Hotspot(wifi=wrong)))


def walk_scene(hot: Fixed, password: str = PASSWORD) -> dict[str, object]:
    """One walk of a stranger."""
    file = _T / "password"
    file.write_text(password + "\n")
    what = hotspot.Hotspot(
        wifi=hotspot.Wifi(SSID, {}, "wlan1", 1),
        walk=hotspot.Walk("wlan2", URL, "http://10.90.0.1/pass", file, 60),
    )
    hot.run(
        sys.executable, "-c",
        "import urllib.request as u; u.urlopen('http://10.90.0.1/forget', timeout=20).read()",
    )  # fmt: skip
    return ask(WalkProbe(), what)


def main() -> None:
    """Everything, in order."""
    names = ("hot", "s1", "s2", "s3", "evil")
    hot, *stations, evil = [Fixed(name).__enter__() for name in names]
    hot.radio(0)
    for number, namespace in enumerate((*stations, evil), 3):
        namespace.radio(number)
    hostapd = access_point(hot, "wlan0", 6)
    hot.ip("addr", "add", "10.90.0.1/24", "dev", "wlan0")
    own = address(hot, "wlan0")
    say("ready")
    count_scene(hot, stations)
    subprocess.run(["ip", "link", "set", "wlan1", "up"], check=True)
    scan_scene(evil, own)
    dnsmasq = hot.start(*leases())
    FAULT.write_text("")
    portal = hot.start(sys.executable, "-m", "tests.lab.wifi.portal", "10.90.0.1", str(FAULT))
    listens(hot, 80)
    say("walk", broken=None, **walk_scene(hot))
    for fault in ("portal", "pass", "web", "leave"):
        FAULT.write_text(fault)
        say("walk", broken=fault, **walk_scene(hot))
    FAULT.write_text("")
    say("walk", broken="associate", **walk_scene(hot, password="another-password"))  # noqa: S106 - a wrong one
    end(dnsmasq)
    say("walk", broken="lease", **walk_scene(hot))
    dnsmasq = hot.start(*leases())
    say("walk", broken=None, **walk_scene(hot))
    left = subprocess.run(["ip", "rule"], capture_output=True, text=True, check=True).stdout
    say("undone", rules=left.count("7204"))
    for process in (portal, dnsmasq, hostapd):
        end(process)


if __name__ == "__main__":
    main()
