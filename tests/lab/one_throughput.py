"""A process that runs one test of throughput as the agent does, and prints it as JSON.

    python -m tests.lab.one_throughput METHOD SERVER SECONDS MAX_BYTES

With the bytes that all interfaces but loopback received and sent meanwhile.
"""

from __future__ import annotations

import sys

import msgspec
import psutil

from agent.probes.throughput import Test, TestError, throughput


def _passed() -> tuple[int, int]:
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    links = [counted for name, counted in counters.items() if name != "lo"]
    return sum(c.bytes_recv for c in links), sum(c.bytes_sent for c in links)


def main() -> None:
    method, server, seconds, max_bytes = sys.argv[1:]
    before = _passed()
    told: dict[str, object] = {}
    try:
        told["result"] = throughput(Test(method, server, int(seconds), int(max_bytes) or None))
    except TestError as err:
        told["error"], told["bytes"] = str(err), err.bytes
    after = _passed()
    told["received"], told["sent"] = after[0] - before[0], after[1] - before[1]
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")


if __name__ == "__main__":
    main()
