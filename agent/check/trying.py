"""Everything tried once: by the running service where there is one, else here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import UNSET

from agent import local, once, wire
from agent.check import centre, device, network, services
from agent.check.rows import Row, absent, decode, failed, passed
from agent.config import Config
from agent.spool import SpoolError, lock

_ANSWER_S = 120.0


def check(config: Config, file: Path) -> tuple[bool, list[Row]]:
    """Whether the service runs, and the rows: from it where it runs, else tried here."""
    first = passed("config", "config_good", file=str(file), site=config.site)
    try:
        answer = local.ask(config.spool.path, _ANSWER_S)
    except OSError as err:
        detail = err.strerror or str(err)
        return True, [first, failed("service", "service_silent", detail=detail)]
    if answer is None:
        return False, [first, absent("service", "service_absent"), *_without_service(config)]
    try:
        rows = decode(answer)
    except ValueError:
        return True, [first, failed("service", "service_other")]
    return True, [first, passed("service", "service_runs"), *rows]


def _without_service(config: Config) -> list[Row]:
    """Try everything here, with the spool locked so that no service comes between."""
    path = config.spool.path
    if not path.exists():
        return _everything(config, device.disk(config, None), lambda: _alone(config))
    try:
        with lock(path):
            return _everything(config, device.disk(config, None), lambda: _alone(config))
    except SpoolError as err:
        row = device.spool_refused(path, str(err))
        return _everything(config, row, lambda: centre.skip_from("broker_name", "needs_spool"))


def _alone(config: Config) -> list[Row]:
    """The way to the centre; with a certificate of another site we would end its session."""
    found = device.identity(config.mqtt, config.site, time.time())
    if found.told == "certificate_foreign":
        return centre.skip_from("broker_name", "needs_identity")
    return centre.alone(config)


def by_service(
    config: Config,
    *,
    waiting: int,
    problem: str | None,
    state: Callable[[], tuple[bool, str]],
    echo: Callable[[], float | None],
) -> list[Row]:
    """The rows that the running service gives.

    Args:
        config: what it follows now.
        waiting: how many readings wait for the server.
        problem: why it is in safe mode; None where it is not.
        state: whether it is connected and heard, and its words for it.
        echo: has the server answer; the seconds that took, None without an answer.
    """
    rows = [] if problem is None else [failed("agent", "safe_mode", detail=problem)]
    spool = device.disk(config, waiting)
    tried = _everything(config, spool, lambda: centre.by_service(config, state, echo))
    return [*rows, *tried]


def _everything(config: Config, spool: Row, to_centre: Callable[[], list[Row]]) -> list[Row]:
    """The rows from this device outwards: the first that fails is where to begin."""
    result = once.measure(config, patient=True)
    outcomes = {one.name: one for one in result.outcomes}
    centre_rows = to_centre()
    errors = {} if result.reading.errors is UNSET else result.reading.errors
    ntp = outcomes["ntp"].value if "ntp" in outcomes else None
    now_s = time.time()
    reached = any(row.told == "echo_came" for row in centre_rows)
    must_be_filtered = config.filter.must_be_filtered if config.filter else ()
    return [
        device.identity(config.mqtt, config.site, now_s),
        device.time_of_day(ntp if isinstance(ntp, wire.Ntp) else None, now_s),
        spool,
        device.host(outcomes["host"]),
        *network.links(network.machine(), reached=reached),
        *network.rungs(config.targets, result.reading, errors),
        services.dns(outcomes.get("dns")),
        services.filtering(outcomes.get("filter"), must_be_filtered),
        services.web(outcomes.get("web"), config.web.url if config.web else ""),
        services.ntp(outcomes.get("ntp")),
        *services.access_points(outcomes.get("access_points"), config),
        services.wifi(outcomes.get("wifi"), config),
        services.clients(outcomes["clients"]),
        *centre_rows,
    ]
