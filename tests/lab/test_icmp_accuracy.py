"""Round-trip times and loss, judged by fping on the same link and by the link's own record."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from agent.window import percentile
from tests.lab.net import Namespace, SoftLink, child_environment
from tests.wait import until

COUNT = 1000
EVERY_S = 0.025
LOSS_RATIO = 0.05
EACH_WAY = 1 - math.sqrt(1 - LOSS_RATIO)
FAR = "10.0.0.2"


def fping(stderr: str) -> list[float | None]:
    """The round-trip times that ``fping -C`` prints, None where lost."""
    line = next(line for line in stderr.splitlines() if line.startswith(FAR))
    return [None if word == "-" else float(word) for word in line.split(":")[1].split()]


def median(rtt_ms: list[float | None]) -> float:
    return percentile(sorted(rtt for rtt in rtt_ms if rtt is not None), 0.5)


def assert_loss_is_likely(lost: int, sent: int) -> None:
    """Within 4.5 standard deviations of the true loss: fails once in 150,000 runs."""
    spread = math.sqrt(sent * LOSS_RATIO * (1 - LOSS_RATIO))
    assert abs(lost - sent * LOSS_RATIO) <= 4.5 * spread, f"{lost} of {sent} lost"


@pytest.mark.needs_root
def test_round_trips_and_loss_agree_with_fping_and_with_what_the_link_dropped() -> None:
    with (
        Namespace() as near,
        Namespace() as far,
        SoftLink(near, "10.0.0.1/24", far, f"{FAR}/24") as link,
    ):
        near.run("ping", "-c", "1", "-W", "5", FAR)  # has the address resolved
        link.set(delay_ms=20, jitter_ms=2.5, loss_ratio=EACH_WAY, seed=1)
        link.counts()
        given = {"targets": {"world": [FAR]}, "window_s": 3600.0, "interval_s": EVERY_S}
        prober = near.popen(
            sys.executable, "-m", "tests.lab.prober", json.dumps(given),
            stdout=subprocess.PIPE, env=child_environment(),
        )  # fmt: skip
        early = 0

        def begun() -> int:
            nonlocal early
            there, back = link.counts()
            early += there.dropped + back.dropped
            return there.passed

        with prober:
            until(begun, 60, "the prober's first echo")
            other = subprocess.run(
                near.within("fping", "-q", "-C", str(COUNT), "-p", f"{EVERY_S * 1000:.0f}",
                            "-t", "10000", FAR),
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            prober.terminate()
            lines = [json.loads(line) for line in prober.communicate(timeout=60)[0].splitlines()]
        there, back = link.counts()

    theirs = fping(other.stderr)
    ours = lines[0]["rtt_ms"][FAR]
    seen = lines[0]["ping"]["world"]
    assert (len(theirs), seen["sent"]) == (COUNT, len(ours))
    assert seen["sent"] >= 0.9 * COUNT
    assert seen["rtt_p50_ms"] == pytest.approx(median(theirs), abs=0.5)
    assert seen["rtt_p50_ms"] == pytest.approx(40.0, abs=1.0)
    assert seen["rtt_min_ms"] >= 35.0
    assert_loss_is_likely(theirs.count(None), COUNT)
    assert_loss_is_likely(ours.count(None), seen["sent"])
    assert seen["received"] == seen["sent"] - ours.count(None)
    assert ours.count(None) + theirs.count(None) == early + there.dropped + back.dropped
