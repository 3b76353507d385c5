"""The month's bytes of a metered link while the agent runs: counted, kept, told."""

from __future__ import annotations

import dataclasses
import logging
import threading
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from agent import metered, schedule, traffic, wire
from agent.config import Config
from agent.metered import Costs, Ledger, Reckoning, Slowing
from agent.spool import write_file

log = logging.getLogger(__name__)

_FILE = "metered.json"
_SAVE_S = 6 * 3600.0
_MB = 1_000_000


class Meter:
    """Thread-safe. Counts nothing and slows nothing without a budget.

    Args:
        folder: where the ledger is kept.
        newest: the newest reading that is stored, which may know more than the ledger.
    """

    def __init__(self, folder: Path, newest: wire.Reading | None) -> None:
        self._file = folder / _FILE
        self._lock = threading.Lock()
        self._ledger = self._saved = _recovered(self._load(), newest)
        self._saved_s: float | None = None
        self._known: Reckoning | None = None
        self._step = 0
        self._budget: int | None = None
        self._costs: Costs | None = None
        self._mqtt = 0
        self._window_s = 0.0

    @property
    def slowing(self) -> Slowing:
        """How slow to measure from the next window on."""
        return metered.STEPS[self._step]

    def begin(self, config: Config) -> None:
        """Know the budget before the first window: a test by command may come sooner."""
        if config.metered is not None:
            normal_s = schedule.echo_interval_s(config.reading.window_s)
            with self._lock:
                self._budget = config.metered.monthly_mb * _MB
                self._costs = traffic.costs(config, normal_s, has_ipv6=False)

    def slowed(self, config: Config) -> Config:
        """The configuration with windows as long as they have to be.

        They grow to twice the last at most: the server waits by the last window it was told.
        """
        asked_s = config.reading.window_s
        most_s = max(asked_s, 2 * self._window_s)
        window_s = min(self.slowing.window_for(asked_s), most_s)
        reading = dataclasses.replace(config.reading, window_s=window_s)
        return dataclasses.replace(config, reading=reading)

    def observe(
        self, reading: wire.Reading, config: Config, mqtt_bytes: int, wall_s: float, at_s: float
    ) -> wire.Metered | None:
        """Take in a window, and decide how to go on.

        Args:
            reading: what it showed.
            config: what is asked for, nothing of it slowed.
            mqtt_bytes: of all connections since the start.
            wall_s: seconds since 1970.
            at_s: CLOCK_BOOTTIME.

        Returns:
            what the reading is to tell; None without a budget.
        """
        with self._lock:
            self._window_s = reading.window_s
            self._known = metered.reckon(self._known, wall_s, at_s, reading.clock.synced)
            passed, self._mqtt = mqtt_bytes - self._mqtt, mqtt_bytes
            if config.metered is None:
                self._step, self._budget = 0, None
                return None
            took = passed + traffic.of_window(reading, config)
            self._ledger = metered.spend(self._ledger, took, self._known)
            self._budget = config.metered.monthly_mb * _MB
            has_ipv6 = not isinstance(reading.ping6, UnsetType)
            normal_s = schedule.echo_interval_s(config.reading.window_s)
            self._costs = traffic.costs(config, normal_s, has_ipv6=has_ipv6)
            left_s = metered.left_s(self._known)
            step = metered.decide(self._step, self._ledger.used, self._budget, left_s, self._costs)
            if step != self._step:
                what = ", ".join(metered.slowed(step, self._costs)) or "nothing"
                log.info("metered link: step %d of %d; slowed: %s", step, _LAST, what)
            self._step = step
            if self._saved_s is None:
                self._saved_s = at_s
            if at_s - self._saved_s >= _SAVE_S:
                self._saved_s = at_s
                self._save()
            return wire.Metered(
                used_bytes=self._ledger.used,
                budget_bytes=self._budget,
                month=self._ledger.month or UNSET,
                slowed=metered.slowed(step, self._costs) or UNSET,
            )

    def spare_bytes(self, *, by_command: bool) -> int | None:
        """What a test of throughput may take; None where no budget says so."""
        with self._lock:
            if self._budget is None or self._costs is None:
                return None
            left_s = metered.left_s(self._known)
            if by_command:
                used = self._ledger.used
                return metered.dispensable(used, self._budget, left_s, self._costs)
            return metered.saved(self._ledger.used, self._budget, left_s) if self._step == 0 else 0

    def add_test(self, count_bytes: int) -> None:
        """Take in a test of throughput."""
        with self._lock:
            if self._budget is not None:
                self._ledger = metered.spend(self._ledger, count_bytes, self._known)
                self._save()

    def close(self) -> None:
        """Keep what was counted until now."""
        with self._lock:
            if self._ledger != self._saved:
                self._save()

    def _save(self) -> None:
        self._saved = self._ledger
        try:
            write_file(self._file, msgspec.json.encode(self._ledger))
        except OSError as err:
            log.warning("%s: %s; the stored readings still tell it", self._file, err.strerror)

    def _load(self) -> Ledger:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Ledger)
        except (OSError, msgspec.MsgspecError):
            return Ledger()


_LAST = len(metered.STEPS) - 1


def _recovered(ledger: Ledger, newest: wire.Reading | None) -> Ledger:
    if newest is None or isinstance(newest.metered, UnsetType):
        return ledger
    month = "" if isinstance(newest.metered.month, UnsetType) else newest.metered.month
    return metered.recovered(ledger, month, newest.metered.used_bytes)
