"""Can any payload crash ingest or an agent, stall it, fill its memory, or vanish without a word?

    bench/fuzz [--payloads 1000000] [--seed 1]
    bench/fuzz --over-the-wire 20000

Good payloads of every topic that ingest or an agent reads are damaged in structure, bytes,
compression and size, and go through the real handlers into a real store. After each batch a
judge that shares no code with Pantau says of every payload what the contract wants, and it
must have come so: stored, or in quarantine with a reason. Every 20,000 payloads everything is
restarted on what was stored. The exit code is 1 when anything else came of one, when a handler
raised, or when memory grew by more than 8 MiB in the second half.

Over the wire the same payloads, some with odd MQTT 5 properties, go through a real mosquitto to a
real `pantau ingest` and `pantau-agent run`, which must stay alive as the processes they are, answer
within 10 s after each 100 payloads, and start again with garbage standing retained at the broker.
Packets that are no MQTT come from bare sockets. Growth there is of ingest, at most 32 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench.fuzzing import inside, overwire
from bench.fuzzing.findings import Report

RESULTS = Path(__file__).parents[1] / "results"


def _say(report: Report) -> None:
    done_s = report.tenths_s[-1]
    rate = report.payloads / done_s
    found = sum(report.found.values())
    print(
        f"{report.payloads:>9} payloads, {done_s:.0f} s, {rate:.0f}/s,"
        f" RSS {report.rss_mib[-1]:.1f} MiB, findings {found}",
        flush=True,
    )


def main() -> int:
    """Fuzz, print what came of it, keep the samples."""
    parser = argparse.ArgumentParser(
        prog="bench/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payloads", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--over-the-wire", type=int, metavar="N", help="N payloads to real processes instead"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder for the samples")
    args = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a folder in it
    with tempfile.TemporaryDirectory(prefix="pantau-fuzz-", dir=memory) as folder:
        if args.over_the_wire:
            report = overwire.run(Path(folder), args.seed, args.over_the_wire, _say)
        else:
            report = inside.run(Path(folder), args.seed, args.payloads, _say)
    for title, table in (("verdicts", report.verdicts), ("reasons", report.reasons)):
        print(title)
        for what, count in table.most_common():
            print(f"  {count:>9}  {what}")
    few = report.rss_mib[:: max(1, len(report.rss_mib) // 20)]
    print("RSS, MiB:", " ".join(f"{one:.1f}" for one in few))
    print(f"RSS grew by {report.growth_mib:.1f} MiB in the second half")
    for what, count in report.found.most_common():
        print(f"FOUND {count:>7}  {what}")
    args.results.mkdir(exist_ok=True)
    name = "fuzz-wire" if args.over_the_wire else "fuzz"
    report.save(args.results / f"{name}-findings.txt")
    told = {
        "seed": args.seed,
        "payloads": report.payloads,
        "seconds": report.tenths_s[-1],
        "verdicts": report.verdicts,
        "reasons": report.reasons,
        "rss_mib": report.rss_mib,
        "tenths_s": report.tenths_s,
        "found": report.found,
    }
    (args.results / f"{name}.json").write_text(json.dumps(told, indent=1))
    return int(report.bad)


if __name__ == "__main__":
    sys.exit(main())
