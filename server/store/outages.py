"""The outages of all sites at once, from an index that holds all that is asked of them."""

from __future__ import annotations

from collections.abc import Iterator

from server.store.sqlite import Database
from server.store.types import OutageRow

_OUTAGES = (
    "SELECT site, opened_at, resolved_at,"
    " CASE WHEN verdict = 'unknown' OR (resolved_at IS NULL AND verdict <> 'agent') THEN"
    " coalesce((SELECT groups.verdict FROM incidents AS groups"
    " WHERE groups.id = incidents.covered AND groups.kind = 'group_outage'), 'unknown')"
    " ELSE verdict END"
    " FROM incidents WHERE kind = 'site_offline'"
    " AND opened_at < ?2 AND (resolved_at IS NULL OR resolved_at > ?1)"
    " ORDER BY site, opened_at"
)


class Outages(Database):
    """See `server.store.Store`."""

    def outages(self, from_at: float, to_at: float) -> Iterator[OutageRow]:
        return (OutageRow(*row) for row in self._each(_OUTAGES, [from_at, to_at]))
