"""The fuzzer within one process: real handlers, a real store, at full speed."""

from __future__ import annotations

import faulthandler
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

from bench.fuzzing.agent_side import AgentSide
from bench.fuzzing.compare import Message
from bench.fuzzing.findings import Report, own_rss_mib
from bench.fuzzing.ingest_side import IngestSide
from bench.fuzzing.seeds import TO_AGENT, Seeds
from bench.fuzzing.traffic import Traffic

BATCH = 500
EPOCH = 20_000
"""So many payloads between two restarts of everything, which must bear what was stored."""
STALL_S = 120.0
"""A batch that takes longer ends the run, and shows where it hangs."""
_SITES = [f"fuzz-{n:04}" for n in range(40)]
_AGENT = "fuzz-0001"
_BEGIN = 1_790_000_000.0
_SAMPLES = 100


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
    seeds = Seeds(rng, _SITES, _AGENT, agent.stream)
    traffic = Traffic(rng, seeds)
    now = _BEGIN
    begun_s = time.monotonic()
    batch: list[Message] = []
    while report.payloads < payloads:
        if report.payloads % EPOCH == 0:
            agent.begin()
            seeds.begin(now)
            ingest.restart(now)
            traffic.sent = []
        faulthandler.dump_traceback_later(STALL_S, exit=True)
        for _ in range(min(BATCH, payloads - report.payloads)):
            now += 0.02
            leaf, message = traffic.next(now)
            if leaf in TO_AGENT:
                agent.take(leaf, message.payload, now, log.records)
                continue
            batch.append(message)
        if rng.random() < 0.02:
            now += 300.0  # long enough for silences to run out
        ingest.take(batch, now)
        traffic.sent = batch[:50]
        report.payloads += min(BATCH, payloads - report.payloads)
        log.records.clear()
        batch = []
        if report.payloads * _SAMPLES // payloads > len(report.rss_mib):
            report.rss_mib.append(own_rss_mib())
        if report.payloads * 10 // payloads > len(report.tenths_s):
            report.tenths_s.append(time.monotonic() - begun_s)
            say(report)
