"""The spans of `server.timeline` on SQLite: those stored, and the one that still grows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from server import timeline
from server.store.sqlite import Database
from server.timeline import Run, Span

_TOUCHING = (
    " AND spans.from_at >= coalesce((SELECT max(from_at) FROM spans AS first"
    " WHERE first.site = ?3 AND first.from_at <= ?1), ?1)"
    " AND spans.from_at < ?2 AND spans.to_at > ?1"
)
"""The rows between two times: they do not overlap, so that at most one begins before."""
_ROWS = f"SELECT from_at, to_at, code FROM spans WHERE site = ?3{_TOUCHING} ORDER BY from_at"  # noqa: S608  # a constant
_SITES = "SELECT DISTINCT site FROM streams ORDER BY site"


class Spans(Database):
    """See `server.store.Store` for what each method does."""

    def spans(self, site: str, from_at: float, to_at: float) -> list[Span]:
        row = self._one("SELECT up_from, up_to FROM health WHERE site = ?", [site])
        run = None if row is None or row[0] is None else (row[0], row[1])
        found = timeline.with_run(self._rows(site, from_at, to_at), run)
        return timeline.clipped(found, from_at, to_at)

    def all_spans(self, from_at: float, to_at: float) -> Iterator[tuple[str, list[Span]]]:
        runs: dict[str, Run] = {
            site: (up_from, up_to)
            for site, up_from, up_to in self._each(
                "SELECT site, up_from, up_to FROM health WHERE up_from < ? AND up_to > ?",
                [to_at, from_at],
            )
        }
        for (site,) in list(self._each(_SITES)):
            found = timeline.with_run(self._rows(site, from_at, to_at), runs.get(site))
            yield site, timeline.clipped(found, from_at, to_at)

    def paint(self, site: str, new: Sequence[Span]) -> None:
        lo = min(span.from_at for span in new)
        hi = max(span.to_at for span in new)
        before = self._rows(site, lo - 1.0, hi + 1.0)
        after = timeline.paint(before, new)
        if after != before:
            self._replace(site, before, after)

    def repaint(self, site: str, from_at: float, to_at: float, new: Iterable[Span]) -> None:
        before = self._rows(site, from_at - 1.0, to_at + 1.0)
        beside = [
            *timeline.clipped(before, from_at - 1e12, from_at),
            *timeline.clipped(before, to_at, to_at + 1e12),
        ]
        self._replace(site, before, timeline.paint(beside, timeline.clipped(new, from_at, to_at)))

    def _rows(self, site: str, from_at: float, to_at: float) -> list[Span]:
        rows = self._each(_ROWS, [from_at, to_at, site])
        return [Span(*row) for row in rows]

    def _replace(self, site: str, before: list[Span], after: list[Span]) -> None:
        kept = set(after)
        self._many(
            "DELETE FROM spans WHERE site = ? AND from_at = ?",
            [(site, span.from_at) for span in before if span not in kept],
        )
        known = set(before)
        self._many(
            "INSERT INTO spans (site, from_at, to_at, code) VALUES (?,?,?,?)",
            [(site, *span) for span in after if span not in known],
        )
