"""A copy of the database while others write to it, and a database taken out of use.

SQLite's backup begins anew whenever another process writes between two of its steps. So
the copy is read within one transaction: it is the database of that moment, however long
it takes; writers go on, and their log (the ``-wal`` file) grows until it ends.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from server.store import StoreError

_STEP_PAGES = 256
_PAUSE_S = 0.002
"""Between two steps (4 MiB of our pages): leaves the disk to the commits of ingest."""
_SIDE_FILES = ("-wal", "-shm", "-journal")


class Copied(NamedTuple):
    """What was copied."""

    schema: int
    at: float
    """The moment whose state it is, in seconds since 1970."""


def newest_schema() -> int:
    """The schema that this version of Pantau knows."""
    return sum(1 for _ in (resources.files("server.store") / "schema").iterdir())


def copy(source: Path, target: Path, between: Callable[[], None] = lambda: None) -> Copied:
    """Copy a database in use to a new file, and look through the copy.

    Args:
        source: the database; nothing of it is changed.
        target: a file that is not there; on an error it may be left half written.
        between: called after each step.

    Raises:
        StoreError: there is no database, it cannot be read or the copy not be written,
            or it is damaged.
    """
    if not source.is_file():
        raise StoreError(f"no database at {source}; nothing to back up")

    def step(*_: object) -> None:
        time.sleep(_PAUSE_S)
        between()

    try:
        with (
            closing(sqlite3.connect(source, isolation_level=None)) as old,
            closing(sqlite3.connect(target, isolation_level=None)) as new,
        ):
            old.execute("BEGIN")
            (schema,) = old.execute("PRAGMA user_version").fetchone()
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the transaction reads
            at = time.time()
            old.backup(new, pages=_STEP_PAGES, progress=step)
            old.execute("ROLLBACK")
            new.execute("PRAGMA journal_mode=DELETE")  # one file, complete in itself
            (verdict,) = new.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as err:
        raise StoreError(f"backup of {source}: {err}") from None
    if verdict != "ok":
        raise StoreError(
            f"database {source} is damaged: {verdict}; restore an older backup: 'pantau restore'"
        )
    return Copied(schema, at)


@contextmanager
def out_of_use(database: Path) -> Iterator[bool]:
    """Keep everybody out of a database; gives whether anything is stored in it.

    One that SQLite cannot read counts as holding something, and nobody is in it.

    Raises:
        StoreError: somebody has it open.
    """
    if not database.exists():
        yield False
        return
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as old:
        try:
            old.execute("PRAGMA journal_mode=DELETE")  # fails while anyone else has it open
            old.execute("BEGIN EXCLUSIVE")
            holds = _holds(old)
        except sqlite3.Error as err:
            if err.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError(
                    f"database {database} is in use;"
                    " stop pantau-ingest and pantau-witness first, and whoever else reads it"
                ) from None
            holds = True
        yield holds
        with suppress(sqlite3.Error):
            old.execute("ROLLBACK")


def _holds(db: sqlite3.Connection) -> bool:
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    return any(
        db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608  # a constant
        for table in tables & {"sites", "messages"}
    )


def move_aside(database: Path, mark: str) -> Path | None:
    """Rename a database, with whatever belongs to it; gives its new name, None if it was not."""
    aside = database.with_name(database.name + mark)
    for end in _SIDE_FILES:
        left = Path(f"{database}{end}")
        if left.exists():
            left.rename(f"{aside}{end}")
    if not database.exists():
        return None
    return database.rename(aside)
