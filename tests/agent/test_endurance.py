"""A site left alone: 30 days in one spool, and a writer that is killed hundreds of times."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.config import load
from agent.spool import Spool
from bench.typical import BOOT, Typical
from tests.agent.spool_helper import texts
from tests.lab.net import child_environment

_DAYS = 30
_READINGS_A_DAY = 1440
_KILLS = 220
_ROOM_BYTES = 4 << 30
"""More than the writers can fill in their time: a spool that is full drops what is oldest."""


def test_thirty_days_of_a_typical_sites_readings_fit_the_default_spool(tmp_path: Path) -> None:
    """A thirtieth of the room holds a day: the share lost to segments is larger, not smaller."""
    file = tmp_path / "agent.toml"
    file.write_text('site = "bitung-0123"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n')
    room = load(file).spool.max_mb * 1024 * 1024
    spool = Spool(tmp_path / "spool", room // _DAYS, boot=BOOT)
    typical = Typical()

    for _ in range(_READINGS_A_DAY):
        spool.append(typical)

    assert (spool.dropped, spool.unreleased) == (0, _READINGS_A_DAY)
    spool.close()


# Tells a pipe what it is about to store, and then that it has: a judge of its own.
_WRITER = """
import hashlib, random, sys
from pathlib import Path
from agent.spool import Spool
from bench.typical import Typical

rng = random.Random(int(sys.argv[3]))
typical = Typical(int(sys.argv[3]))
spool = Spool(Path(sys.argv[1]), int(sys.argv[4]), boot=sys.argv[2], segment_bytes=1 << 15)
made = {}
def make(seq):
    data = typical(seq)
    made["digest"] = hashlib.sha256(data).hexdigest()
    return data
while True:
    seq = spool.append(make)
    stream, _ = spool.newest
    print("stored", stream, seq, made["digest"], flush=True)
    if rng.random() < 0.1:
        spool.release(stream, rng.randint(1, seq))
        spool.save()
"""


class _Told(NamedTuple):
    """What one writer told before it was killed."""

    stored: dict[tuple[str, int], str]
    problems: str


@pytest.mark.slow
def test_hundreds_of_kills_at_any_moment_lose_nothing_and_reuse_no_name(tmp_path: Path) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    rng = random.Random(seed)  # noqa: S311  # when to kill is no secret
    stored: dict[tuple[str, int], str] = {}
    killed_at_work, boot = 0, 0
    for kill in range(_KILLS):
        boot += rng.random() < 0.3  # else the same kernel goes on
        told = _write_and_kill(tmp_path / "spool", boot, kill, rng)
        assert not told.problems
        for name, digest in told.stored.items():
            assert stored.setdefault(name, digest) == digest, f"{name} stands for two readings"
        killed_at_work += bool(told.stored)

    held = {
        name: hashlib.sha256(data).hexdigest() for name, data in texts(tmp_path / "spool").items()
    }
    lost = {name for name, digest in stored.items() if held.get(name) != digest}
    assert not lost, f"{len(lost)} of {len(stored)} lost or changed, such as {min(lost)}"
    assert len(held) <= len(stored) + _KILLS, "only the last of each writer may be held untold"
    assert killed_at_work > _KILLS / 4, "most were killed before they wrote: this shows little"
    assert len({stream for stream, _ in held}) <= boot + 1, "a kill -9 alone tore a stream"


def _write_and_kill(path: Path, boot: int, seed: int, rng: random.Random) -> _Told:
    """Let a writer run for a random time, from its first instruction on, and hear it out."""
    command = [sys.executable, "-c", _WRITER, str(path)]
    command += [f"{boot:08d}-0000-4000-8000-000000000000", str(seed), str(_ROOM_BYTES)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
    ) as writer:
        assert writer.stdout is not None
        if rng.random() < 0.7:  # else it may be killed while it opens the spool
            select.select([writer.stdout], [], [], 30)
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(rng.uniform(0, 0.25))
        os.kill(writer.pid, signal.SIGKILL)
        out, err = writer.communicate()
    lines = [line.split() for line in out.splitlines(keepends=True) if line.endswith("\n")]
    stored = {(stream, int(seq)): digest for _, stream, seq, digest in lines}
    return _Told(stored, err if "Traceback" in err else "")
