"""Whom to trace for which rung, from the configuration; and tracing on command."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent import wire
from agent.config import Config
from agent.probes import ProbeError
from agent.probes.dns_client import SYSTEM, endpoint, system_address
from agent.probes.path import Goal, Tracer, trace
from agent.probes.route import default_route


def tracer(config: Config) -> Tracer | None:
    """What traces beside the windows; None where the configuration does not ask for it."""
    if config.path is None:
        return None
    return Tracer(config.path.every_s, config.path.foreign_prefixes)


def targets(config: Config) -> dict[wire.Rung, str]:
    """The first target of each rung, as it is now; the ISP's hop lies before the domestic one."""
    found: dict[wire.Rung, str] = {}
    for rung in wire.ECHO_RUNGS:
        given = getattr(config.targets, rung, None)
        if given not in (None, "auto"):
            found[rung] = given[0]
    if getattr(config.targets, "gateway", None) == "auto":
        route = default_route()
        if route is not None and route.gateway is not None:
            found["gateway"] = route.gateway
    if getattr(config.targets, "isp", None) == "auto" and "domestic" in found:
        found["isp"] = found["domestic"]
    if config.dns is not None and (resolver := _resolver(config.dns.resolver)):
        found["dns"] = resolver
    if config.web is not None and (host := urlsplit(config.web.url).hostname):
        found["web"] = host
    return found


def _resolver(given: str | None) -> str | None:
    try:
        return endpoint(given if given not in (None, SYSTEM) else system_address())[0]
    except (OSError, ProbeError):
        return None  # what is wrong with it stands in the error of dns


def trace_now(config: Config, target: str | None = None) -> list[wire.Path]:
    """Traces one target, or the domestic and the world's; takes seconds.

    Args:
        config: of the agent.
        target: an address or a name; those of the configuration without it.

    Raises:
        ProbeError: nothing to trace, or nothing could be traced.
    """
    known = targets(config)
    rungs: tuple[wire.Rung, ...] = ("domestic", "world")
    goals = [Goal(known[rung], rung) for rung in rungs if rung in known]
    if target is not None:
        goals = [Goal(target)]
    if not goals:
        raise ProbeError("nothing to trace: name a target, or add domestic to [targets]")
    found, error = trace(goals, "command", config.path.foreign_prefixes if config.path else ())
    if not found:
        raise ProbeError(error or "no answer of the trace helper")
    return found
