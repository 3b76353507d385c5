"""Ingest on a real SQLite file, and what a broker would hold of what it says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent import wire
from server import history, terms
from server.ingest import Ingest
from server.intake import Taken
from server.model import Incident, Rules, Site
from server.store import FLAG_UNCERTAIN, ReadingRow, Store, open_store
from tests.server.made import MINE, Message

RETAIN_S = 3600.0


class Centre:
    """A store with its one writer. `hears` commits; nothing else stands between."""

    def __init__(self, folder: Path, *sites: Site, **rules: float) -> None:
        self.path = folder / "pantau.db"
        self.rules = msgspec.convert(rules, Rules)
        self.store: Store = open_store(self.url)
        self.enter(*sites)
        self.ingest = self._ingest()

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"sqlite://{self.path}"

    def _ingest(self) -> Ingest:
        ingest = Ingest(self.store, self.rules, RETAIN_S)
        ingest.refresh_registry(0.0)
        return ingest

    def enter(self, *sites: Site, valid_from: float = 0.0) -> None:
        """Write into the registry, as `pantau sites import` does."""
        with self.store.transaction():
            for site in sites:
                before = self.store.terms(site.id)
                self.store.put_terms(site.id, terms.entered(before, site, valid_from))
            self.store.promote(valid_from)

    def restart(self) -> None:
        """A new process: nothing is remembered but what is stored."""
        self.store.close()
        self.store = open_store(self.url)
        self.ingest = self._ingest()

    def hears(self, *messages: Message, caught_up: bool = True) -> Taken:
        """One batch."""
        return self.ingest.take(messages, messages[-1].received_at, caught_up=caught_up)

    def waits(self, now: float) -> None:
        """A tick, all that reached the broker taken in."""
        self.ingest.tick(now, proven_at=now)

    def retained(self) -> dict[str, Any]:
        """What stands retained once every letter was delivered: topic to JSON."""
        stands: dict[str, bytes] = {}
        for letter in self.store.outbox(0):
            stands[letter.topic] = letter.payload
        return _told((topic, payload) for topic, payload in stands.items() if payload)

    def standing(self) -> dict[str, Any]:
        """What would be published again on a new connection."""
        return _told(self.ingest.standing())

    def rows(self, site: str) -> list[tuple[str, ReadingRow]]:
        """Every stored reading of a site."""
        return list(self.store.readings(site))

    def seqs(self, site: str) -> list[int]:
        """The seqs of all of them."""
        return [row.seq for _, row in self.rows(site)]

    def through(self, site: str) -> dict[str, int]:
        """How far each stream of a site is accounted for."""
        return {row.stream: row.seqs.through for row in self.store.streams() if row.site == site}

    def spans(self, site: str, from_at: float, to_at: float) -> list[history.Span]:
        """The site's history."""
        windows = [
            history.window(
                wire.decode_reading(row.body).reading,
                row.taken_at,
                uncertain=bool(row.flags & FLAG_UNCERTAIN),
            )
            for _, row in self.rows(site)
        ]
        return history.spans(windows, from_at, to_at)

    def reasons(self) -> list[str]:
        """Why things are in quarantine."""
        return [one.reason for one in self.store.quarantined()]

    def incidents(self) -> list[Incident]:
        """The ledger."""
        return list(self.store.incidents())


def _told(letters: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    return {
        topic.removeprefix("pantau/v1/"): msgspec.json.decode(payload) for topic, payload in letters
    }


def home(folder: Path, **rules: float) -> Centre:
    """A centre that knows one site."""
    return Centre(folder, MINE, **rules)
