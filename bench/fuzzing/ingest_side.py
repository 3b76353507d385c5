"""Payloads through ingest as it is, into SQLite, and the judge's word on what came of each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.fuzzing.findings import Report, class_of
from bench.fuzzing.judge import Judgement, Verdict, judge
from server import payloads
from server.ingest import Ingest
from server.model import Rules, Site
from server.store import StoreError, open_store
from server.terms import entered

RETAIN_S = 3600.0
_CACHE = "PRAGMA cache_size=-2048"
"""SQLite's cache is full at once, so that its filling hides no leak."""


class Message(NamedTuple):
    """What arrived."""

    topic: str
    payload: bytes
    retain: bool
    received_at: float


class IngestSide:
    """The single writer of a store in `folder`, and a second look at what it wrote."""

    def __init__(self, folder: Path, sites: Sequence[str], report: Report) -> None:
        self._path = folder / "pantau.db"
        self._report = report
        self._posted: list[int] = []
        self._letter = self._row = 0
        self._names: dict[tuple[str, str, int], bytes | None] = {}
        self.stored = 0
        self._open()
        with self._store.transaction():
            for n, site in enumerate(sites):
                if n % 5:  # every fifth is one that nobody registered
                    known = Site(site, f"Site {n}", ("maesa", "girian")[n % 2], "telkom")
                    self._store.put_terms(site, entered([], known, 0.0))
            self._store.promote(0.0)
        self._eyes = sqlite3.connect(self._path, isolation_level=None)
        self._eyes.execute(_CACHE)

    def _open(self) -> None:
        self._store = open_store(f"sqlite://{self._path}")
        self._store._run(_CACHE)  # type: ignore[attr-defined]  # of SQLite's store
        self._ingest = Ingest(self._store, Rules(), RETAIN_S)

    def restart(self, now: float) -> None:
        """A new process would know what is stored, and nothing else. Streams begin anew."""
        self._store.close()
        self._open()
        self._ingest.refresh_registry(now)
        self._posted, self._names = [], {}
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
        rows: dict[float, list[tuple[str, str, int]]] = {}
        for number, at, topic, reason, size in self._eyes.execute(
            "SELECT id, at, topic, reason, bytes FROM quarantine WHERE id > ? ORDER BY id",
            [self._row],
        ):
            rows.setdefault(at, []).append((topic, reason, size))
            self._row = number
        for one in messages:
            told = judge(one.topic, one.payload)
            self._report.verdicts[f"to ingest: {told.verdict.value}"] += 1
            aside = rows.pop(one.received_at, [])
            for topic, reason, _ in aside:
                self._report.reasons[class_of(reason)] += 1
                if not reason.strip():
                    self._report.find("no reason", one.topic, one.payload)
                if reason.startswith("internal error"):
                    self._report.find("a handler that raises", one.topic, one.payload)
                if topic != one.topic:
                    self._report.find("quarantined under another topic", one.topic, one.payload)
            self._match(one, told, aside)
        for left in rows.values():
            self._report.find("quarantined, and nobody sent it", left[0][0], b"", left[0][1])

    def _match(self, one: Message, told: Judgement, aside: list[tuple[str, str, int]]) -> None:
        report = self._report
        detail = f"{told.why} / {[reason for _, reason, _ in aside]}"
        if told.verdict is Verdict.INVALID:
            if len(aside) != 1 or aside[0][2] != len(one.payload):
                report.find("accepted against the contract", one.topic, one.payload, detail)
        elif told.verdict is Verdict.SILENT:
            self._forget(one, told)
        elif not told.readings:
            if aside:
                report.find("refused against the contract", one.topic, one.payload, detail)
        else:
            self._match_readings(one, told, aside, detail)

    def _forget(self, one: Message, told: Judgement) -> None:
        """Either is right; from now on so it is for what follows under these names."""
        site = one.topic.split("/")[3]
        for reading in told.readings:
            if reading.seq is not None:
                self._names[site, told.stream, reading.seq] = None

    def _match_readings(
        self, one: Message, told: Judgement, aside: list[tuple[str, str, int]], detail: str
    ) -> None:
        site = one.topic.split("/")[3]
        least = most = 0
        wanted = []
        for reading in told.readings:
            self._report.verdicts[f"a reading: {reading.verdict.value}"] += 1
            if reading.verdict is Verdict.INVALID:
                least, most = least + 1, most + 1
                continue
            assert reading.seq is not None or reading.verdict is Verdict.SILENT
            name = (site, told.stream, reading.seq or 0)
            if reading.verdict is Verdict.SILENT or self._names.get(name, b"") is None:
                most += 1
                self._names[name] = None
            elif name not in self._names:
                self._names[name] = reading.content
                wanted.append(name)
            elif self._names[name] != reading.content:
                least, most = least + 1, most + 1
        if not least <= len(aside) <= most:
            what = "refused" if len(aside) > most else "accepted"
            self._report.find(
                f"a reading {what} against the contract", one.topic, one.payload, detail
            )
        for name in wanted:
            found = self._eyes.execute(
                "SELECT 1 FROM readings JOIN streams ON streams.id = stream_id"
                " WHERE site = ? AND stream = ? AND seq = ?",
                name,
            ).fetchone()
            self.stored += 1
            if found is None and self._names[name] is not None:
                self._report.find(
                    "a good reading that is not stored", one.topic, one.payload, detail
                )

    def close(self) -> None:
        self._eyes.close()
        self._store.close()
