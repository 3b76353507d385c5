"""The embedded database: SQLite with WAL and ``synchronous=FULL``.

A commit is on disk before it returns. One connection, used by one thread at a
time. Whatever SQLite has to complain of comes out as one `StoreError`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from server.store import NoStoreError, PlaceError, StoreError

_BUSY_S = 10.0
_MEND = "be a user who may write there, as ingest is, or name another place"

Row = tuple[object, ...]


class Database:
    """A file with the schema of this version."""

    def __init__(self, path: str, *, create: bool = True) -> None:
        self._path = path
        self._refuse_missing(create)
        try:
            self._db = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA page_size=16384")  # of a new file; fewer, larger writes
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA cache_size=-65536")
        except sqlite3.Error as err:
            if create and err.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN:
                raise PlaceError(f"{path} cannot be made or opened; {_MEND}") from None
            raise self._error(err) from None
        self._migrate()

    def _refuse_missing(self, create: bool) -> None:
        path = Path(self._path)
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if not create:
                raise NoStoreError(
                    f"no database at {path}; 'pantau sites import' or 'pantau ingest' makes it"
                ) from None
            if not path.parent.is_dir():
                raise PlaceError(
                    f"there is no folder {path.parent}; make it, or name another"
                ) from None
        except OSError as err:
            if create:
                raise PlaceError(f"{path}: {err.strerror}; {_MEND}") from None
            raise StoreError(f"database {path}: {err.strerror}; {_MEND}") from None

    def _error(self, err: Exception) -> StoreError:
        return StoreError(f"database {self._path}: {err}")

    def _migrate(self) -> None:
        scripts = sorted(
            (entry for entry in (resources.files("server.store") / "schema").iterdir()),
            key=lambda entry: entry.name,
        )
        if self._version() == len(scripts):
            return
        with self.transaction():
            version = self._version()
            if version > len(scripts):
                raise StoreError(f"database {self._path} is of a newer Pantau; upgrade this one")
            for number, script in enumerate(scripts[version:], version + 1):
                for statement in _statements(script.read_text(encoding="utf-8")):
                    self._run(statement)
                self._run(f"PRAGMA user_version={number}")

    def _version(self) -> int:
        row = self._one("PRAGMA user_version")
        return int(str(row[0])) if row else 0

    def _run(self, sql: str, values: Iterable[object] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, tuple(values))
        except (sqlite3.Error, UnicodeEncodeError) as err:
            raise self._error(err) from None

    def _many(self, sql: str, rows: Iterable[Row]) -> None:
        try:
            self._db.executemany(sql, rows)
        except sqlite3.Error as err:
            raise self._error(err) from None

    def _one(self, sql: str, values: Iterable[object] = ()) -> Any | None:
        return next(self._each(sql, values), None)

    def _each(self, sql: str, values: Iterable[object] = ()) -> Iterator[Any]:
        """Row by row: SQLite may also fail between two rows."""
        rows = self._run(sql, values)
        try:
            yield from rows
        except sqlite3.Error as err:
            raise self._error(err) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._run("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self._run("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._run("ROLLBACK")

    def close(self) -> None:
        self._db.close()


def _statements(script: str) -> Iterator[str]:
    """The statements of a schema file, one by one: ``executescript`` would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
