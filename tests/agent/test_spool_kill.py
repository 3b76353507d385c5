"""A real writer, killed again and again; judged by what it told a pipe it had stored."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.spool_helper import texts

_KILLS = 25

_WRITER = """
import hashlib, itertools, os, sys
from pathlib import Path
from agent.spool import Spool

spool = Spool(Path(sys.argv[1]), 64 * 65536, boot=sys.argv[2], segment_bytes=65536)
made = {}
def make(seq):
    # told before it is stored: whatever happens next, this name may stand for nothing else
    data = b'{"seq":%d,"by":%d,"pad":"%s"}' % (seq, os.getpid(), b"x" * (seq * 37 % 1500))
    made["digest"] = hashlib.sha256(data).hexdigest()
    return data
for i in itertools.count():
    seq = spool.append(make)
    print("stored", spool.newest[0], seq, made["digest"], flush=True)
"""


@pytest.mark.parametrize("reboots", [False, True])
def test_kill_9_at_any_moment_loses_nothing_stored_and_reuses_no_name(
    tmp_path: Path, reboots: bool
) -> None:
    stored: dict[tuple[str, int], str] = {}
    for kill in range(_KILLS):
        boot = f"{kill if reboots else 0:08d}-0000-4000-8000-000000000000"
        for stream, seq, digest in _write_and_kill(tmp_path, boot, lines=3 + kill % 11):
            assert stored.setdefault((stream, seq), digest) == digest

    held = {name: hashlib.sha256(data).hexdigest() for name, data in texts(tmp_path).items()}

    assert {name: held.get(name) for name in stored} == stored
    # a reading that was stored just before the kill may be held untold, one for each kill
    assert len(held) <= len(stored) + _KILLS
    assert len({stream for stream, _ in held}) == (_KILLS if reboots else len(_streams(stored)))


def _streams(names: dict[tuple[str, int], str]) -> set[str]:
    return {stream for stream, _ in names}


def _write_and_kill(path: Path, boot: str, lines: int) -> list[tuple[str, int, str]]:
    """Let a writer run until it told `lines` readings, kill it, and hear it out."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), boot], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        told += writer.stdout.readlines()
    whole = [line.split() for line in told if line.endswith("\n")]
    return [(stream, int(seq), digest) for _, stream, seq, digest in whole]
