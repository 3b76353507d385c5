"""The store on SQLite: what is asked of it, and what is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from server.health import Health
from server.model import Incident
from server.seqset import SeqSet
from server.store import (
    Boots,
    HealthRow,
    Letter,
    Quarantined,
    StreamRow,
)
from server.store.glance import Glance
from server.store.notes import Notes
from server.store.outages import Outages
from server.store.readings import Readings
from server.store.settling import Settling
from server.store.spans import Spans
from server.store.terms import Terms
from server.store.witnessed import Witness

_HEAD_BYTES = 4096  # kept of a quarantined payload
_QUARANTINE_ROWS = 100_000  # the oldest go first: garbage must not fill the disk

_NO_RUN = (None, None)

_json = msgspec.json.Encoder()
_health = msgspec.json.Decoder(Health)
_incident = msgspec.json.Decoder(Incident)
_ranges = msgspec.json.Decoder(tuple[tuple[int, int], ...])


class SqliteStore(Glance, Notes, Outages, Readings, Settling, Spans, Terms, Witness):
    """See `server.store.Store` for what each method does."""

    def healths(self) -> list[HealthRow]:
        rows = self._each(
            "SELECT state, due_at, district, isp, up_from, up_to FROM health ORDER BY site"
        )
        return [
            HealthRow(_health.decode(state), due_at, district, isp, None if a is None else (a, b))
            for state, due_at, district, isp, a, b in rows
        ]

    def put_healths(self, rows: Iterable[HealthRow]) -> None:
        self._many(
            "INSERT OR REPLACE INTO health (site, due_at, state, district, isp, up_from, up_to)"
            " VALUES (?,?,?,?,?,?,?)",
            [
                (site.site, due_at, _json.encode(site), district, isp, *(run or _NO_RUN))
                for site, due_at, district, isp, run in rows
            ],
        )

    def drop_health(self, site: str) -> None:
        self._run("DELETE FROM health WHERE site = ?", [site])

    def due(self, now: float) -> list[str]:
        rows = self._each("SELECT site FROM health WHERE due_at <= ? ORDER BY due_at", [now])
        return [row[0] for row in rows]

    def stream(self, site: str, stream: str) -> StreamRow | None:
        rows = self._streams("WHERE site = ? AND stream = ?", [site, stream])
        return next(rows, None)

    def streams(self) -> Iterator[StreamRow]:
        return self._streams("ORDER BY id", [])

    def holed_streams(self) -> Iterator[StreamRow]:
        return self._streams("WHERE beyond != '[]' AND site IN (SELECT site FROM health)", [])

    def _streams(self, clause: str, values: list[object]) -> Iterator[StreamRow]:
        sql = "SELECT id, site, stream, through, beyond, known_to, lost FROM streams "
        rows = self._each(sql + clause, values)
        for number, site, stream, through, beyond, known_to, lost in rows:
            seqs = SeqSet(through, _ranges.decode(beyond), known_to)
            yield StreamRow(number, site, stream, seqs, lost)

    def add_stream(self, site: str, stream: str) -> StreamRow:
        cursor = self._run(
            "INSERT INTO streams (site, stream, through, beyond) VALUES (?, ?, 0, '[]')",
            [site, stream],
        )
        return StreamRow(cursor.lastrowid or 0, site, stream, SeqSet(), 0)

    def put_streams(self, rows: Iterable[StreamRow]) -> None:
        self._many(
            "UPDATE streams SET through = ?, beyond = ?, known_to = ?, lost = ? WHERE id = ?",
            [
                (
                    *(row.seqs.through, _json.encode(row.seqs.beyond).decode()),
                    *(row.seqs.known_to, row.lost, row.id),
                )
                for row in rows
            ],
        )

    def boots(self) -> dict[str, Boots]:
        found: dict[str, Boots] = {}
        for site, boot, began_at in self._each("SELECT * FROM boots ORDER BY rowid"):
            found[site] = (*found.get(site, ()), (boot, began_at))
        return found

    def put_boots(self, site: str, boots: Boots) -> None:
        self._run("DELETE FROM boots WHERE site = ?", [site])
        self._many("INSERT INTO boots VALUES (?,?,?)", [(site, *one) for one in boots])

    def put_incident(self, incident: Incident, at: float) -> None:
        body = _json.encode(incident)
        self._run(
            "INSERT OR REPLACE INTO incidents (id, site, kind, opened_at, resolved_at, body)"
            " VALUES (?,?,?,?,?,?)",
            [
                incident.id,
                incident.site,
                incident.kind,
                incident.opened_at,
                incident.resolved_at,
                body,
            ],
        )
        self._run(
            "INSERT INTO revisions (incident, revision, at, body) VALUES (?,?,?,?)",
            [incident.id, incident.revision, at, body],
        )

    def firing(self) -> list[Incident]:
        rows = self._each("SELECT body FROM incidents WHERE resolved_at IS NULL ORDER BY opened_at")
        return [_incident.decode(row[0]) for row in rows]

    def incident(self, identity: str) -> Incident | None:
        row = self._one("SELECT body FROM incidents WHERE id = ?", [identity])
        return None if row is None else _incident.decode(row[0])

    def covered(self, group: str) -> Iterator[Incident]:
        rows = self._each(
            "SELECT body FROM incidents WHERE covered = ? AND resolved_at IS NOT NULL", [group]
        )
        return (_incident.decode(row[0]) for row in rows)

    def incidents(self, since: float = 0.0) -> Iterator[Incident]:
        rows = self._each(
            "SELECT body FROM incidents WHERE resolved_at IS NULL OR resolved_at >= ?"
            " ORDER BY opened_at",
            [since],
        )
        for row in rows:
            yield _incident.decode(row[0])

    def revisions(self, incident: str) -> list[tuple[float, Incident]]:
        rows = self._each(
            "SELECT at, body FROM revisions WHERE incident = ? ORDER BY revision", [incident]
        )
        return [(row[0], _incident.decode(row[1])) for row in rows]

    def post(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        self._run(
            "INSERT INTO outbox (topic, payload, retain) VALUES (?,?,?)",
            [topic, payload, int(retain)],
        )

    def outbox(self, after: int) -> list[Letter]:
        rows = self._each(
            "SELECT id, topic, payload, retain FROM outbox WHERE id > ? ORDER BY id", [after]
        )
        return [Letter(number, topic, body, bool(retain)) for number, topic, body, retain in rows]

    def posted(self, ids: Iterable[int]) -> None:
        self._many("DELETE FROM outbox WHERE id = ?", [(number,) for number in ids])

    def clear_later(self, topic: str, at: float) -> None:
        self._run("INSERT OR REPLACE INTO clearing (topic, clear_at) VALUES (?,?)", [topic, at])

    def clear_due(self, now: float) -> list[str]:
        rows = self._each("SELECT topic FROM clearing WHERE clear_at <= ?", [now])
        return [row[0] for row in rows]

    def clears(self, topic: str) -> bool:
        return bool(list(self._each("SELECT 1 FROM clearing WHERE topic = ?", [topic])))

    def cleared(self, topic: str) -> None:
        self._run("DELETE FROM clearing WHERE topic = ?", [topic])

    def quarantine(self, at: float, topic: str, reason: str, payload: bytes) -> None:
        self._run(
            "INSERT INTO quarantine (at, topic, reason, bytes, head) VALUES (?,?,?,?,?)",
            [at, topic, reason, len(payload), payload[:_HEAD_BYTES]],
        )
        self._run(
            "DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?",
            [_QUARANTINE_ROWS],
        )

    def quarantined(self) -> Iterator[Quarantined]:
        rows = self._each("SELECT at, topic, reason, bytes, head FROM quarantine ORDER BY id")
        return (Quarantined(*row) for row in rows)

    def add_absence(self, from_at: float, to_at: float, reason: str) -> None:
        self._run(
            "INSERT INTO absences (from_at, to_at, reason) VALUES (?,?,?)", [from_at, to_at, reason]
        )

    def absences(self) -> list[tuple[float, float, str]]:
        rows = self._each("SELECT from_at, to_at, reason FROM absences ORDER BY from_at")
        return list(rows)

    def alive_at(self) -> float | None:
        row = self._one("SELECT value FROM meta WHERE key = 'alive_at'")
        return None if row is None else float(str(row[0]))

    def set_alive_at(self, now: float) -> None:
        self._run("INSERT OR REPLACE INTO meta (key, value) VALUES ('alive_at', ?)", [now])
