"""A process that measures a ladder as the agent does, and prints one JSON line a window.

    python -m tests.lab.prober '{"targets": {"domestic": ["10.0.0.2"]}, "window_s": 2}'

On SIGTERM it closes its window there and then, so that every echo is in some window, and ends;
its last line is what it cost: ``{"cpu_s": …, "ran_s": …}``.
Besides the reading's ``ladder``, ``ping``, ``dead``, ``errors`` and ``taken_at`` a line holds
the raw round-trip times, ``rtt_ms`` by target, None where lost.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
import time
from typing import Any

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


class Measurement:
    """What `agent.measuring` does, as few lines as possible."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.names: list[str] = given.get("probes", [])
        self.context = probes.Context(
            names=tuple(given.get("names", ())),
            resolver=given.get("resolver"),
            url=given.get("url"),
        )
        interval_s = given.get("interval_s", schedule.echo_interval_s(given["window_s"]))
        self.prober = Prober(given["targets"], interval_s=interval_s)
        self.silences: window.Silences = {}

    def close(self, now: schedule.Window) -> dict[str, object]:
        """The reading of a window that is complete, and the raw round-trip times."""
        deadline_s = schedule.probe_deadline_s(now.end_s - now.start_s)
        pending = [probes.start(name, self.context, deadline_s) for name in self.names]
        outcomes = [run.outcome() for run in pending]
        samples = self.prober.take(now.start_s, now.end_s)
        offset_s = time.time() - time.monotonic()
        self.silences, dead = window.silences(self.silences, samples, offset_s)
        reading = window.build(
            seq=1,
            boot="lab",
            agent="lab",
            taken_at=now.end_s + offset_s,
            uptime_s=now.end_s,
            clock=wire.Clock(synced=True),
            window_s=now.end_s - now.start_s,
            samples=samples,
            outcomes=outcomes,
            dead=dead,
            errors=self.prober.errors(),
        )
        return {**msgspec.to_builtins(reading), "rtt_ms": by_target(samples)}


def main() -> None:
    given = json.loads(sys.argv[1])
    window_s = given["window_s"]
    measurement = Measurement(given)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    measurement.prober.start()
    now = schedule.Window(begun_s, begun_s + window_s)
    while not stop.wait(max(0.0, now.complete_s - time.monotonic())):
        show(measurement.close(now))
        now = schedule.next_window(now, window_s, now.end_s)
    measurement.prober.interval_s = 3600.0  # the round that is due still goes out, no other
    time.sleep(given.get("interval_s", 1.0) * 2 + schedule.ECHO_TIMEOUT_S)
    show(measurement.close(dataclasses.replace(now, end_s=time.monotonic())))
    measurement.prober.stop()
    show({"cpu_s": time.process_time() - begun_cpu_s, "ran_s": time.monotonic() - begun_s})


if __name__ == "__main__":
    main()
