"""The readings, as they came: each in its message, found by its name or its time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.wire import raw_readings
from server.store.sqlite import Database
from server.store.types import FLAG_UNCERTAIN, NewReading, ReadingRow

_COLUMNS = "stream_id, seq, received_at, taken_at, flags, message, place"
_RECEIVED_AT, _TAKEN_AT = 2, 3  # of these
_MOST_STREAMS = 100
"""Further back no boot goes that is remembered; a device may have invented thousands."""


class Readings(Database):
    """See `server.store.Store` for what each method does."""

    def add_message(self, payload: bytes) -> int:
        return self._run("INSERT INTO messages (payload) VALUES (?)", [payload]).lastrowid or 0

    def add_readings(self, rows: list[NewReading]) -> None:
        self._many(
            f"INSERT OR IGNORE INTO readings ({_COLUMNS}) VALUES (?,?,?,?,?,?,?)",  # noqa: S608  # a constant
            rows,
        )

    def body(self, stream_id: int, seq: int) -> bytes | None:
        row = self._one(
            "SELECT payload, place FROM readings JOIN messages ON messages.id = message"
            " WHERE stream_id = ? AND seq = ?",
            [stream_id, seq],
        )
        return None if row is None else raw_readings(row[0])[row[1]]

    def seqs_above(self, stream_id: int, seq: int, most: int) -> list[int]:
        rows = self._each(
            "SELECT seq FROM readings WHERE stream_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            [stream_id, seq, most],
        )
        return [row[0] for row in rows]

    def count_readings(self, stream_id: int, low: int, high: int) -> int:
        (count,) = self._one(
            "SELECT count(*) FROM readings WHERE stream_id = ? AND seq BETWEEN ? AND ?",
            [stream_id, low, high],
        ) or (0,)
        return int(count)

    def readings(self, site: str, since: float = -math.inf) -> Iterator[tuple[str, ReadingRow]]:
        rows = self._each(
            f"SELECT stream, {_COLUMNS}"  # noqa: S608  # a constant
            " FROM streams JOIN readings ON readings.stream_id = streams.id"
            " WHERE site = ? AND taken_at > ? ORDER BY streams.id, seq",
            [site, since],
        )
        bodies = _Bodies(self)
        for stream, *row in rows:
            yield stream, bodies.row(*row)

    def told(self, site: str, from_at: float, to_at: float) -> Iterator[tuple[str, ReadingRow]]:
        bodies = _Bodies(self)
        before: tuple[str, Sequence[Any]] | None = None
        streams = "SELECT id, stream FROM streams WHERE site = ? ORDER BY id DESC"
        for number, stream in list(self._each(streams, [site])):
            rows = self._each(
                f"SELECT {_COLUMNS} FROM readings"  # noqa: S608  # a constant
                " WHERE stream_id = ? AND flags != ? ORDER BY seq DESC",
                [number, FLAG_UNCERTAIN],
            )
            for row in rows:
                taken_at = row[_TAKEN_AT]
                if taken_at <= from_at:
                    if before is None or taken_at > before[1][_TAKEN_AT]:
                        before = stream, row
                    break
                if taken_at <= to_at:
                    yield stream, bodies.row(*row)
        if before is not None:
            yield before[0], bodies.row(*before[1])

    def unsynced(self, site: str, since: float) -> Iterator[ReadingRow]:
        bodies = _Bodies(self)
        streams = "SELECT id FROM streams WHERE site = ? ORDER BY id DESC LIMIT ?"
        for (number,) in list(self._each(streams, [site, _MOST_STREAMS])):
            rows = self._each(
                f"SELECT {_COLUMNS} FROM readings"  # noqa: S608  # a constant
                " WHERE stream_id = ? AND flags != 0 ORDER BY id DESC",
                [number],
            )
            for row in rows:
                if row[_RECEIVED_AT] < since:
                    break
                yield bodies.row(*row)

    def payload(self, message: int) -> bytes:
        """A message as it came."""
        (payload,) = self._one("SELECT payload FROM messages WHERE id = ?", [message]) or (b"",)
        return bytes(payload)

    def put_times(self, rows: Iterable[ReadingRow]) -> None:
        self._many(
            "UPDATE readings SET taken_at = ?, flags = ? WHERE stream_id = ? AND seq = ?",
            [(row.taken_at, row.flags, row.stream_id, row.seq) for row in rows],
        )


class _Bodies:
    """Takes readings out of their messages; neighbours mostly share one."""

    def __init__(self, store: Readings) -> None:
        self._store = store
        self._message = 0
        self._readings: list[bytes] = []

    def row(
        self,
        stream_id: int,
        seq: int,
        received_at: float,
        taken_at: float,
        flags: int,
        message: int,
        place: int,
    ) -> ReadingRow:
        """The stored reading with its body."""
        if message != self._message:
            self._readings = raw_readings(self._store.payload(message))
            self._message = message
        return ReadingRow(stream_id, seq, received_at, taken_at, flags, self._readings[place])
