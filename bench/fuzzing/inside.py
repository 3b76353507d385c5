"""The fuzzer within one process: real handlers, a real store, at full speed."""

from __future__ import annotations

import faulthandler
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.fuzzing.agent_side import AgentSide
from bench.fuzzing.findings import Report, rss_mib
from bench.fuzzing.ingest_side import IngestSide, Message
from bench.fuzzing.mutate import Mutator
from bench.fuzzing.seeds import TO_AGENT, TO_SERVER, Seeds

BATCH = 500
EPOCH = 20_000
"""So many payloads between two restarts of everything, which must bear what was stored."""
STALL_S = 120.0
"""A batch that takes longer ends the run, and shows where it hangs."""
_SITES = [f"fuzz-{n:04}" for n in range(40)]
_AGENT = "fuzz-0001"
_BEGIN = 1_790_000_000.0
_SAMPLES = 100
_LEAVES = (*TO_SERVER, *TO_AGENT)
_WEIGHTS = (45, 12, 8, 10, 10, 15)
_MARKER = "pantau/v1/server/ingest/marker"
_ODD = (
    *("pantau/v1/sites//{leaf}", "pantau/v1/sites/A/{leaf}", "pantau/v1/sites/-a/{leaf}"),
    *("pantau/v1/sites/{site} /{leaf}", "pantau/v1/sites/é/{leaf}", "pantau/v1/sites/a/{leaf}"),
    *("pantau/v1/sites/{site}\n/{leaf}", "pantau/v1/sites/_ops/{leaf}", _MARKER),
    "pantau/v1/sites/" + "a" * 64 + "/{leaf}",
    "pantau/v1/sites/" + "x" * 60_000 + "/{leaf}",
)


class Log(logging.Handler):
    """What ingest and agent log; an exception that they caught is a finding."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.exc_info and record.exc_info[1] is not None:
            what = f"logged: {type(record.exc_info[1]).__name__}"
            self._report.find(what, record.name, b"", logging.Formatter().format(record))


def run(
    folder: Path, seed: int, payloads: int, say: Callable[[Report], None] = lambda _: None
) -> Report:
    """Fuzz so many payloads; the same seed makes the same ones.

    Args:
        folder: store and spool are made here.
        seed: decides all.
        payloads: how many.
        say: told of each tenth.
    """
    report = Report()
    log = Log(report)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(log)
    faulthandler.enable()
    ingest = IngestSide(folder, _SITES, report)
    agent = AgentSide(folder / "agent", _AGENT, report)
    try:
        _go(ingest, agent, random.Random(seed), payloads, report, log, say)  # noqa: S311  # by seed
    finally:
        faulthandler.cancel_dump_traceback_later()
        ingest.close()
        agent.close()
        root.removeHandler(log)
        root.setLevel(level)
    return report


def _go(
    ingest: IngestSide,
    agent: AgentSide,
    rng: random.Random,
    payloads: int,
    report: Report,
    log: Log,
    say: Callable[[Report], None],
) -> None:
    seeds, mutate = Seeds(rng, _SITES, _AGENT, agent.stream), Mutator(rng)
    now = _BEGIN
    begun_s = time.monotonic()
    batch: list[Message] = []
    sent: list[Message] = []
    while report.payloads < payloads:
        if report.payloads % EPOCH == 0:
            agent.begin()
            seeds.begin(now)
            ingest.restart(now)
            sent = []
        faulthandler.dump_traceback_later(STALL_S, exit=True)
        for _ in range(min(BATCH, payloads - report.payloads)):
            now += 0.02
            leaf = rng.choices(_LEAVES, _WEIGHTS)[0]
            site, tree = seeds.make(leaf, now)
            payload = mutate(tree)
            if leaf in TO_AGENT:
                agent.take(leaf, payload, now, log.records)
                continue
            topic = f"pantau/v1/sites/{site}/{leaf}"
            if rng.random() < 0.02:
                topic = rng.choice(_ODD).format(site=site, leaf=leaf)
            message = Message(topic, payload, rng.random() < 0.05, now)
            if sent and rng.random() < 0.03:  # once more, or on another's topic
                message = message._replace(payload=rng.choice(sent).payload)
                if rng.random() < 0.8:
                    message = rng.choice(sent)._replace(received_at=now)
            batch.append(message)
        if rng.random() < 0.02:
            now += 300.0  # long enough for silences to run out
        ingest.take(batch, now)
        sent = batch[:50]
        report.payloads += min(BATCH, payloads - report.payloads)
        log.records.clear()
        batch = []
        if report.payloads * _SAMPLES // payloads > len(report.rss_mib):
            report.rss_mib.append(rss_mib())
        if report.payloads * 10 // payloads > len(report.tenths_s):
            report.tenths_s.append(time.monotonic() - begun_s)
            say(report)
