"""Payloads through ingest as it is, into SQLite, and a second look at what came of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.fuzzing.compare import CACHE, Compare, Message
from bench.fuzzing.findings import Report
from server import payloads
from server.ingest import Ingest
from server.model import Rules, Site
from server.store import StoreError, open_store
from server.terms import entered

RETAIN_S = 3600.0


class IngestSide:
    """The single writer of a store in `folder`, and a second look at what it wrote."""

    def __init__(self, folder: Path, sites: Sequence[str], report: Report) -> None:
        self._path = folder / "pantau.db"
        self._report = report
        self._posted: list[int] = []
        self._letter = 0
        self._open()
        with self._store.transaction():
            for n, site in enumerate(sites):
                if n % 5:  # every fifth is one that nobody registered
                    known = Site(site, f"Site {n}", ("maesa", "girian")[n % 2], "telkom")
                    self._store.put_terms(site, entered([], known, 0.0))
            self._store.promote(0.0)
        self._look = Compare(self._path, report)

    def _open(self) -> None:
        self._store = open_store(f"sqlite://{self._path}")
        self._store._run(CACHE)  # type: ignore[attr-defined]  # of SQLite's store
        self._ingest = Ingest(self._store, Rules(), RETAIN_S)

    def restart(self, now: float) -> None:
        """A new process would know what is stored, and nothing else. Streams begin anew."""
        self._store.close()
        self._open()
        self._ingest.refresh_registry(now)
        self._posted = []
        self._look.begin()
        for topic, payload in self._ingest.standing():
            self._is_json(topic, payload)

    def take(self, messages: Sequence[Message], now: float) -> None:
        """One batch, a tick, and what came of them."""
        run = []
        for one in messages:
            if one.topic == payloads.MARKER:
                payloads.marker_id(one.payload)
            else:
                run.append(one)
        try:
            self._ingest.refresh_registry(now)
            self._ingest.take(run, now, caught_up=True)
            self._ingest.tick(now, now, self._posted)
        except StoreError as err:
            self._report.find("the store refuses, so ingest would stall", "", b"", str(err))
            self._find_culprit(run, now)
            return
        letters = self._ingest.letters(self._letter)
        for letter in letters:
            self._is_json(letter.topic, letter.payload)
            self._letter = letter.id
        self._posted = [letter.id for letter in letters]
        self._compare(run)

    def _find_culprit(self, messages: Sequence[Message], now: float) -> None:
        for one in messages:
            try:
                self._ingest.take([one], now, caught_up=True)
            except StoreError as err:
                self._report.find("a message that stalls ingest", one.topic, one.payload, str(err))

    def _is_json(self, topic: str, payload: bytes) -> None:
        if payload:
            try:
                json.loads(payload.decode("utf-8", "strict"))
            except ValueError as err:
                self._report.find("ingest publishes what is no JSON", topic, payload, str(err))

    def _compare(self, messages: Sequence[Message]) -> None:
        asides = self._look.asides()
        for one in messages:
            self._look.one(one, asides.pop(one.received_at, []))
        for left in asides.values():
            self._look.unsent(left[0])

    def close(self) -> None:
        self._look.close()
        self._store.close()
