"""What ingest and the commands need from storage, and how to open one.

A store has one writer (ingest); commands read beside it, and the registry's
commands write in short transactions of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from server.model import Contract, Incident, Maintenance, Note, Site, SiteTerm, Witnessed
from server.store.types import (
    FLAG_CORRECTED,
    FLAG_UNCERTAIN,
    Boots,
    ContractVersion,
    HealthRow,
    Letter,
    NewReading,
    NoStoreError,
    OutageRow,
    PlaceError,
    Quarantined,
    ReadingRow,
    RulesVersion,
    Settling,
    Standing,
    StoreError,
    StreamRow,
    Streams,
    Unsettled,
)

__all__ = [
    "FLAG_CORRECTED",
    "FLAG_UNCERTAIN",
    "Boots",
    "ContractVersion",
    "HealthRow",
    "Letter",
    "NewReading",
    "NoStoreError",
    "OutageRow",
    "PlaceError",
    "Quarantined",
    "ReadingRow",
    "RulesVersion",
    "Standing",
    "Store",
    "StoreError",
    "StreamRow",
    "Unsettled",
    "open_store",
    "path_of",
]

from server.timeline import Span


class Store(Settling, Streams, Protocol):
    """Storage. Every method may raise `StoreError`; writes belong in a transaction."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, durable when it ends."""

    def snapshot(self) -> AbstractContextManager[None]:
        """All that is read within is of one moment, whatever others write meanwhile."""

    def close(self) -> None:
        """Give everything back."""

    def sites(self) -> dict[str, Site]:
        """The registry as `promote` left it; a site that is out of service is retired."""

    def registry_version(self) -> int:
        """Grows with each change of sites, contracts, maintenance or rules."""

    def terms(self, site: str) -> tuple[SiteTerm, ...]:
        """All that the registry says of a site, oldest first; see `server.terms`."""

    def terms_all(self) -> dict[str, tuple[SiteTerm, ...]]:
        """The same of every site."""

    def put_terms(self, site: str, of_site: Iterable[SiteTerm]) -> None:
        """Replace all terms of a site; `promote` brings them into `sites`."""

    def promote(self, now: float) -> None:
        """Make what is in force at `now` the registry: after `put_terms`, and as time goes."""

    def next_change_at(self, now: float) -> float | None:
        """When a term, a contract or a maintenance begins or ends next, after `now`."""

    def contracts(self) -> dict[str, tuple[Contract, ...]]:
        """The terms of each contract by its newest version, oldest first."""

    def contract_versions(self, contract: str) -> list[ContractVersion]:
        """Every version of a contract, oldest first."""

    def put_contract(self, contract: str, of_contract: Iterable[Contract], at: float) -> int:
        """The next version of a contract; gives its number."""

    def maintenances(self) -> list[Maintenance]:
        """All announced work, also what is over or cancelled, in order."""

    def put_maintenance(self, maintenance: Maintenance) -> None:
        """Add or replace."""

    def rules_text(self) -> str:
        """The rules that are in force, as TOML; empty where there are none."""

    def rules_versions(self) -> list[RulesVersion]:
        """Every version of the rules, oldest first."""

    def put_rules(self, text: str, at: float) -> int:
        """The next version of the rules; gives its number."""

    def healths(self) -> list[HealthRow]:
        """The health of every site that is registered or was heard from."""

    def put_healths(self, rows: Iterable[HealthRow]) -> None:
        """Add or replace."""

    def standing(self) -> Iterator[Standing]:
        """Every site in service or heard from, with its verdict."""

    def drop_health(self, site: str) -> None:
        """Forget a retired site's health."""

    def due(self, now: float) -> list[str]:
        """Sites whose due time has passed."""

    def add_message(self, payload: bytes) -> int:
        """Keep a message as it came, for the readings in it; gives its number."""

    def add_readings(self, rows: list[NewReading]) -> None:
        """Append readings whose names are new."""

    def body(self, stream_id: int, seq: int) -> bytes | None:
        """The reading of that name as it came, or None."""

    def readings(self, site: str, since: float = -math.inf) -> Iterator[tuple[str, ReadingRow]]:
        """Stored readings of a site with their streams, taken after `since`; by (stream, seq)."""

    def unsynced(self, site: str, since: float) -> Iterator[ReadingRow]:
        """Readings of a site without a synchronised clock: of each stream those that came last,
        back to the first that came before `since`."""

    def put_times(self, rows: Iterable[ReadingRow]) -> None:
        """Replace when readings were taken, and their flags."""

    def spans(self, site: str, from_at: float, to_at: float) -> list[Span]:
        """What the site's readings say of that time: in order, apart; see `server.timeline`."""

    def all_spans(self, from_at: float, to_at: float) -> Iterator[tuple[str, list[Span]]]:
        """The same of every site that was ever heard from, also those retired since."""

    def paint(self, site: str, new: Sequence[Span]) -> None:
        """Add what readings say, at least one part."""

    def repaint(self, site: str, from_at: float, to_at: float, new: Iterable[Span]) -> None:
        """Forget what was known of a time, and take the parts of it in `new` instead."""

    def boots(self) -> dict[str, Boots]:
        """When the last boots of each site began."""

    def put_boots(self, site: str, boots: Boots) -> None:
        """Replace those of one site."""

    def put_incident(self, incident: Incident, at: float) -> None:
        """A new incident, or the next revision of one."""

    def firing(self) -> list[Incident]:
        """Incidents that last."""

    def covered(self, group: str) -> Iterator[Incident]:
        """What has ended of the incidents that a group stands for."""

    def incidents(self, since: float = 0.0) -> Iterator[Incident]:
        """Incidents that lasted at or after `since`, oldest first."""

    def revisions(self, incident: str) -> list[tuple[float, Incident]]:
        """Every revision of an incident with its time."""

    def outages(self, from_at: float, to_at: float) -> Iterator[OutageRow]:
        """The times that sites were offline and that touch a period; by site, in order."""

    def incident(self, identity: str) -> Incident | None:
        """The newest revision of one incident, or None."""

    def find_incidents(self, prefix: str) -> list[Incident]:
        """Incidents whose id begins so: none, the one, or two that tell it is not unique."""

    def add_note(self, note: Note) -> None:
        """Keep what a person said."""

    def notes(self, incident: str) -> list[Note]:
        """What was said of an incident, oldest first."""

    def noted(self) -> tuple[int, list[str]]:
        """What ingest has not taken notice of: the last note, and the incidents meant."""

    def set_noted(self, through: int) -> None:
        """Ingest has taken notice of all notes up to this one."""

    def post(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish once the transaction has ended."""

    def outbox(self, after: int) -> list[Letter]:
        """Letters with an id above `after`, in order."""

    def posted(self, ids: Iterable[int]) -> None:
        """The broker has acknowledged these letters."""

    def clear_later(self, topic: str, at: float) -> None:
        """Clear a retained topic then."""

    def clear_due(self, now: float) -> list[str]:
        """Topics to clear now."""

    def clears(self, topic: str) -> bool:
        """Whether a topic is to be cleared, now or later: what ended stands there until then."""

    def cleared(self, topic: str) -> None:
        """The clearing of a topic is in the outbox."""

    def quarantine(self, at: float, topic: str, reason: str, payload: bytes) -> None:
        """Set a message aside with its reason."""

    def quarantined(self) -> Iterator[Quarantined]:
        """What was set aside, oldest first."""

    def add_absence(self, from_at: float, to_at: float, reason: str) -> None:
        """Record that we could not hear."""

    def absences(self) -> list[tuple[float, float, str]]:
        """From, to and reason of each, oldest first."""

    def alive_at(self) -> float | None:
        """When ingest last said that it lives."""

    def set_alive_at(self, now: float) -> None:
        """Ingest lives."""

    def witness_at(self) -> float | None:
        """When the witness last looked."""

    def set_witness_at(self, now: float) -> None:
        """The witness has looked."""

    def put_witnessed(self, rows: Iterable[Witnessed]) -> None:
        """Add or replace, by site and `from_at`; one that goes on has no end (infinity)."""

    def end_witnessed(self, at: float) -> None:
        """All that went on ended then."""

    def witnessed(self, site: str, from_at: float, to_at: float) -> list[Witnessed]:
        """What was seen of a site between these times, and up to the last look."""


def open_store(url: str, *, create: bool = True) -> Store:
    """The store of a URL such as ``sqlite:///var/lib/pantau/pantau.db``.

    Args:
        url: ``sqlite:///`` and a path; an absolute path keeps its own slash.
        create: make the database where there is none; else that is an error.

    Raises:
        NoStoreError: there is none, and `create` is false.
        StoreError: unknown kind of store, or it cannot be opened; `PlaceError`: nor made there.
    """
    path = path_of(url)
    from server.store.tables import SqliteStore

    return SqliteStore(str(path), create=create)


def path_of(url: str) -> Path:
    """The file of a store's URL: ``/var/lib`` of ``sqlite:///var/lib``, and of ``sqlite:////var/lib``.

    Raises:
        StoreError: unknown kind of store.
    """
    scheme, found, path = url.partition("://")
    if scheme == "sqlite" and found and path.startswith("/") and path != "/":
        return Path("/" + path.lstrip("/"))
    raise StoreError(f"store.url {url!r} is not understood; write sqlite:///path/to/pantau.db")
