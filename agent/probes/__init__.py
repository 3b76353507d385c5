"""The probes: what they are called, and how they are run.

`PROBES` run once a window through `run`; the echoes of `agent.probes.icmp` run all the time.
"""

from __future__ import annotations

from agent.measured import Outcome
from agent.probes.access_points import AccessPointsProbe
from agent.probes.clients import ClientsProbe
from agent.probes.dns import dns
from agent.probes.dns_filter import FilterProbe
from agent.probes.host import HostProbe
from agent.probes.link import LinkProbe
from agent.probes.ntp import NtpProbe
from agent.probes.runner import Context, FilterRules, Pending, Probe, ProbeError, Runner
from agent.probes.web import web
from agent.probes.wifi import WalkProbe, WifiProbe

PROBES: dict[str, Probe] = {
    "link": LinkProbe(),
    "dns": dns,
    "filter": FilterProbe(),
    "web": web,
    "ntp": NtpProbe(),
    "host": HostProbe(),
    "clients": ClientsProbe(),
    "access_points": AccessPointsProbe(),
    "wifi": WifiProbe(),
    "walk": WalkProbe(),
}

_runner = Runner(PROBES)
run = _runner.run
start = _runner.start

__all__ = [
    "PROBES",
    "Context",
    "FilterRules",
    "Outcome",
    "Pending",
    "Probe",
    "ProbeError",
    "Runner",
    "run",
    "start",
]
