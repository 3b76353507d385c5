"""The throughput tests of the service: when, one at a time, what came of them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from agent import budget, config, traffic, wire
from agent.budget import Ledger, Plan, Situation
from agent.meter import Meter
from agent.probes import ProbeError
from agent.probes.route import default_route
from agent.probes.throughput import Test, TestError, throughput
from agent.settings import RefusedError, Result
from agent.spool import write_file

log = logging.getLogger(__name__)

_FILE = "throughput.json"
_MB = 1_000_000
_LIKELY_MBPS = 20
"""What the first test is taken for; both ways together it is twice that."""


class Tests:
    """Thread-safe. Without a table [throughput] it never tests, and refuses the command.

    Args:
        table: the configuration.
        folder: where the ledger is kept.
        meter: what a metered link has to spare, and counts the tests.
        measure: runs one test.
    """

    def __init__(
        self,
        table: config.Throughput | None,
        folder: Path,
        meter: Meter,
        measure: Callable[[Test], wire.Throughput] = throughput,
    ) -> None:
        self._table = table
        self._plan = _plan(table) if table else None
        self._file = folder / _FILE
        self._measure = measure
        self._meter = meter
        self._rng = random.Random()  # noqa: S311  # moments in time, no secrets
        self._running = threading.Lock()
        self._ledger = self._load()
        self._result: wire.Throughput | None = None
        self._problem: str | None = None

    def look(self, reading: wire.Reading, now_s: float) -> None:
        """Start a test where one is due and fits; called with each reading."""
        if self._plan is None or self._running.locked():
            return
        now = situation(reading)._replace(spare_bytes=self._meter.spare_bytes(by_command=False))
        decision = budget.decide(self._ledger, self._plan, now, now_s, self._rng)
        if decision.why_not is not None:
            self._problem = decision.why_not
            self._ledger = decision.ledger  # not written: a restart only looks again at once
        elif decision.ledger != self._ledger:
            self._keep(decision.ledger)
        if decision.run:
            limit = budget.most_bytes(
                self._ledger, self._plan, now.spare_bytes, now_s, forced=False
            )
            threading.Thread(
                target=self._run_quietly, args=(limit,), name="throughput", daemon=True
            ).start()

    def run_by_command(self, args: Mapping[str, object]) -> Result:
        """One test now, whoever uses the link; `args.force` passes over the month's bytes.

        Raises:
            RefusedError: not configured, no bytes left, or it gave nothing.
        """
        if self._plan is None:
            raise RefusedError("no [throughput] in the configuration of this site; add it")
        now_s, forced = time.time(), args.get("force") is True
        spare = self._meter.spare_bytes(by_command=True)
        why_not = budget.too_dear(self._ledger, self._plan, now_s)
        if why_not is not None and not forced:
            raise RefusedError(f"{why_not}; args.force passes over that")
        beyond = budget.beyond_spare(self._ledger, self._plan, spare)
        if beyond is not None:
            raise RefusedError(beyond)
        limit = budget.most_bytes(self._ledger, self._plan, spare, now_s, forced=forced)
        try:
            return dict(msgspec.to_builtins(self._run(limit)))
        except ProbeError as err:
            raise RefusedError(str(err)) from None

    def take_result(self) -> wire.Throughput | None:
        """What a test gave since the last call."""
        result, self._result = self._result, None
        return result

    def take_problem(self) -> str | None:
        """Why there was no result since the last call, None where there is nothing to say."""
        problem, self._problem = self._problem, None
        return problem

    def _run_quietly(self, max_bytes: int | None) -> None:
        try:
            self._run(max_bytes)
        except ProbeError as err:
            self._problem = str(err)
        except Exception as err:  # told in the readings, as a probe's would be
            log.exception("throughput: a fault of ours")
            self._problem = f"a fault of ours: {type(err).__name__}: {err}"

    def _run(self, max_bytes: int | None) -> wire.Throughput:
        table = self._table
        if table is None or not self._running.acquire(blocking=False):
            raise ProbeError("a test is under way already")
        taken, whole = 0, False
        try:
            result = self._measure(Test(table.method, table.server, table.seconds, max_bytes))
            self._result = result
            taken = 0 if isinstance(result.bytes, UnsetType) else traffic.of_test(result.bytes)
            whole = True
            return result
        except TestError as err:
            taken = err.bytes
            raise
        finally:
            self._meter.add_test(taken)
            self._keep(budget.spent(self._ledger, taken, time.time(), whole=whole))
            self._running.release()

    def _keep(self, ledger: Ledger) -> None:
        self._ledger = ledger
        try:
            write_file(self._file, msgspec.json.encode(ledger))
        except OSError as err:
            log.warning("%s: %s; the budget is kept in memory alone", self._file, err.strerror)

    def _load(self) -> Ledger:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Ledger)
        except (OSError, msgspec.MsgspecError):
            return Ledger()


def _plan(table: config.Throughput) -> Plan:
    return Plan(
        per_day=table.per_day,
        monthly_bytes=table.monthly_mb * _MB,
        max_clients=table.max_clients,
        max_cpu_ratio=table.max_cpu_ratio,
        backup_links=table.backup_links,
        likely_bytes=2 * table.seconds * _LIKELY_MBPS * _MB // 8,
    )


def situation(reading: wire.Reading) -> Situation:
    """How it is, as the newest reading shows it."""
    active = UNSET if isinstance(reading.clients, UnsetType) else reading.clients.active
    load = UNSET if isinstance(reading.host, UnsetType) else reading.host.cpu_ratio
    try:
        route = default_route()
    except OSError:
        route = None
    return Situation(
        clock_synced=reading.clock.synced,
        active_clients=None if isinstance(active, UnsetType) else active,
        cpu_ratio=None if isinstance(load, UnsetType) else load,
        uplink=route.interface if route else None,
    )
