"""What the tests of the spool share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from agent.spool import Spool, held

BOOT = "11111111-1111-4111-8111-111111111111"
NEXT_BOOT = "22222222-2222-4222-8222-222222222222"
SEGMENT = 4096


def open_spool(path: Path, *, boot: str = BOOT, segments: int = 16) -> Spool:
    """A spool of small segments, so that tests fill them."""
    return Spool(path, segments * SEGMENT, boot=boot, segment_bytes=SEGMENT)


def payload(text: str, size: int = 40) -> Callable[[int], bytes]:
    """A reading of about `size` bytes that says its seq and `text`."""
    return lambda seq: f'{{"seq":{seq},"text":"{text}"}}'.encode().ljust(size)


def append(spool: Spool, text: str, size: int = 40) -> tuple[str, int]:
    """Append one reading, and give its name."""
    seq = spool.append(payload(text, size))
    newest = spool.newest
    assert newest is not None
    assert newest[1] == seq
    return newest


def abandon(spool: Spool) -> None:
    """Leave a spool as a killed process does: nothing is written, the lock is gone."""
    spool._writer._leave()
    os.close(spool._folder)


def texts(path: Path) -> dict[tuple[str, int], bytes]:
    """Every reading on disk, by name."""
    found: dict[tuple[str, int], bytes] = {}
    for stream, seq, data in held(path):
        assert (stream, seq) not in found
        found[stream, seq] = data
    return found
