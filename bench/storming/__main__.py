"""How a fleet's storms are weathered: everything reconnects, a province's power is back, links
are lossy, everybody has a day's backlog. Real broker, real ingest, mutual TLS.

    bench/storms [--sites 9000] [--no-lossy] [--plain]
    bench/storms --backlog-h 24 --window-s 300 [--sites 9000]
    bench/storms --rest [--sites 1000]          only start and rest: for the sizing table
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.storming.run import Run
from bench.storming.table import table

RESULTS = Path(__file__).parents[1] / "results"


def main() -> int:
    """Let it storm, print the table, keep the samples."""
    parser = argparse.ArgumentParser(
        prog="bench/storms", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=9000)
    parser.add_argument("--window-s", type=float, default=60.0)
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--no-lossy", action="store_true", help="all links stay good")
    parser.add_argument("--rest", action="store_true", help="no storm: start, and rest")
    parser.add_argument("--backlog-h", type=float, default=0.0)
    parser.add_argument("--processes", type=int, default=2, help="of the simulator")
    parser.add_argument(
        "--connects-per-s",
        type=int,
        default=0,
        help="bound new connections, as the role does (root)",
    )
    parser.add_argument("--folder", type=Path, help="keep everything here")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("it needs root: the fleet lives in a network namespace")
    if not 1 <= args.sites <= 20_000:
        parser.error("--sites goes from 1 to 20000")
    folder = args.folder or Path(tempfile.mkdtemp(prefix="pantau-storms-"))
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as ends:
        run = Run(args, folder, ends)
        rows = run.backlog() if args.backlog_h else run.storms()
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    kind = "backlog" if args.backlog_h else "rest" if args.rest else "storms"
    result = RESULTS / f"storms-{kind}-{args.sites}.json"
    told = {name: value for name, value in vars(args).items() if name != "folder"}
    samples = [asdict(one) for one in run.meter.samples]
    record = {"about": told, "rows": rows, "samples": samples, "late": run.probe.late}
    result.write_text(json.dumps(record, indent=1))
    print(f"raw samples: {result}; everything: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
