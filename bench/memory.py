"""Does the agent's memory stay flat over 100,000 windows, 69 days of minutes?

    bench/memory [--windows 100000]

The agent's own service makes the windows one after another without waiting for their time:
real steps, real probes of the device and its interfaces each window, real window arithmetic
over 240 echoes (made up: the windows are too short to send any), the real spool (16 MB, in
memory, so that no disk is worn), the real publisher to a real mosquitto, and a server that
confirms each reading. One window in 1,000 finds the connection cut.

Its RSS is taken every 1,000 windows. After the first tenth it may grow by 1 MiB at most; the
run ends with exit code 1 else. Raw samples are kept in bench/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from agent import wire
from tests.lab.broker import Broker
from tests.lab.city import toml
from tests.lab.net import child_environment

RESULTS = Path(__file__).parent / "results" / "memory.json"
_SITE = "bench-0001"
_GROWTH_MIB = 1.0


class Confirming:
    """Stands for the server: confirms all that it was sent without a gap."""

    def __init__(self, broker: Broker) -> None:
        self.readings = 0
        self._next: dict[str, int] = {}
        self._ahead: dict[str, set[int]] = {}
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="_bench")
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(
            wire.site_topic(_SITE, "readings"), 1
        )
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def _take(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        envelope = json.loads(wire.plain(message.payload))
        stream, seqs = envelope["stream"], {one["seq"] for one in envelope["readings"]}
        following = max(self._next.get(stream, 1), envelope["oldest"])
        ahead = self._ahead.setdefault(stream, set())
        new = {seq for seq in seqs if seq >= following} - ahead
        self.readings += len(new)
        ahead |= new
        while following in ahead:
            ahead.remove(following)
            following += 1
        self._next[stream] = following
        ack = wire.Ack(v=wire.VERSION, stream=stream, through=following - 1)
        client.publish(wire.site_topic(_SITE, "acks"), wire.encode(ack), qos=1, retain=True)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def run(folder: Path, windows: int) -> dict[str, object]:
    """The samples of one run, and what came of its readings."""
    config = folder / "agent.toml"
    tables = {
        "spool": {"path": str(folder / "spool"), "max_mb": 16},
        "targets": {rung: ["127.0.0.1"] for rung in wire.ECHO_RUNGS},
    }
    with Broker(folder / "broker") as broker:
        config.write_text(toml({"site": _SITE}, {"mqtt": {"url": broker.url}, **tables}))
        server = Confirming(broker)
        begun_s = time.monotonic()
        command = [sys.executable, "-m", "bench.memory_windows", str(config), str(windows)]
        samples = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=child_environment()
        ) as agent:
            assert agent.stdout is not None
            for line in agent.stdout:
                samples.append(json.loads(line))
                print(samples[-1], flush=True)
        server.stop()
    if agent.returncode:
        sys.exit(f"the agent ended with {agent.returncode}")
    took_s = round(time.monotonic() - begun_s, 1)
    return {"windows": windows, "took_s": took_s, "confirmed": server.readings, "samples": samples}


def growth_mib(samples: list[dict[str, float]]) -> float:
    """From the greatest of the second tenth to the greatest of the last."""
    tenth = max(1, len(samples) // 10)
    early, late = samples[tenth : 2 * tenth], samples[-tenth:]
    return max(one["rss_mib"] for one in late) - max(one["rss_mib"] for one in early)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=100_000)
    given = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a folder in it
    with tempfile.TemporaryDirectory(prefix="pantau-memory-", dir=memory) as name:
        results = run(Path(name), given.windows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))
    samples = results["samples"]
    assert isinstance(samples, list)
    grew_mib = growth_mib(samples)
    print(f"{given.windows} windows in {results['took_s']} s, {results['confirmed']} confirmed")
    print(f"RSS grew by {grew_mib:.2f} MiB after the first tenth")
    sys.exit(grew_mib > _GROWTH_MIB)


if __name__ == "__main__":
    main()
