"""The probes: what they are called, and how they are run.

`PROBES` run once a window through `run`; the echoes of `agent.probes.icmp` run all the time.
"""

from __future__ import annotations

from agent.measured import Outcome
from agent.probes.clients import clients
from agent.probes.dns import dns
from agent.probes.host import HostProbe
from agent.probes.link import LinkProbe
from agent.probes.runner import Context, Pending, Probe, ProbeError, Runner
from agent.probes.web import web

PROBES: dict[str, Probe] = {
    "link": LinkProbe(),
    "dns": dns,
    "web": web,
    "host": HostProbe(),
    "clients": clients,
}

_runner = Runner(PROBES)
run = _runner.run
start = _runner.start

__all__ = [
    "PROBES",
    "Context",
    "Outcome",
    "Pending",
    "Probe",
    "ProbeError",
    "Runner",
    "run",
    "start",
]
