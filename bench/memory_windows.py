"""Windows without end, one straight after the other, for `bench.memory`.

    python -m bench.memory_windows CONFIG WINDOWS

The service is the agent's own, but for its echoes, which are made up, and its main loop,
which does not wait. Prints its memory every 1,000 windows, one JSON object a line.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from agent import measuring, memory, wire
from agent.config import Config, load
from agent.measured import Sample
from agent.service import Service

_WAITING = 2000
"""Readings that may wait before the next window: sending has a rate of its own."""


class MadeUpEchoes:
    """240 echoes a window, as `agent.once.Echoes` would have them."""

    def __init__(self, _: Config) -> None:
        self._rng = random.Random(1)  # noqa: S311  # numbers to look at, no secrets

    def start(self, _: float) -> None:
        pass

    set_interval = start

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        rng = self._rng
        return [
            Sample(
                rung,
                "127.0.0.1",
                start_s + at * (end_s - start_s) / 60,
                None if rng.random() < 0.05 else rng.lognormvariate(3, 0.5),
            )
            for at in range(60)
            for rung in wire.ECHO_RUNGS
        ]

    def errors(self) -> dict[str, str]:
        return {}

    def stop(self) -> None:
        pass


def rss_mib() -> float:
    """This process's resident memory."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return int(next(row for row in rows if row.startswith("VmRSS:")).split()[1]) / 1024


def main() -> None:
    memory.one_arena()
    config, windows = load(Path(sys.argv[1])), int(sys.argv[2])
    measuring.Echoes = MadeUpEchoes  # type: ignore[misc,assignment]  # the one part that is not real
    service = Service(config)
    own, sending, spool = service._measuring, service._publisher, service._spool
    sending.start()
    own.start(time.monotonic())
    made, delivered = 0, own._deliver

    def deliver(make: measuring.MakeReading) -> None:
        nonlocal made
        made += 1
        delivered(make)

    own._deliver = deliver
    while made < windows:
        before = made
        own.step()
        if made == before or made % 1000:
            continue
        while spool.unreleased > _WAITING:
            time.sleep(0.01)
        told = {"windows": made, "rss_mib": round(rss_mib(), 2), "waiting": spool.unreleased}
        print(json.dumps({**told, "dropped": spool.dropped}), flush=True)
        sending.stop("upgrade")
        service._publisher = sending = service._make_publisher(config)
        sending.start()
    sending.stop("stopped")


if __name__ == "__main__":
    main()
