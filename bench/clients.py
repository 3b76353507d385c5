"""Which MQTT client takes readings in fastest, when each is acknowledged after its commit.

A persistent session at mosquitto is filled with readings, one a message, while
its subscriber is away; then the subscriber connects and drains it. Measured are
the time from the first message to the last acknowledgement, and the CPU time of
the subscriber's process in between. Each subscriber takes its turn in each
round, and is compared with the C subscriber of the same round, because the
machine may not be ours alone.

    bench/clients [--messages 100000] [--rounds 5] [--only NAME …]

The subscribers:

    c             mosquitto_sub, which does nothing with what it gets
    paho-bare     paho, which acknowledges by itself and does nothing
    paho-batch    paho, manual_ack; a second thread decodes and commits what has arrived
    gmqtt-public  gmqtt, `on_message` waits for its batch; one thread decodes and commits
    edge-loop     server.mqtt, which is gmqtt with our own collector; all on the event loop
    edge-thread   server.mqtt; one thread decodes and commits while the loop reads on
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import flood
from bench.contenders import CONTENDERS, FILTER, SESSION
from bench.fleet import Fleet
from tests.lab.broker import Broker

NAMES = ["c", *CONTENDERS]


def drain(name: str, port: int, folder: Path, count: int) -> dict[str, float]:
    """One subscriber's turn, in a process of its own."""
    if name == "c":
        return _drain_c(port, count)
    path = folder / f"{name}.db"
    command = [sys.executable, "-m", "bench.contenders", name, str(port), str(path), str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600)
    if name != "paho-bare":
        with sqlite3.connect(path) as db:
            (rows,) = db.execute("SELECT count(*) FROM readings").fetchone()
        assert rows == count, f"{name} stored {rows} of {count}"
    for file in folder.glob(f"{name}.db*"):
        file.unlink()
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _drain_c(port: int, count: int) -> dict[str, float]:
    command = ["mosquitto_sub", "-p", str(port), "-q", "1", "-c", "-i", SESSION]
    command += ["-t", FILTER, "-C", str(count)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=600)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_s": used}


def measure(names: list[str], count: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """`rounds` times: every subscriber drains the same `count` messages."""
    messages = Fleet(1000).backlog(count, 1, time.time())
    packets = flood.publish_packets(messages)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with (
        tempfile.TemporaryDirectory(prefix="pantau-bench-", dir=os.environ.get("TMPDIR")) as folder,
        Broker(Path(folder) / "broker") as broker,
    ):
        for number in range(rounds):
            for name in names:
                flood.persistent_session(broker.port, SESSION, FILTER)
                publisher = flood.Connection(broker.port, "bench-publisher")
                publisher.flood(packets)
                publisher.close()
                sample = drain(name, broker.port, Path(folder), count)
                samples[name].append(sample)
                print(
                    f"round {number + 1} {name:13s} {count / sample['seconds']:9,.0f} msg/s",
                    f"{sample['cpu_s'] / count * 1e5:6.2f} CPU-s per 100,000",
                    file=sys.stderr,
                )
    return samples


def summary(samples: dict[str, list[dict[str, float]]], count: int) -> str:
    """The table: medians, and the ratio to the C subscriber of the same round."""
    lines = [f"{'':13s} {'msg/s':>9s} {'CPU-s/100k':>10s}   ratio to C: min, median, max"]
    for name, taken in samples.items():
        rate = statistics.median(count / sample["seconds"] for sample in taken)
        cpu = statistics.median(sample["cpu_s"] / count * 1e5 for sample in taken)
        line = f"{name:13s} {rate:9,.0f} {cpu:10.2f}"
        if "c" in samples:
            ratios = sorted(
                c["seconds"] / own["seconds"] for c, own in zip(samples["c"], taken, strict=True)
            )
            median = statistics.median(ratios)
            line += f"   {ratios[0]:.3f}, {median:.3f}, {ratios[-1]:.3f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench/clients", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    args = parser.parse_args()
    samples = measure(args.only, args.messages, args.rounds)
    print(summary(samples, args.messages))
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "clients.json").write_text(json.dumps(samples, indent=1))


if __name__ == "__main__":
    main()
