"""A process that measures a ladder as the agent does, and prints one JSON line a window.

    python -m tests.lab.prober '{"targets": {"domestic": ["10.0.0.2"]}, "window_s": 2}'

It ends on SIGTERM; its last line is what it cost: ``{"cpu_s": …, "ran_s": …}``.
Besides the reading's ``ladder``, ``ping``, ``dead``, ``errors`` and ``taken_at`` a line holds
the raw round-trip times, ``rtt_ms`` by target, None where lost.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time

import msgspec

from agent import probes, schedule, window, wire
from agent.measured import Sample
from agent.probes.icmp import Prober


def by_target(samples: list[Sample]) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for sample in samples:
        found.setdefault(sample.target, []).append(sample.rtt_ms)
    return found


def show(line: object) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    given = json.loads(sys.argv[1])
    window_s = given["window_s"]
    interval_s = given.get("interval_s", schedule.echo_interval_s(window_s))
    context = probes.Context(
        names=tuple(given.get("names", ())), resolver=given.get("resolver"), url=given.get("url")
    )
    prober = Prober(given["targets"], interval_s=interval_s)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    prober.start()
    silences: window.Silences = {}
    now = schedule.Window(begun_s, begun_s + window_s)
    while not stop.wait(max(0.0, now.complete_s - time.monotonic())):
        names = given.get("probes", [])
        outcomes = [probes.run(name, context, 1.0) for name in names]
        samples = prober.take(now.start_s, now.end_s)
        offset_s = time.time() - time.monotonic()
        silences, dead = window.silences(silences, samples, offset_s)
        reading = window.build(
            seq=1,
            boot="lab",
            agent="lab",
            taken_at=now.end_s + offset_s,
            uptime_s=now.end_s,
            clock=wire.Clock(synced=True),
            window_s=window_s,
            samples=samples,
            outcomes=outcomes,
            dead=dead,
            errors=prober.errors(),
        )
        line = {**msgspec.to_builtins(reading), "rtt_ms": by_target(samples)}
        show(line)
        now = schedule.next_window(now, window_s, now.end_s)
    prober.stop()
    show({"cpu_s": time.process_time() - begun_cpu_s, "ran_s": time.monotonic() - begun_s})


if __name__ == "__main__":
    main()
