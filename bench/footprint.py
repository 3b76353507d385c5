"""What the agent costs its device, beside others that watch a network.

    bench/footprint [--minutes 5] [--only python agent] [--imports]

All run at the same time in one namespace, so they share whatever load the machine has:

    python      a bare Python that sleeps
    agent       `pantau-agent run`: four targets at 1 Hz, windows of 60 s, mosquitto
    agent-lan   the same on a router with a local network, where it counts the devices each
                window: pyroute2 is loaded and used, as with a radio
    collectd    the plugins ping (the same four at 1 Hz), mqtt, cpu, memory, interface
    exporters   prometheus-node-exporter, and prometheus-blackbox-exporter, which is asked
                for an ICMP echo to each of the four every second (node exporter: each minute)

Told are RSS and PSS at the end, CPU time a minute (the median of the minutes after the first)
and, for the agent, the time from exec to its first log line as a service that measures (the
median of five starts). `--imports` lists what each import costs instead. Raw samples and
command lines are kept in bench/results/footprint.json. Needs root, and the Debian packages
collectd-core, liboping0, libmosquitto1, prometheus-node-exporter and
prometheus-blackbox-exporter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.broker import Broker
from tests.lab.city import PANTAU_AGENT, toml
from tests.lab.net import Namespace, cable
from tests.lab.process import Service

TARGETS = [f"10.98.0.{n}" for n in (1, 11, 12, 13)]
RESULTS = Path(__file__).parent / "results" / "footprint.json"
CONTENDERS = ("python", "agent", "agent-lan", "collectd", "exporters", "scraper")
_TICKS = os.sysconf("SC_CLK_TCK")
_STARTS = 5
_COLLECTD = """
Hostname "bench"
FQDNLookup false
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
TypesDB "/usr/share/collectd/types.db"
Interval 60
LoadPlugin cpu
LoadPlugin memory
LoadPlugin interface
LoadPlugin mqtt
<LoadPlugin ping>
  Interval 60
</LoadPlugin>
<Plugin ping>
{hosts}
  Interval 1.0
  Timeout 0.9
</Plugin>
<Plugin mqtt>
  <Publish "bench">
    Host "10.98.0.1"
    Port 1883
    QoS 1
  </Publish>
</Plugin>
"""
_BLACKBOX = "modules: {icmp: {prober: icmp, timeout: 2s}}\n"
_SCRAPER = """
import concurrent.futures, sys, time, urllib.request
targets = sys.argv[1:]
def ask(url):
    urllib.request.urlopen(url, timeout=5).read()
urls = [f"http://127.0.0.1:9115/probe?module=icmp&target={t}" for t in targets]
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for second in range(10**6):
        due = urls + (["http://127.0.0.1:9100/metrics"] if second % 60 == 0 else [])
        list(pool.map(ask, due))
        time.sleep(1)
"""
_IMPORTS = [
    "", "msgspec", "psutil", "paho.mqtt.client", "ssl", "tomllib", "agent.wire", "agent.spool",
    "agent.probes", "agent.publish", "agent.service", "pyroute2", "scapy.layers.inet", "speedtest",
]  # fmt: skip


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, with that of children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) / _TICKS


def memory_mib(pid: int) -> dict[str, float]:
    """RSS and PSS of a process, in MiB."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name.rstrip(":"): int(kb) for name, kb, *_ in map(str.split, rows)}
    return {name.lower(): round(sizes[name] / 1024, 1) for name in ("Rss", "Pss")}


def agent_run(folder: Path, site: str) -> list[str]:
    """The command line of an agent for `site`, whose files are put into `folder`."""
    config = folder / f"{site}.toml"
    rungs = ("gateway", "isp", "domestic", "world")
    tables = {
        "mqtt": {"url": "mqtt://10.98.0.1:1883"},
        "spool": {"path": str(folder / f"{site}-spool")},
        "targets": {rung: [address] for rung, address in zip(rungs, TARGETS, strict=True)},
    }
    config.write_text(toml({"site": site}, tables))
    return [PANTAU_AGENT, "run", "--config", str(config)]


def services(folder: Path, near: Namespace, router: Namespace) -> dict[str, list[Service]]:
    """Each contender's processes, not yet started; the scraper costs nobody anything."""
    hosts = "\n".join(f'  Host "{address}"' for address in TARGETS)
    (folder / "collectd.conf").write_text(_COLLECTD.format(folder=folder, hosts=hosts))
    (folder / "blackbox.yml").write_text(_BLACKBOX)
    commands = {
        "python": [[sys.executable, "-c", "import time; time.sleep(1e6)"]],
        "agent": [agent_run(folder, "bench-0001")],
        "agent-lan": [agent_run(folder, "bench-0002")],
        "collectd": [["collectd", "-f", "-C", str(folder / "collectd.conf")]],
        "exporters": [
            ["prometheus-node-exporter", "--web.listen-address=127.0.0.1:9100"],
            ["prometheus-blackbox-exporter", f"--config.file={folder / 'blackbox.yml'}",
             "--web.listen-address=127.0.0.1:9115"],
        ],
        "scraper": [[sys.executable, "-c", _SCRAPER, *TARGETS]],
    }  # fmt: skip

    def place(name: str) -> Namespace:
        return router if name == "agent-lan" else near

    return {
        name: [
            Service(name, place(name).within(*command), folder / f"{name}-{at}.log")
            for at, command in enumerate(lines)
        ]
        for name, lines in commands.items()
    }


def start_s(agent: Service) -> float:
    """From exec to the log line that says it measures."""
    begun_s = time.monotonic()
    agent.start()
    agent.wait_for("measures windows")
    return time.monotonic() - begun_s


def measure(minutes: int, only: list[str] | None) -> dict[str, object]:
    """The contenders side by side for some minutes."""
    with (
        tempfile.TemporaryDirectory(prefix="pantau-footprint-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        near, far, router, client = (stack.enter_context(Namespace()) for _ in range(4))
        _, far_end = cable(near, "10.98.0.2/30", far, f"{TARGETS[0]}/30")
        for address in TARGETS[1:]:
            far.ip("addr", "add", f"{address}/32", "dev", far_end)
        near.route("default", TARGETS[0])
        cable(router, "10.98.1.2/24", far, "10.98.1.1/24")
        router.route("default", "10.98.1.1")
        cable(router, "192.168.77.1/24", client, "192.168.77.2/24")
        client.run("ping", "-c", "1", "-W", "5", "192.168.77.1")  # makes a neighbour of it
        stack.enter_context(
            Broker(folder / "broker", host=TARGETS[0], port=1883, prefix=far.within())
        )
        running = services(folder, near, router)
        if only:
            running = {name: those for name, those in running.items() if name in only}
        for service in (one for those in running.values() for one in those):
            stack.callback(service.discard)
        (agent,) = running.get("agent") or running["agent-lan"]
        starts = []
        for _ in range(_STARTS):
            starts.append(start_s(agent))
            agent.stop()
        for those in running.values():
            for service in those:
                service.start()
        samples = _minutes({k: v for k, v in running.items() if k != "scraper"}, minutes)
        lines = {name: [one.command[4:] for one in those] for name, those in running.items()}
        return {"start_s": starts, "samples": samples, "commands": lines}


def _minutes(running: dict[str, list[Service]], minutes: int) -> dict[str, list[dict[str, float]]]:
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    used = dict.fromkeys(running, 0.0)
    for _ in range(minutes + 1):
        time.sleep(60)
        for name, those in running.items():
            pids = [one.pid for one in those]  # what `ip netns exec` runs keeps its id
            now_s = sum(map(cpu_s, pids))
            memory = [memory_mib(pid) for pid in pids]
            samples[name].append(
                {
                    "cpu_s": round(now_s - used[name], 3),
                    "rss_mib": round(sum(one["rss"] for one in memory), 1),
                    "pss_mib": round(sum(one["pss"] for one in memory), 1),
                }
            )
            used[name] = now_s
    return samples


def show(results: dict[str, object]) -> None:
    """A table of medians and last values."""
    samples, starts = results["samples"], results["start_s"]
    assert isinstance(samples, dict)
    assert isinstance(starts, list)
    print(f"{'':10} {'RSS MiB':>8} {'PSS MiB':>8} {'CPU-s a minute':>15}")
    for name, rows in samples.items():
        cpu = statistics.median(row["cpu_s"] for row in rows[1:])
        last = rows[-1]
        print(f"{name:10} {last['rss_mib']:8.1f} {last['pss_mib']:8.1f} {cpu:15.3f}")
    print(f"the agent starts in {statistics.median(starts):.2f} s")


def imports() -> dict[str, dict[str, float]]:
    """What a Python that has imported one thing took, in time and memory."""
    found = {}
    for name in _IMPORTS:
        code = f"import {name or 'os'}; print(open('/proc/self/status').read())"
        begun_s = time.monotonic()
        status = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        took_ms = round((time.monotonic() - begun_s) * 1000)
        rss = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        found[name or "nothing"] = {"ms": took_ms, "rss_mib": round(int(rss.split()[1]) / 1024, 1)}
        print(f"{name or 'nothing':20} {found[name or 'nothing']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*CONTENDERS], metavar="CONTENDER")
    parser.add_argument("--imports", action="store_true")
    given = parser.parse_args()
    if given.imports:
        imports()
        return
    results = measure(given.minutes, given.only)
    show(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
