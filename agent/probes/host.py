"""The device itself: processor, memory, disk and its health, temperature, supply voltage."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
from msgspec import UNSET, UnsetType

from agent import wire
from agent.probes.board import Board
from agent.probes.runner import Context, ProbeError
from agent.probes.storage import storage

_PROCESSOR_SENSORS = ("cpu_thermal", "cpu-thermal", "soc_thermal", "coretemp", "k10temp")
_PLAUSIBLE_C = range(-40, 151)


class HostProbe:
    """Load since the last run, the rest as it stands; the first run has no load.

    Args:
        sysfs: where the kernel's files on board and disk are.
    """

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        self._sysfs = sysfs
        self._board = Board(sysfs)
        self._before: tuple[float, float] | None = None

    def __call__(self, context: Context) -> wire.Host:
        """Raises:
        ProbeError: the board does not tell of its supply; with all the rest.
        """
        now = _busy_and_total()
        before, self._before = self._before, now
        disk = psutil.disk_usage(context.disk_path)
        kept = storage(context.disk_path, self._sysfs)
        supply, problem = self._board.look(time.monotonic(), context.deadline_s / 2)
        host = wire.Host(
            cpu_ratio=cpu_ratio(before, now),
            memory_ratio=_ratio(psutil.virtual_memory().percent / 100),
            disk_ratio=_ratio(disk.percent / 100),
            temperature_c=temperature_c(_sensors()),
            undervoltage=supply.undervoltage,
            undervoltage_seen=supply.undervoltage_seen,
            throttled=supply.throttled,
            throttled_seen=supply.throttled_seen,
            storage_errors=kept.errors,
            storage_read_only=kept.read_only,
            storage_worn_ratio=kept.worn_ratio,
            storage_spare_blocks=kept.spare_blocks,
        )
        if problem is not None:
            raise ProbeError(problem, host)
        return host


def _busy_and_total() -> tuple[float, float]:
    times = psutil.cpu_times()
    # guest time is already part of user time
    total_s = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total_s - times.idle - getattr(times, "iowait", 0.0), total_s


def cpu_ratio(before: tuple[float, float] | None, now: tuple[float, float]) -> float | UnsetType:
    """The share of busy time between two pairs of busy and total processor seconds."""
    if before is None or now[1] <= before[1]:
        return UNSET
    return _ratio((now[0] - before[0]) / (now[1] - before[1]))


def _ratio(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)


def _sensors() -> dict[str, list[float]]:
    found = psutil.sensors_temperatures()
    return {name: [reading.current for reading in readings] for name, readings in found.items()}


def temperature_c(sensors: Mapping[str, Iterable[float]]) -> float | UnsetType:
    """The hottest processor sensor; the hottest of any kind where none is known as such."""
    processor = [c for name in _PROCESSOR_SENSORS for c in sensors.get(name, ())]
    every = [c for readings in sensors.values() for c in readings]
    plausible = [c for c in processor or every if round(c) in _PLAUSIBLE_C]
    return round(max(plausible), 1) if plausible else UNSET
