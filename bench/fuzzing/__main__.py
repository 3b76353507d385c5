"""Can any payload crash ingest or an agent, stall it, fill its memory, or vanish without a word?

    bench/fuzz [--payloads 1000000] [--seed 1]

Good payloads of every topic that ingest or an agent reads are damaged in structure, bytes,
compression and size, and go through the real handlers into a real store. After each batch a
judge that shares no code with Pantau says of every payload what the contract wants, and it
must have come so: stored, or in quarantine with a reason. Every 20,000 payloads everything is
restarted on what was stored. The exit code is 1 when anything else came of one, when a handler
raised, or when memory grew by more than 8 MiB in the second half.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench.fuzzing.findings import GROWTH_MIB, Report
from bench.fuzzing.inside import run

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
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder for the samples")
    args = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  # a folder in it
    with tempfile.TemporaryDirectory(prefix="pantau-fuzz-", dir=memory) as folder:
        report = run(Path(folder), args.seed, args.payloads, _say)
    for name, table in (("verdicts", report.verdicts), ("reasons", report.reasons)):
        print(name)
        for what, count in table.most_common():
            print(f"  {count:>9}  {what}")
    print("RSS, MiB:", " ".join(f"{one:.1f}" for one in report.rss_mib[::5]))
    print(f"RSS grew by {report.growth_mib:.1f} MiB in the second half")
    for what, count in report.found.most_common():
        print(f"FOUND {count:>7}  {what}")
    args.results.mkdir(exist_ok=True)
    report.save(args.results / "fuzz-findings.txt")
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
    (args.results / "fuzz.json").write_text(json.dumps(told, indent=1))
    return int(bool(report.found) or report.growth_mib > GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())
