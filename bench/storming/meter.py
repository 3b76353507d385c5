"""What the processes take, and how the fleet stands, once a second."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import psutil


@dataclass(frozen=True)
class Sample:
    """One second.

    Attributes:
        cpu_s: of each named process since its start, its children's as well.
        rss_mib: of each named process.
        fleet: the newest line of the simulator.
    """

    at: float
    cpu_s: dict[str, float]
    rss_mib: dict[str, float]
    fleet: dict[str, float]


class Meter:
    """Samples until `close`.

    Args:
        pids: names what there is at the moment.
        simulator: prints a JSON line a second.
    """

    def __init__(
        self, pids: Callable[[], dict[str, int]], simulator: subprocess.Popen[str]
    ) -> None:
        self.samples: list[Sample] = []
        self.fleet: dict[str, float] = {}
        self._pids = pids
        self._simulator = simulator
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._read, self._take)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    def between(self, from_at: float, to_at: float) -> list[Sample]:
        """What was sampled then."""
        return [one for one in self.samples if from_at <= one.at <= to_at]

    def _read(self) -> None:
        assert self._simulator.stdout is not None
        for line in self._simulator.stdout:
            told = json.loads(line)
            self.fleet = {
                name: told[name] for name in ("connected", "made", "unreleased", "late_s")
            }

    def _take(self) -> None:
        while not self._stop.wait(1.0):
            cpu_s, rss_mib = {}, {}
            for name, pid in self._pids().items():
                try:
                    process = psutil.Process(pid)
                    family = [process, *process.children(recursive=True)]
                    times = [one.cpu_times() for one in family]
                    rss_mib[name] = sum(one.memory_info().rss for one in family) / 2**20
                except psutil.Error:
                    continue  # it is being restarted
                cpu_s[name] = sum(one.user + one.system for one in times)
            self.samples.append(Sample(time.time(), cpu_s, rss_mib, dict(self.fleet)))


def cores(samples: Iterable[Sample], name: str, over_s: float = 5.0) -> tuple[float, float]:
    """How many cores it used: in the mean, and in the busiest `over_s` seconds."""
    points = [(one.at, one.cpu_s[name]) for one in samples if name in one.cpu_s]
    steps = [
        (b[0] - a[0], b[1] - a[1])
        for a, b in pairwise(points)
        if b[1] >= a[1]  # else it was restarted, and counts anew
    ]
    if not steps:
        return 0.0, 0.0
    most = 0.0
    for first in range(len(steps)):
        ran_s = used_s = 0.0
        for span_s, cpu_s in steps[first:]:
            ran_s, used_s = ran_s + span_s, used_s + cpu_s
            if ran_s >= over_s:
                break
        if ran_s >= over_s * 0.9:
            most = max(most, used_s / ran_s)
    return sum(cpu for _, cpu in steps) / sum(span for span, _ in steps), most


def peak_rss_mib(samples: Iterable[Sample], name: str) -> float:
    """The most that it held."""
    return max((one.rss_mib.get(name, 0.0) for one in samples), default=0.0)
