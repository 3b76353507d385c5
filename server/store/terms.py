"""What the registry's commands write: sites, contracts, maintenance and rules, with dates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, replace
from typing import Any

import msgspec

from server import terms
from server.model import Contract, Maintenance, Site, SiteTerm
from server.store import ContractVersion, RulesVersion
from server.store.sqlite import Database

_SITE_COLUMNS = (
    "id, name, district, isp, contract, latitude, longitude,"
    " timezone, backhaul, power_area, retired, address, access_points"
)

_json = msgspec.json.Encoder()
_names = msgspec.json.Decoder(tuple[str, ...])
_site = msgspec.json.Decoder(Site)
_contracts = msgspec.json.Decoder(tuple[Contract, ...])
_maintenance = msgspec.json.Decoder(Maintenance)


class Terms(Database):
    """See `server.store.Store` for what each method does."""

    def sites(self) -> dict[str, Site]:
        rows = self._each(f"SELECT {_SITE_COLUMNS} FROM sites ORDER BY id")  # noqa: S608  # a constant
        return {row[0]: _from_row(*row) for row in rows}

    def registry_version(self) -> int:
        row = self._one("SELECT value FROM meta WHERE key = 'registry_version'")
        return int(str(row[0])) if row else 0

    def _changed(self) -> None:
        self._run("UPDATE meta SET value = value + 1 WHERE key = 'registry_version'")

    def terms(self, site: str) -> tuple[SiteTerm, ...]:
        rows = self._each(
            "SELECT body, valid_from, valid_to FROM site_terms WHERE site = ? ORDER BY valid_from",
            [site],
        )
        return tuple(SiteTerm(_site.decode(body), *dates) for body, *dates in rows)

    def terms_all(self) -> dict[str, tuple[SiteTerm, ...]]:
        found: dict[str, list[SiteTerm]] = {}
        for site, body, *dates in self._each(
            "SELECT site, body, valid_from, valid_to FROM site_terms ORDER BY site, valid_from"
        ):
            found.setdefault(site, []).append(SiteTerm(_site.decode(body), *dates))
        return {site: tuple(those) for site, those in found.items()}

    def put_terms(self, site: str, of_site: Iterable[SiteTerm]) -> None:
        self._run("DELETE FROM site_terms WHERE site = ?", [site])
        self._many(
            "INSERT INTO site_terms (site, valid_from, valid_to, body) VALUES (?,?,?,?)",
            [(site, one.valid_from, one.valid_to, _json.encode(one.site)) for one in of_site],
        )
        self._changed()

    def promote(self, now: float) -> None:
        known, changed = self.sites(), []
        for site, those in self.terms_all().items():
            row, term = known.get(site), terms.in_force(those, now)
            current = term.site if term else row and replace(row, retired=True)
            if current is not None and current != row:
                changed.append(current)
        if changed:
            self._put_rows(changed)
            self._changed()

    def _put_rows(self, sites: Iterable[Site]) -> None:
        self._many(
            f"INSERT OR REPLACE INTO sites ({_SITE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608  # a constant
            [(*astuple(site)[:-1], _json.encode(site.access_points).decode()) for site in sites],
        )

    def next_change_at(self, now: float) -> float | None:
        row = self._one(
            "SELECT min(at) FROM (SELECT valid_from AS at FROM site_terms UNION ALL"
            " SELECT valid_to FROM site_terms UNION ALL SELECT from_at FROM maintenances"
            " UNION ALL SELECT to_at FROM maintenances) WHERE at > ?",
            [now],
        )
        dates = [] if row is None or row[0] is None else [float(row[0])]
        for those in self.contracts().values():
            for one in those:
                dates += [at for at in (one.valid_from, one.valid_to) if at and at > now]
        return min(dates, default=None)

    def contracts(self) -> dict[str, tuple[Contract, ...]]:
        rows = self._each("SELECT id, body FROM contracts ORDER BY id, version")
        return {name: _contracts.decode(body) for name, body in rows}  # the newest wins

    def contract_versions(self, contract: str) -> list[ContractVersion]:
        rows = self._each(
            "SELECT version, at, body FROM contracts WHERE id = ? ORDER BY version", [contract]
        )
        return [ContractVersion(number, at, _contracts.decode(body)) for number, at, body in rows]

    def put_contract(self, contract: str, of_contract: Iterable[Contract], at: float) -> int:
        row = self._one("SELECT max(version) FROM contracts WHERE id = ?", [contract])
        version = 1 + ((row and row[0]) or 0)
        body = _json.encode([replace(one, version=version) for one in of_contract])
        self._run(
            "INSERT INTO contracts (id, version, at, body) VALUES (?,?,?,?)",
            [contract, version, at, body],
        )
        self._changed()
        return version

    def maintenances(self) -> list[Maintenance]:
        rows = self._each("SELECT body FROM maintenances ORDER BY from_at, id")
        return [_maintenance.decode(row[0]) for row in rows]

    def put_maintenance(self, maintenance: Maintenance) -> None:
        self._run(
            "INSERT OR REPLACE INTO maintenances (id, from_at, to_at, body) VALUES (?,?,?,?)",
            [maintenance.id, maintenance.from_at, maintenance.to_at, _json.encode(maintenance)],
        )
        self._changed()

    def rules_text(self) -> str:
        row = self._one("SELECT text FROM rules ORDER BY version DESC LIMIT 1")
        return str(row[0]) if row else ""

    def rules_versions(self) -> list[RulesVersion]:
        rows = self._each("SELECT version, at, text FROM rules ORDER BY version")
        return [RulesVersion(*row) for row in rows]

    def put_rules(self, text: str, at: float) -> int:
        version = self._run("INSERT INTO rules (at, text) VALUES (?,?)", [at, text]).lastrowid or 0
        self._changed()
        return version


def _from_row(*row: Any) -> Site:
    site = Site(*row)
    return replace(site, retired=bool(site.retired), access_points=_names.decode(row[-1]))
