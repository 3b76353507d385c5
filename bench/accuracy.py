"""Is the agent's ping as exact as fping's? Both at once, in the same namespace, on one link.

    bench/accuracy [--echoes 600] [--every-ms 50]

The link relays two TAP devices in user space and is set to 1, 40 and 300 ms without loss,
then to 40 ms with 1, 5 and 20 %, then to 40 ms with jitter. Judged are: p50 within 0.15 ms
and p95 within 0.5 ms of fping's, the loss of each within 99.9 % of the binomial, and the
PDV's p95 against that of the jitter that was set (two ways, each uniform). Round trips are
judged without loss, by what fping prints for netdata: in nanoseconds, where its own list has
three digits, so whole milliseconds from 100 ms on. Raw samples are kept in
bench/results/accuracy.json. Needs root.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.window import percentile
from tests.lab.net import Namespace, SoftLink, child_environment

FAR = "10.0.0.2"
RESULTS = Path(__file__).parent / "results" / "accuracy.json"
P50_MS, P95_MS = 0.15, 0.5
_SIGMAS = 3.29  # 99.9 %, two-sided


@dataclass
class Case:
    """One setting of the link, and what the two saw; round trips, None where lost."""

    rtt_ms: float
    loss_ratio: float = 0.0
    jitter_ms: float = 0.0
    ours_ms: list[float | None] = field(default_factory=list)
    fping_ms: list[float | None] = field(default_factory=list)


CASES = [
    *(Case(rtt_ms) for rtt_ms in (1, 40, 300)),
    *(Case(40, loss_ratio=loss_ratio) for loss_ratio in (0.01, 0.05, 0.2)),
    *(Case(40, jitter_ms=jitter_ms) for jitter_ms in (2, 10)),
]


def measure(case: Case, near: Namespace, link: SoftLink, echoes: int, every_ms: int) -> None:
    """Fill in what both saw of the same link at the same time."""
    link.set()
    near.run("ping", "-c", "1", "-W", "5", FAR)  # has the address resolved
    link.set(
        delay_ms=case.rtt_ms / 2,
        jitter_ms=case.jitter_ms,
        loss_ratio=1 - math.sqrt(1 - case.loss_ratio),
        seed=1,
    )
    given = {"targets": {"world": [FAR]}, "window_s": 3600.0, "interval_s": every_ms / 1000}
    prober = near.popen(
        sys.executable, "-m", "tests.lab.prober", json.dumps(given),
        stdout=subprocess.PIPE, env=child_environment(),
    )  # fmt: skip
    with prober:
        case.fping_ms = (
            listed(near, echoes, every_ms)
            if case.loss_ratio or case.jitter_ms
            else exact(near, echoes, every_ms)
        )
        prober.terminate()
        window = json.loads(prober.communicate(timeout=60)[0].splitlines()[0])
    case.ours_ms = window["rtt_ms"][FAR]


def listed(near: Namespace, echoes: int, every_ms: int) -> list[float | None]:
    """What fping saw, echo by echo, to three digits; None where one was lost."""
    command = ("fping", "-q", "-C", str(echoes), "-p", str(every_ms), "-t", "2000", FAR)
    done = subprocess.run(
        near.within(*command), capture_output=True, text=True, timeout=600, check=False
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith(FAR))
    return [None if word == "-" else float(word) for word in line.split(":")[1].split()]


def exact(near: Namespace, echoes: int, every_ms: int) -> list[float | None]:
    """What fping saw to the nanosecond: where one reply came between two of its reports."""
    command = (
        *("timeout", "--signal=INT", str(echoes * every_ms / 1000)),
        *("fping", "-N", "-l", "-Q", str(every_ms / 1000), "-p", str(every_ms), "-t", "2000", FAR),
    )
    done = subprocess.run(
        near.within(*command), capture_output=True, text=True, timeout=600, check=False
    )
    single = re.findall(r"SET rcv = 1\nEND\n(?:.*\n)*?.*SET avg = (\d+)", done.stdout)
    return [int(found) / 1e6 for found in single]


def jitter_pdv_p95_ms(jitter_ms: float) -> float:
    """What the p95 of PDV is where each way is late by 0 to 2 `jitter_ms`, uniformly."""
    rng = random.Random(1)  # noqa: S311  # a Monte Carlo integral
    return percentile(
        sorted(
            rng.uniform(0, 2 * jitter_ms) + rng.uniform(0, 2 * jitter_ms) for _ in range(99_999)
        ),
        0.95,
    )


def verdict(case: Case) -> str:
    """One line: the differences, and what is outside its bound."""
    ours, theirs = (
        sorted(rtt for rtt in seen if rtt is not None) for seen in (case.ours_ms, case.fping_ms)
    )
    p50_ms, p95_ms = (percentile(ours, q) - percentile(theirs, q) for q in (0.5, 0.95))
    faults, words = (
        [],
        [f"{case.rtt_ms:g} ms, loss {case.loss_ratio:.0%}, jitter {case.jitter_ms:g} ms:"],
    )
    if case.jitter_ms == 0:
        words.append(f"p50 {p50_ms:+.3f} ms, p95 {p95_ms:+.3f} ms against fping's")
        words.append(f"{percentile(theirs, 0.5):.3f} and {percentile(theirs, 0.95):.3f};")
        faults += ["p50"] * (not case.loss_ratio and abs(p50_ms) > P50_MS)
        faults += ["p95"] * (not case.loss_ratio and abs(p95_ms) > P95_MS)
    else:
        seen_ms = percentile(ours, 0.95) - ours[0]
        set_ms = jitter_pdv_p95_ms(case.jitter_ms)
        words.append(f"PDV p95 {seen_ms:.2f} ms where the jitter set gives {set_ms:.2f};")
        # the least of a few hundred samples is a little above the link's least
        faults += ["PDV"] * (abs(seen_ms - set_ms) > 0.1 * set_ms + P95_MS)
    for name, seen in (("ours", case.ours_ms), ("fping", case.fping_ms)):
        lost, sent = seen.count(None), len(seen)
        spread = _SIGMAS * math.sqrt(sent * case.loss_ratio * (1 - case.loss_ratio))
        words.append(f"{name} lost {lost}/{sent}")
        faults += [f"loss of {name}"] * (abs(lost - sent * case.loss_ratio) > spread + 0.5)
    return " ".join(words) + (f"  OUTSIDE: {', '.join(faults)}" if faults else "  ok")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--echoes", type=int, default=600)
    parser.add_argument("--every-ms", type=int, default=50)
    given = parser.parse_args()
    with (
        Namespace() as near,
        Namespace() as far,
        SoftLink(near, "10.0.0.1/24", far, f"{FAR}/24") as link,
    ):
        for case in CASES:
            measure(case, near, link, given.echoes, given.every_ms)
            print(verdict(case), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(case) for case in CASES]))
    sys.exit(any("OUTSIDE" in verdict(case) for case in CASES))


if __name__ == "__main__":
    main()
