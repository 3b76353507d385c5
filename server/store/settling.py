"""What has to be looked at again, and what that takes. Written by ingest alone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from server.model import Incident
from server.store.sqlite import Database
from server.store.types import Unsettled

_incident = msgspec.json.Decoder(Incident)


class Settling(Database):
    """See `server.store.Store` for what each method does."""

    def unsettle(self, site: str, from_at: float, to_at: float, at: float) -> None:
        self._run(
            "INSERT INTO unsettled (site, from_at, to_at, at) VALUES (?,?,?,?)"
            " ON CONFLICT (site) DO UPDATE SET from_at = min(from_at, excluded.from_at),"
            " to_at = max(to_at, excluded.to_at), at = excluded.at",
            [site, from_at, to_at, at],
        )

    def unsettled(self, from_at: float, to_at: float, most: int) -> list[Unsettled]:
        rows = self._each(
            "SELECT site, from_at, to_at FROM unsettled WHERE at NOT BETWEEN ? AND ?"
            " ORDER BY at LIMIT ?",
            [from_at, to_at, most],
        )
        return [Unsettled(*row) for row in rows]

    def settled(self, sites: Iterable[str]) -> None:
        self._many("DELETE FROM unsettled WHERE site = ?", [(site,) for site in sites])

    def ended(self, site: str, from_at: float, to_at: float) -> list[Incident]:
        rows = self._each(
            "SELECT body FROM incidents WHERE kind = 'site_offline' AND site = ?"
            " AND opened_at <= ? AND resolved_at >= ? ORDER BY opened_at",
            [site, to_at, from_at],
        )
        return [_incident.decode(row[0]) for row in rows]

    def went(self, from_at: float, to_at: float) -> set[str]:
        rows = self._each(
            "SELECT site FROM incidents WHERE kind = 'site_offline' AND opened_at BETWEEN ? AND ?",
            [from_at, to_at],
        )
        return {row[0] for row in rows}
