"""What is asked of all sites at once, and no more than that takes: it is asked for often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from server.model import UNREGISTERED, Status, unregistered
from server.store import Standing
from server.store.sqlite import Database


class _Verdict(msgspec.Struct):
    """The part of a site's health that is shown; decoding all of it takes five times as long."""

    status: Status = Status.UNKNOWN
    since: float = 0.0
    reasons: tuple[str, ...] = ()
    flapping_since: float = 0.0


_UNHEARD = _Verdict()
_verdict = msgspec.json.Decoder(_Verdict)


class Glance(Database):
    """See `server.store.Store`."""

    def standing(self) -> Iterator[Standing]:
        zone = unregistered("").timezone
        for site, name, district, isp, own_zone, state in self._each(
            "SELECT id, name, sites.district, sites.isp, timezone, state FROM sites"
            " LEFT JOIN health ON health.site = id WHERE NOT retired ORDER BY id"
        ):
            one = _UNHEARD if state is None else _verdict.decode(state)
            flaps = one.flapping_since > 0
            yield Standing(
                *(site, name, district, isp, own_zone, True),
                *(one.status, one.since, one.reasons, flaps),
            )
        for site, state in self._each(
            "SELECT site, state FROM health LEFT JOIN sites ON sites.id = site"
            " WHERE id IS NULL OR retired ORDER BY site"
        ):
            one = _verdict.decode(state)
            flaps = one.flapping_since > 0
            yield Standing(
                *(site, site, UNREGISTERED, UNREGISTERED, zone, False),
                *(one.status, one.since, one.reasons, flaps),
            )

    def newest_streams(self, seen: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
        row = self._one("SELECT min(site) FROM streams")
        while row is not None and row[0] is not None:  # from site to site, past their streams
            site: str = row[0]
            of_site = "SELECT site, stream, through FROM streams WHERE site = ? "
            if site in seen:
                yield from self._each(of_site + "AND stream = ?", [site, seen[site]])
            else:  # the index is by site; by id it would be a search through all
                yield from self._each(of_site + "ORDER BY +id DESC LIMIT 1", [site])
            row = self._one("SELECT min(site) FROM streams WHERE site > ?", [site])
