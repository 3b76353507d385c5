"""Was every reading stored, and nothing else? Plain SQL against what was published.

Nothing of Pantau is imported here: a judge shares no code with the judged. It
reads the tables `streams`, `readings` and `quarantine` of the SQLite store.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

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
        (quarantined,) = db.execute("SELECT count(*) FROM quarantine").fetchone()
    expected = set(published)
    faults = {
        "missing": expected - stored.keys(),
        "never published": stored.keys() - expected,
        "stored twice": {name for name, count in stored.items() if count > 1},
    }
    parts = [
        f"{len(names)} {what}, such as {min(names)}" for what, names in faults.items() if names
    ]
    if quarantined:
        parts.append(f"{quarantined} quarantined")
    return "; ".join(parts)


def sabotage(database: Path) -> None:
    """Delete seven readings: proves that `verdict` would see a loss."""
    with sqlite3.connect(database) as db:
        db.execute("DELETE FROM readings WHERE id % 1000 = 7 AND id < 7000")
