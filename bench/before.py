"""What does ingest cost now, compared with an older commit of ours?

    bench/before 59b42aa [--rounds 5] [--messages 30000]

Installs the older commit into a virtual environment of its own, then lets both run
their own `bench/ingest` in turn, one round each, the first one changing from round to
round. The ratio is that of the CPU time of `pantau ingest` for the same messages, which
a busy machine disturbs less than the time that passed; both are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_RESULTS = Path("bench") / "results" / "ingest.json"
_MODES = {"single": "single ingest", "packed": "packed ingest", "steady": "steady"}

Samples = dict[str, list[dict[str, float]]]


def main() -> int:
    """Install, measure in turn, tell."""
    parser = argparse.ArgumentParser(prog="bench/before", description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=30_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pantau-before-") as folder:
        older = Path(folder) / "pantau"
        commit = _install(args.commit, older)
        samples: dict[str, Samples] = {"before": {}, "now": {}}
        for number in range(args.rounds):
            sides = [("before", older), ("now", _ROOT)]
            for side, root in sides if number % 2 else reversed(sides):
                for name, taken in _measure(root, args.messages).items():
                    samples[side].setdefault(name, []).extend(taken)
                print(f"round {number + 1}: {side}", file=sys.stderr, flush=True)
    print(
        f"before: {commit}; command of both: {' '.join(map(str, _command(_ROOT, args.messages)))}"
    )
    print(_told(samples))
    kept = _ROOT / _RESULTS.parent / f"before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    kept.write_text(json.dumps({"before": commit, "options": vars(args), "samples": samples}))
    print(f"raw samples: {kept.relative_to(_ROOT)}")
    return 0


def _install(commit: str, folder: Path) -> str:
    def run(*words: str | Path) -> str:
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    run("git", "clone", "--quiet", "--no-checkout", _ROOT, folder)
    run("git", "-C", folder, "checkout", "--quiet", "--detach", commit)
    run(sys.executable, "-m", "venv", folder / ".venv")
    pip = (folder / ".venv" / "bin" / "python", "-m", "pip", "--quiet", "install")
    run(*pip, "--editable", f"{folder}[agent,server,dev]")
    return run("git", "-C", folder, "log", "-1", "--format=%h %s")


def _command(root: Path, messages: int) -> list[str | Path]:
    python = root / ".venv" / "bin" / "python"
    sizes = ["--messages", str(messages), "--packed-messages", str(messages // 25)]
    return [python, "-m", "bench.ingest", "--rounds", "1", *sizes]


def _measure(root: Path, messages: int) -> Samples:
    """One round of the commit that lies at `root`, by its own bench."""
    done = subprocess.run(_command(root, messages), cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench/ingest of {root} failed:\n{done.stderr}")
    found: Samples = json.loads((root / _RESULTS).read_text())["samples"]
    return {name: found[name] for name in _MODES.values()}


def _told(samples: dict[str, Samples]) -> str:
    lines = [f"{'':8s} {'CPU-s before':>12s} {'now':>8s}   now to before: min, median, max"]
    for mode, name in _MODES.items():
        before, now = ([one["cpu_s"] for one in samples[side][name]] for side in ("before", "now"))
        ratios = [two / one for one, two in zip(before, now, strict=True)]
        lines.append(
            f"{mode:8s} {statistics.median(before):12.2f} {statistics.median(now):8.2f}   "
            f"{min(ratios):.2f}, {statistics.median(ratios):.2f}, {max(ratios):.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
