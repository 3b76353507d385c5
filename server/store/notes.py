"""What people said of incidents. Commands write it; ingest takes notice."""

from __future__ import annotations

import msgspec

from server.model import Incident, Note
from server.store.sqlite import Database

_ENOUGH = 2  # more than one is already too many

_json = msgspec.json.Encoder()
_note = msgspec.json.Decoder(Note)
_incident = msgspec.json.Decoder(Incident)


class Notes(Database):
    """See `server.store.Store`."""

    def find_incidents(self, prefix: str) -> list[Incident]:
        rows = self._each(
            "SELECT body FROM incidents WHERE id >= ? AND substr(id, 1, ?) = ? ORDER BY id LIMIT ?",
            [prefix, len(prefix), prefix, _ENOUGH],
        )
        return [_incident.decode(row[0]) for row in rows]

    def add_note(self, note: Note) -> None:
        self._run(
            "INSERT INTO notes (incident, at, who, kind, body) VALUES (?,?,?,?,?)",
            [note.incident, note.at, note.who, note.kind, _json.encode(note)],
        )

    def notes(self, incident: str) -> list[Note]:
        rows = self._each("SELECT body FROM notes WHERE incident = ? ORDER BY id", [incident])
        return [_note.decode(row[0]) for row in rows]

    def noted(self) -> tuple[int, list[str]]:
        (through,) = self._one("SELECT value FROM meta WHERE key = 'noted'") or (0,)
        rows = list(
            self._each("SELECT id, incident FROM notes WHERE id > ? ORDER BY id", [through])
        )
        return (rows[-1][0] if rows else through), list(dict.fromkeys(row[1] for row in rows))

    def set_noted(self, through: int) -> None:
        self._run("INSERT OR REPLACE INTO meta (key, value) VALUES ('noted', ?)", [through])
