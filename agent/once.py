"""Measuring on the spot, beside or without the service: for `check`, `reading`, `probe`.

Probes that compare with their last run have instances of their own here, so that
the service's windows stay whole.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import agent
from agent import clock, schedule, window, wire
from agent.config import Config
from agent.hotspot import Hotspot
from agent.measured import Outcome, Sample
from agent.probes import PROBES, Context, FilterRules, ProbeError, Runner
from agent.probes.addresses import Targets
from agent.probes.clients import ClientsProbe
from agent.probes.dns_filter import FilterProbe
from agent.probes.host import HostProbe
from agent.probes.icmp import Prober
from agent.probes.link import LinkProbe

COMPARING = ("link", "host")
"""Probes whose value needs an earlier run."""
ECHOES_S = 5.0
"""The longest time for echoes on the spot."""
_DEADLINE_S = 5.0


class Echoes:
    """The echoes of the configured targets; none where there are none, or none permitted."""

    def __init__(self, config: Config) -> None:
        self._prober: Prober | None = None
        self._refused: dict[str, str] = {}
        targets = _targets(config)
        if not targets:
            return
        try:
            self._prober = Prober(targets)
        except ProbeError as err:
            self._refused = {"icmp": str(err)}

    def start(self, interval_s: float) -> None:
        self.set_interval(interval_s)
        if self._prober:
            self._prober.start()

    def set_interval(self, interval_s: float) -> None:
        if self._prober:
            self._prober.interval_s = interval_s

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        return self._prober.take(start_s, end_s) if self._prober else []

    def errors(self) -> dict[str, str]:
        return self._prober.errors() if self._prober else self._refused

    def stop(self) -> None:
        if self._prober:
            self._prober.stop()


def _targets(config: Config) -> Targets:
    if config.targets is None:
        return {}
    given = {rung: getattr(config.targets, rung) for rung in wire.ECHO_RUNGS}
    return {rung: targets for rung, targets in given.items() if targets is not None}


def context(config: Config) -> Context:
    """What the probes need to know of the configuration."""
    return Context(
        window_s=config.reading.window_s,
        names=config.dns.names if config.dns else (),
        resolver=config.dns.resolver if config.dns else None,
        compare_with=config.dns.compare_with if config.dns else None,
        filter=_filter(config),
        url=config.web.url if config.web else None,
        time_servers=config.ntp.server if config.ntp else (),
        hotspot=Hotspot(config.clients, config.access_points, config.wifi, config.walk),
        disk_path=_existing(config.spool.path),
    )


def _filter(config: Config) -> FilterRules | None:
    given = config.filter
    if given is None:
        return None
    return FilterRules(given.must_resolve, given.must_be_filtered, given.pages, given.every_s)


def _existing(path: Path) -> str:
    """The nearest folder that is there."""
    return str(next(p for p in (path, *path.parents) if p.exists()))


def probe_names(config: Config) -> list[str]:
    """The probes that have something to measure."""
    tables = {
        "dns": config.dns,
        "filter": config.filter,
        "web": config.web,
        "ntp": config.ntp,
        "access_points": config.access_points,
        "wifi": config.wifi,
        "walk": config.walk,
    }
    absent = {name: table is None for name, table in tables.items()}
    return [name for name in PROBES if not absent.get(name, False)]


@dataclass(frozen=True)
class Once:
    """All that one measurement on the spot showed."""

    reading: wire.Reading
    outcomes: list[Outcome]


def run_probe(config: Config, name: str) -> Outcome:
    """One probe, once; one that compares with its last run is run twice."""
    return _run(_own_runner(), config, name)


def measure(config: Config) -> Once:
    """A short window: at most `ECHOES_S` of echoes, and each probe once."""
    length_s = min(config.reading.window_s, ECHOES_S)
    echoes = Echoes(config)
    echoes.start(schedule.echo_interval_s(length_s))
    start_s = time.monotonic()
    try:
        runner = _own_runner()
        outcomes = [_run(runner, config, name) for name in probe_names(config) if name != "walk"]
        _sleep_until(start_s + length_s)
        end_s = time.monotonic()
        taken_at, uptime_s = time.time(), clock.uptime_s()
        _sleep_until(end_s + schedule.ECHO_TIMEOUT_S)
        samples = echoes.take(start_s, end_s)
        errors = echoes.errors()
    finally:
        echoes.stop()
    _, dead = window.silences({}, samples, taken_at - end_s)
    synchronised = clock.is_synchronised()
    reading = window.build(
        seq=1,
        boot=clock.boot_id(),
        agent=agent.__version__,
        taken_at=taken_at,
        uptime_s=uptime_s,
        clock=wire.Clock(synced=synchronised),
        window_s=max(1.0, round(end_s - start_s, 3)),
        samples=samples,
        outcomes=outcomes,
        dead=dead,
        errors=errors,
    )
    return Once(reading, outcomes)


def _own_runner() -> Runner:
    return Runner(
        {
            **PROBES,
            "link": LinkProbe(),
            "host": HostProbe(),
            "clients": ClientsProbe(),
            "filter": FilterProbe(),
        }
    )


def _run(runner: Runner, config: Config, name: str) -> Outcome:
    outcome = runner.run(name, context(config), _DEADLINE_S)
    if name in COMPARING and outcome.error is None:
        _sleep_until(time.monotonic() + 0.5)
        outcome = runner.run(name, context(config), _DEADLINE_S)
    return outcome


def _sleep_until(when_s: float) -> None:
    time.sleep(max(0.0, when_s - time.monotonic()))
