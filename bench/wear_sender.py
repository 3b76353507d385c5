"""A site that stores and sends typical readings, for `bench.wear`; a process of its own.

    python -m bench.wear_sender CONFIG WINDOWS WINDOW_S

Spool and publisher are the agent's own; only the measuring is left out. Prints one JSON
line once it is connected, and one with the payload bytes of each window at its end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from agent import clock, wire
from agent.config import load
from agent.publish import Here, Publisher
from agent.spool import Spool
from bench.typical import Typical
from tests.wait import until


def main() -> None:
    config = load(Path(sys.argv[1]))
    windows, window_s = int(sys.argv[2]), float(sys.argv[3])
    spool = Spool(config.spool.path, 16 << 20, boot=clock.boot_id())
    here = Here(clock.boot_id(), clock.uptime_s, lambda: 7)
    publisher = Publisher(config, spool, here, lambda *_: None)
    publisher.start()
    until(lambda: publisher.state()[0], 30, "the connection")
    typical, sizes = Typical(), []
    _send(spool, publisher, typical)
    time.sleep(window_s)
    print(json.dumps({"connected": True}), flush=True)
    sys.stdin.readline()  # the counters are set to zero meanwhile
    begun_s = time.monotonic()
    for i in range(windows):
        sizes.append(_payload_bytes(config.site, spool, _send(spool, publisher, typical)))
        time.sleep(max(0.0, begun_s + (i + 1) * window_s - time.monotonic()))
    print(json.dumps({"payload_bytes": sizes, "waiting": spool.unreleased}), flush=True)
    sys.stdin.readline()
    publisher.stop("stopped")
    spool.close()


def _send(spool: Spool, publisher: Publisher, typical: Typical) -> bytes:
    made: list[bytes] = []

    def make(seq: int) -> bytes:
        made.append(typical(seq))
        return made[-1]

    spool.append(make)
    publisher.notify()
    return made[-1]


def _payload_bytes(site: str, spool: Spool, reading: bytes) -> int:
    """Of the reading as it is sent, and of the ack that comes back."""
    newest = spool.newest
    assert newest is not None
    stream, seq = newest
    sent = wire.encode_readings(
        site=site,
        stream=stream,
        sent_boot=clock.boot_id(),
        sent_uptime_s=clock.uptime_s(),
        oldest=1,
        readings=[reading],
    )
    return len(sent) + len(wire.encode(wire.Ack(v=wire.VERSION, stream=stream, through=seq)))


if __name__ == "__main__":
    main()
