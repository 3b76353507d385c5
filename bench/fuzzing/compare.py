"""What came of messages, as a second pair of eyes sees it in the store, against the judge."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.fuzzing.findings import Report, class_of
from bench.fuzzing.judge import Judgement, Verdict, judge

CACHE = "PRAGMA cache_size=-2048"
"""SQLite's cache is full at once, so that its filling hides no leak."""


class Message(NamedTuple):
    """What arrived."""

    topic: str
    payload: bytes
    retain: bool
    received_at: float


class Aside(NamedTuple):
    """A row of the quarantine."""

    topic: str
    reason: str
    size_bytes: int
    head: bytes


class Compare:
    """Holds messages against the store at `path`, and says in `report` what is wrong."""

    def __init__(self, path: Path, report: Report) -> None:
        self._report = report
        self._row = 0
        self._names: dict[tuple[str, str, int], bytes | None] = {}
        self._eyes = sqlite3.connect(path, isolation_level=None)
        self._eyes.execute(CACHE)
        self.stored = 0

    def begin(self) -> None:
        """Streams begin anew: what was sent so far is forgotten."""
        self._names = {}

    def asides(self) -> dict[float, list[Aside]]:
        """What was quarantined since the last time, by the time of receipt, in order."""
        found: dict[float, list[Aside]] = {}
        for number, at, *row in self._eyes.execute(
            "SELECT id, at, topic, reason, bytes, head FROM quarantine WHERE id > ? ORDER BY id",
            [self._row],
        ):
            found.setdefault(at, []).append(Aside(*row))
            self._row = number
        return found

    def one(self, message: Message, aside: Sequence[Aside]) -> None:
        """A message, and what of it lies in quarantine."""
        told = judge(message.topic, message.payload)
        self._report.verdicts[f"to ingest: {told.verdict.value}"] += 1
        for row in aside:
            self._report.reasons[class_of(row.reason)] += 1
            if not row.reason.strip():
                self._report.find("no reason", message.topic, message.payload)
            if row.reason.startswith("internal error"):
                self._report.find("a handler that raises", message.topic, message.payload)
            if row.topic != message.topic:
                self._report.find("quarantined under another topic", message.topic, message.payload)
        self._match(message, told, aside)

    def unsent(self, row: Aside) -> None:
        """What lies in quarantine, and belongs to no message."""
        self._report.find("quarantined, and nobody sent it", row.topic, row.head, row.reason)

    def _match(self, one: Message, told: Judgement, aside: Sequence[Aside]) -> None:
        report = self._report
        detail = f"{told.why} / {[row.reason for row in aside]}"
        if told.verdict is Verdict.INVALID:
            if len(aside) != 1 or aside[0].size_bytes != len(one.payload):
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
        self, one: Message, told: Judgement, aside: Sequence[Aside], detail: str
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

    def newest_stream(self, site: str) -> str | None:
        """The stream that the store met last of a site."""
        found = self._eyes.execute(
            "SELECT stream FROM streams WHERE site = ? ORDER BY id DESC LIMIT 1", [site]
        ).fetchone()
        return str(found[0]) if found else None

    @property
    def rows(self) -> int:
        """How many rows lie in quarantine."""
        found = self._eyes.execute("SELECT count(*) FROM quarantine").fetchone()
        return int(found[0])

    def close(self) -> None:
        self._eyes.close()
