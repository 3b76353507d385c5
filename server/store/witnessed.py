"""What the centre itself saw of the sites' addresses. Its own writer: ``pantau witness``."""

from __future__ import annotations

import math
from collections.abc import Iterable

from server.model import Witnessed
from server.store.sqlite import Database


class Witness(Database):
    """See `server.store.Store`. A span that goes on is stored with no end; when the witness
    last looked stands in ``meta``, so that a round in which nothing changed writes one row."""

    def witness_at(self) -> float | None:
        row = self._one("SELECT value FROM meta WHERE key = 'witness_at'")
        return None if row is None else float(str(row[0]))

    def set_witness_at(self, now: float) -> None:
        self._run("INSERT OR REPLACE INTO meta (key, value) VALUES ('witness_at', ?)", [now])

    def put_witnessed(self, rows: Iterable[Witnessed]) -> None:
        self._many(
            "INSERT OR REPLACE INTO witnessed (site, from_at, to_at, answered) VALUES (?,?,?,?)",
            [(row.site, row.from_at, row.to_at, int(row.answered)) for row in rows],
        )

    def end_witnessed(self, at: float) -> None:
        self._run("UPDATE witnessed SET to_at = max(from_at, ?) WHERE to_at = ?", [at, math.inf])

    def witnessed(self, site: str, from_at: float, to_at: float) -> list[Witnessed]:
        looked_at = self.witness_at() or 0.0
        rows = self._each(
            "SELECT max(from_at, ?), min(to_at, ?, ?), answered FROM witnessed"
            " WHERE site = ? AND from_at < ? AND to_at > ? ORDER BY from_at",
            [from_at, to_at, looked_at, site, to_at, from_at],
        )
        return [Witnessed(site, row[0], row[1], bool(row[2])) for row in rows if row[0] < row[1]]
