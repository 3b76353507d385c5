"""How fast is `pantau ingest`, compared with a C subscriber that does nothing?

    bench/ingest [--rounds 5] [--messages 100000] [--only single packed steady]

Each round fills a persistent session at mosquitto (the shipped configuration,
QoS 1) while its subscriber is away, and lets each subscriber drain it in turn:

    single   one reading a message, plain JSON: mosquitto_sub, bare paho, pantau ingest
    packed   50 readings a message, compressed, as agents send a backlog
    steady   900 messages/s live from 9,000 sites, compressed: ingest's share of a core

`pantau ingest` validates, judges, commits with synchronous=FULL, acknowledges
after the commit and publishes acks and states. After each of its turns plain SQL
must find exactly what was published; if not, the run fails. `--sabotage` deletes
a few stored readings before that, to show that it would be seen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench import flood, judge
from bench.fleet import Fleet
from bench.subscribers import SESSION, TOPICS, Ingest, Sample, c_command, cpu_s, drain_c, drain_paho
from tests.lab.broker import Broker

PACKED = 50
WINDOW_S = 60
SITES = 1000
STEADY_SITES = 9000
STEADY_PER_S = 900
STEADY_PART_S = 20
RESULTS = Path(__file__).parent / "results" / "ingest.json"

Raw = dict[str, list[dict[str, float]]]


class Load:
    """A backlog that is published anew for each turn."""

    def __init__(self, messages: int, per_message: int) -> None:
        self.messages = messages
        self.per_message = per_message
        self.fleet = Fleet(SITES)
        backlog = self.fleet.backlog(messages, per_message, time.time(), WINDOW_S)
        self._packets = flood.publish_packets(backlog)
        self.readings = messages * per_message

    def queue(self, port: int) -> None:
        """Leave it in the subscriber's session, and nothing else."""
        flood.persistent_session(port, SESSION, *TOPICS)
        publisher = flood.Connection(port, "bench-publisher")
        publisher.flood(self._packets)
        publisher.close()

    def names(self) -> list[judge.Name]:
        """Every reading that was published."""
        turns, more = divmod(self.messages, SITES)
        return [
            (site.name, site.stream, seq)
            for at, site in enumerate(self.fleet.sites)
            for seq in range(1, (turns + (at < more)) * self.per_message + 1)
        ]


class Run:
    """The turns of one run, and their samples."""

    def __init__(self, folder: Path, broker: Broker, *, sabotage: bool) -> None:
        self.port = broker.port
        self.ingest = Ingest(folder, broker.port)
        self.samples: Raw = {}
        self._sabotage = sabotage

    def turn(self, name: str, load: Load, drain: Callable[[], Sample]) -> None:
        """One subscriber drains `load`."""
        load.queue(self.port)
        sample = drain()
        self.samples.setdefault(name, []).append(sample.plain())
        rate = load.messages / sample.seconds
        say(f"{name:14s} {rate:9,.0f} messages/s {rate * load.per_message:10,.0f} readings/s")

    def ingest_turn(self, name: str, load: Load) -> None:
        """The same for ``pantau ingest``, and the verdict on what it stored."""
        self.ingest.register(load.fleet.csv())
        self.turn(name, load, lambda: self.ingest.drain(load.readings))
        self.judge(load.names())

    def judge(self, published: list[judge.Name]) -> None:
        """End the run unless exactly `published` is stored."""
        if self._sabotage:
            judge.sabotage(self.ingest.database)
        fault = judge.verdict(self.ingest.database, published)
        if fault:
            raise SystemExit(f"WRONG: of {len(published)} readings: {fault}")

    def steady(self, parts: int) -> None:
        """Live readings at a steady rate; CPU of each part of the time."""
        fleet = Fleet(STEADY_SITES)
        self.ingest.register(fleet.csv())
        flood.persistent_session(self.port, SESSION, *TOPICS)
        steady = Steady(fleet, self.port)
        with self.ingest.running() as process:
            steady.start()
            time.sleep(1.2 * steady.window_s)  # until every site has been heard
            for _ in range(parts):
                began, cpu = time.monotonic(), cpu_s(process)
                time.sleep(STEADY_PART_S)
                seconds, used = time.monotonic() - began, cpu_s(process) - cpu
                sample = Sample(seconds, used, os.getloadavg()[0])
                self.samples.setdefault("steady", []).append(sample.plain())
                say(f"{'steady':14s} {used / seconds:6.1%} of a core")
            steady.stop()
            self.ingest.committed(len(steady.sent))
        say(f"{'steady':14s} {len(steady.sent) / steady.seconds:9,.0f} messages/s")
        self.judge(steady.sent)


class Steady(threading.Thread):
    """Publishes live readings of a fleet, evenly spread."""

    window_s = STEADY_SITES // STEADY_PER_S

    def __init__(self, fleet: Fleet, port: int) -> None:
        super().__init__(daemon=True)
        self.sent: list[judge.Name] = []
        self.seconds = 0.0
        self._fleet = fleet
        self._connection = flood.Connection(port, "bench-publisher")
        self._ended = threading.Event()

    def run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(0.01):
            due = int((time.monotonic() - began) * STEADY_PER_S) - len(self.sent)
            packets = flood.publish_packets([self._next() for _ in range(due)])
            self._connection.flood(packets)
        self.seconds = time.monotonic() - began

    def stop(self) -> None:
        """Return once all that was begun is at the broker."""
        self._ended.set()
        self.join()

    def _next(self) -> tuple[str, bytes]:
        turn, at = divmod(len(self.sent), STEADY_SITES)
        site, seq = self._fleet.sites[at], turn + 1
        self.sent.append((site.name, site.stream, seq))
        starts_at, uptime_s = time.time() - seq * self.window_s, 3600.0 + seq * self.window_s
        payload = self._fleet.message(
            site, range(seq, seq + 1), starts_at, self.window_s, uptime_s, compress=True
        )
        return site.topic, payload


def summary(samples: Raw, single: int, packed: int) -> str:
    """What the samples say: medians, and ratios to the C subscriber of the same round."""
    counts = {"single": single, "packed": packed}
    lines = [f"{'':14s} {'messages/s':>10s} {'readings/s':>10s} {'CPU-s/100k messages':>20s}"]
    for name, taken in samples.items():
        if name == "steady":
            continue
        count, each = counts[name.split()[0]], PACKED if name.startswith("packed") else 1
        rate = statistics.median(count / one["seconds"] for one in taken)
        cpu = statistics.median(one["cpu_s"] / count * 1e5 for one in taken)
        lines.append(f"{name:14s} {rate:10,.0f} {rate * each:10,.0f} {cpu:20.2f}")
    for name, count, each, target in (
        ("single paho", single, 1, None),
        ("single ingest", single, 1, 0.20),
        ("packed ingest", packed, PACKED, 0.50),
    ):
        if name in samples and "single c" in samples:
            pairs = zip(samples[name], samples["single c"], strict=True)
            ratios = [count * each / one["seconds"] / (single / c["seconds"]) for one, c in pairs]
            lines.append(f"{name}, readings/s to C's messages/s: {_spread(ratios, target)}")
    if "steady" in samples:
        shares = [one["cpu_s"] / one["seconds"] for one in samples["steady"]]
        spread = f"min {min(shares):.1%}, median {statistics.median(shares):.1%}"
        spread = f"{spread}, max {max(shares):.1%} (target under 20%)"
        lines.append(f"steady {STEADY_PER_S} messages/s, share of a core: {spread}")
    return "\n".join(lines)


def _spread(ratios: list[float], target: float | None) -> str:
    text = f"min {min(ratios):.3f}, median {statistics.median(ratios):.3f}, max {max(ratios):.3f}"
    return text if target is None else f"{text} (target {target:.2f})"


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


def measure(run: Run, modes: list[str], rounds: int, single: Load, packed: Load) -> None:
    """`rounds` times each subscriber in turn, then the steady rate."""
    for _ in range(rounds):
        if modes != ["steady"]:
            run.turn("single c", single, lambda: drain_c(run.port, single.messages))
        if "single" in modes:
            run.turn("single paho", single, lambda: drain_paho(run.port, single.messages))
            run.ingest_turn("single ingest", single)
        if "packed" in modes:
            run.ingest_turn("packed ingest", packed)
    if "steady" in modes:
        run.steady(rounds)


def about(run: Run, single: int) -> dict[str, object]:
    """What was compared, and where."""
    broker = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False)
    return {
        "c": " ".join(c_command(run.port, single)),
        "ingest": " ".join(run.ingest.command),
        "mosquitto": broker.stdout.partition("\n")[0],
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure, print the summary, and keep the raw samples."""
    parser = argparse.ArgumentParser(
        prog="bench/ingest", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000, help="of the single mode")
    parser.add_argument("--packed-messages", type=int, default=4_000, help="of the packed mode")
    parser.add_argument("--rounds", type=int, default=5)
    modes = ["single", "packed", "steady"]
    parser.add_argument("--only", nargs="+", choices=modes, default=modes, metavar="MODE")
    parser.add_argument("--sabotage", action="store_true", help="must make the run fail")
    args = parser.parse_args()
    single = Load(args.messages, 1)
    packed = Load(args.packed_messages if "packed" in args.only else 0, PACKED)
    with (
        tempfile.TemporaryDirectory(prefix="pantau-bench-") as folder,
        Broker(Path(folder) / "broker") as broker,
    ):
        run = Run(Path(folder), broker, sabotage=args.sabotage)
        measure(run, args.only, args.rounds, single, packed)
        facts = about(run, args.messages)
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    print(summary(run.samples, args.messages, args.packed_messages))
    RESULTS.parent.mkdir(exist_ok=True)
    record = {"about": facts, "arguments": vars(args), "samples": run.samples}
    RESULTS.write_text(json.dumps(record, indent=1))
    print(f"raw samples: {RESULTS}")


if __name__ == "__main__":
    main()
