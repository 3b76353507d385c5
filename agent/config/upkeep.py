"""The tables of the agent's own care: [settings], [safe_mode], [throughput], [metered]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.config import values
from agent.config.table import Table

_DAY_S = 86_400
_LEAST_MB = 30
_BEAT_MB = 700
"""What a ping each second to the broker takes in a month."""

Method = Literal["speedtest", "iperf3"]


@dataclass(frozen=True)
class Settings:
    """How long settings that lead elsewhere have to prove themselves, in seconds."""

    trial_s: int = 600


@dataclass(frozen=True)
class SafeMode:
    """`crashes` within `within_s` lead to safe mode (0: never), `quiet_s` without one out."""

    crashes: int = 5
    within_s: int = 600
    quiet_s: int = 900


@dataclass(frozen=True)
class Throughput:
    """A test of throughput: how, against whom, and how often at most.

    `server` is the address of a Speedtest Mini page, or HOST[:PORT] of an iperf3 server; None
    is the nearest public server of speedtest.net. Tests are skipped while more than
    `max_clients` are active, the processor is busier than `max_cpu_ratio`, or the default
    route leads through one of `backup_links`.
    """

    method: Method
    server: str | None
    per_day: int
    monthly_mb: int
    seconds: int
    max_clients: int
    max_cpu_ratio: float
    backup_links: tuple[str, ...]


@dataclass(frozen=True)
class Metered:
    """What all traffic of the agent may take in a month, at IP level."""

    monthly_mb: int


def metered(table: Table, keepalive_s: int) -> Metered:
    least = _LEAST_MB + _BEAT_MB // keepalive_s
    monthly_mb = table.need("monthly_mb", values.whole_from(1, 10_000_000, "megabytes"), "500")
    table.done()
    if monthly_mb < least:
        mend = f"give {least} or more, or a longer mqtt.keepalive_s"
        raise table.error("monthly_mb", f"{monthly_mb} is less than presence takes alone; {mend}")
    return Metered(monthly_mb)


def settings(table: Table) -> Settings:
    trial_s = table.take("trial_s", values.whole_from(1, _DAY_S, "seconds"))
    table.done()
    return Settings() if trial_s is None else Settings(trial_s)


def safe_mode(table: Table) -> SafeMode:
    given = {
        "crashes": table.take("crashes", values.whole_from(0, 1000, "crashes")),
        "within_s": table.take("within_s", values.whole_from(1, _DAY_S, "seconds")),
        "quiet_s": table.take("quiet_s", values.whole_from(1, _DAY_S, "seconds")),
    }
    table.done()
    return SafeMode(**{key: value for key, value in given.items() if value is not None})


def throughput(table: Table) -> Throughput:
    method = table.need("method", _method, '"speedtest"')
    server: str | None
    if method == "iperf3":
        server = table.need("server", values.host_port, '"speed.example"')
    else:
        server = table.take("server", values.web_url)
    per_day = table.take("per_day", values.whole_from(0, 96, "tests"))
    max_clients = table.take("max_clients", values.whole_from(0, 100_000, "clients"))
    max_cpu_ratio = table.take("max_cpu_ratio", _ratio)
    found = Throughput(
        method=method,
        server=server,
        per_day=4 if per_day is None else per_day,
        monthly_mb=table.take("monthly_mb", values.whole_from(1, 10_000_000, "megabytes"))
        or 10_000,
        seconds=table.take("seconds", values.whole_from(1, 30, "seconds")) or 5,
        max_clients=0 if max_clients is None else max_clients,
        max_cpu_ratio=0.7 if max_cpu_ratio is None else max_cpu_ratio,
        backup_links=table.take("backup_links", _names) or (),
    )
    table.done()
    return found


def _method(value: object) -> Method:
    if value == "speedtest":
        return "speedtest"
    if value == "iperf3":
        return "iperf3"
    raise ValueError(f'{values.shown(value)} is not possible; give "speedtest" or "iperf3"')


def _ratio(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{values.shown(value)} is not possible; give a ratio from 0 to 1")
    return float(value)


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f'{values.shown(value)} is no list of interfaces; write ["wwan0"]')
    return tuple(values.text(item) for item in value)
