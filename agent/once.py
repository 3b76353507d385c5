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
from agent.measured import Family, Outcome, Sample
from agent.probes import PROBES, Context, FilterRules, ProbeError, Runner
from agent.probes.access_points import AccessPointsProbe
from agent.probes.addresses import Targets, keys
from agent.probes.clients import ClientsProbe
from agent.probes.dns_filter import FilterProbe
from agent.probes.host import HostProbe
from agent.probes.icmp import Prober
from agent.probes.link import LinkProbe
from agent.probes.route import speaks_ipv6
from agent.probes.wifi import WifiProbe

COMPARING = ("link", "host")
"""Probes whose value needs an earlier run."""
ECHOES_S = 5.0
"""The longest time for echoes on the spot."""
_DEADLINE_S = 5.0
_PATIENT_S = 30.0
"""For a probe whose helper takes longer than others do: a scan, a question by ARP."""


class Echoes:
    """The echoes of the configured targets; none where there are none, or none permitted.

    Over IPv6, too, from when the machine first has an address for it: what is silent
    afterwards is lost, and not unmeasured.
    """

    def __init__(self, config: Config) -> None:
        self._probers: dict[Family, Prober] = {}
        self._refused: dict[str, str] = {}
        self._targets = _targets(config)
        if self._targets:
            self._open(4)

    def start(self, interval_s: float) -> None:
        for prober in self._probers.values():
            prober.interval_s = interval_s
            prober.start()
        self._begin_ipv6(interval_s)

    def set_interval(self, interval_s: float) -> None:
        """How often from now on; asked at each window's beginning."""
        for prober in self._probers.values():
            prober.interval_s = interval_s
        self._begin_ipv6(interval_s)

    def take(self, start_s: float, end_s: float) -> list[Sample]:
        taken = [prober.take(start_s, end_s) for prober in self._probers.values()]
        return [sample for samples in taken for sample in samples]

    def errors(self) -> dict[str, str]:
        found = dict(self._refused)
        for family, prober in self._probers.items():
            errors = prober.errors()
            found |= errors if family == 4 else {f"{name}6": text for name, text in errors.items()}
        return found

    def stop(self) -> None:
        for prober in self._probers.values():
            prober.stop()

    def _open(self, family: Family) -> None:
        try:
            self._probers[family] = Prober(self._targets, family=family)
        except ProbeError as err:
            self._refused["icmp" if family == 4 else "icmp6"] = str(err)

    def _begin_ipv6(self, interval_s: float) -> None:
        tried = 6 in self._probers or "icmp6" in self._refused
        if tried or not keys(self._targets, 6) or not speaks_ipv6():
            return
        self._open(6)
        if 6 in self._probers:
            self._probers[6].interval_s = interval_s
            self._probers[6].start()


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


def measure(config: Config, *, patient: bool = False) -> Once:
    """A short window: at most `ECHOES_S` of echoes, and each probe once.

    Args:
        config: what to measure.
        patient: wait for the probes that take long, as a person would.
    """
    length_s = min(config.reading.window_s, ECHOES_S)
    echoes = Echoes(config)
    echoes.start(schedule.echo_interval_s(length_s))
    start_s = time.monotonic()
    try:
        runner = _own_runner()
        outcomes = [
            _run(runner, config, name, _patience_s(config, name) if patient else _DEADLINE_S)
            for name in probe_names(config)
            if name != "walk"
        ]
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
            "access_points": AccessPointsProbe(),
            "wifi": WifiProbe(),
            "filter": FilterProbe(),
        }
    )


def _patience_s(config: Config, name: str) -> float:
    by_arp = config.access_points is not None and config.access_points.by == "arp"
    return _PATIENT_S if name == "wifi" or (name == "access_points" and by_arp) else _DEADLINE_S


def _run(runner: Runner, config: Config, name: str, deadline_s: float = _DEADLINE_S) -> Outcome:
    outcome = runner.run(name, context(config), deadline_s)
    if name in COMPARING and outcome.error is None:
        _sleep_until(time.monotonic() + 0.5)
        outcome = runner.run(name, context(config), deadline_s)
    return outcome


def _sleep_until(when_s: float) -> None:
    time.sleep(max(0.0, when_s - time.monotonic()))
