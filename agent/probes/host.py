"""The device itself: processor, memory, disk, temperature, supply voltage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
from msgspec import UNSET, UnsetType

from agent import wire
from agent.probes.runner import Context

_HWMON = Path("/sys/class/hwmon")
_PROCESSOR_SENSORS = ("cpu_thermal", "cpu-thermal", "soc_thermal", "coretemp", "k10temp")
_PLAUSIBLE_C = range(-40, 151)


class HostProbe:
    """Load since the last run, the rest as it stands; the first run has no load."""

    def __init__(self, hwmon: Path = _HWMON) -> None:
        self._hwmon = hwmon
        self._before: tuple[float, float] | None = None

    def __call__(self, context: Context) -> wire.Host:
        now = _busy_and_total()
        before, self._before = self._before, now
        disk = psutil.disk_usage(context.disk_path)
        return wire.Host(
            cpu_ratio=cpu_ratio(before, now),
            memory_ratio=_ratio(psutil.virtual_memory().percent / 100),
            disk_ratio=_ratio(disk.percent / 100),
            temperature_c=temperature_c(_sensors()),
            undervoltage=undervoltage(self._hwmon),
        )


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


def undervoltage(hwmon: Path) -> bool | UnsetType:
    """Whether a Raspberry Pi's supply is too low (driver ``rpi_volt``); absent elsewhere."""
    for chip in sorted(hwmon.glob("hwmon*")):
        try:
            if (chip / "name").read_text().strip() == "rpi_volt":
                return (chip / "in0_lcrit_alarm").read_text().strip() == "1"
        except OSError:
            continue  # a chip that went away, or a kernel without the alarm: not measured
    return UNSET
