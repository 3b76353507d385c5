"""Was every reading stored, and nothing else? Plain SQL against what was published.

Nothing of Pantau is imported here: a judge shares no code with the judged. It
reads the tables `streams`, `readings`, `messages` and `quarantine` of the SQLite store.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Name = tuple[str, str, int]
"""Site, stream and seq of one reading."""


def verdict(database: Path, published: Iterable[Name]) -> str:
    """Empty when exactly the readings `published` are stored, else what is wrong."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        stored = Counter(
            db.execute(
                "SELECT site, stream, seq FROM readings JOIN streams ON streams.id = stream_id"
            )
        )
        misplaced = set(_misplaced(db))
        (quarantined,) = db.execute("SELECT count(*) FROM quarantine").fetchone()
    expected = set(published)
    faults = {
        "missing": expected - stored.keys(),
        "never published": stored.keys() - expected,
        "not what their message says": misplaced,
        "stored twice": {name for name, count in stored.items() if count > 1},
    }
    parts = [
        f"{len(names)} {what}, such as {min(names)}" for what, names in faults.items() if names
    ]
    if quarantined:
        parts.append(f"{quarantined} quarantined")
    return "; ".join(parts)


def _misplaced(db: sqlite3.Connection) -> Iterator[Name]:
    """Readings whose message does not hold them where it should."""
    kept: tuple[int, dict[str, Any]] = (0, {})
    for site, stream, seq, number, place, payload in db.execute(
        "SELECT site, stream, seq, message, place, payload FROM readings"
        " JOIN streams ON streams.id = stream_id JOIN messages ON messages.id = message"
        " ORDER BY message"
    ):
        if kept[0] != number:
            text = zlib.decompress(payload) if payload[:1] == b"\x78" else payload
            kept = number, json.loads(text)
        said = kept[1]
        if (said["site"], said["stream"], said["readings"][place]["seq"]) != (site, stream, seq):
            yield site, stream, seq


def sabotage(database: Path) -> None:
    """Delete seven readings: proves that `verdict` would see a loss."""
    with sqlite3.connect(database) as db:
        db.execute("DELETE FROM readings WHERE id % 1000 = 7 AND id < 7000")
