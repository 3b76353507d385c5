"""When what the agent measures no more is forgotten. Pure.

A window without a finding says nothing: a metered link leaves a probe out of up to four
windows in a row, a helper may answer a window late. So many windows in a row that were not even
to measure it show that it was taken out of the agent's configuration.
"""

from __future__ import annotations

from msgspec import UNSET

from agent.wire import ECHO_RUNGS, Reading

_WINDOWS = 10
_LEAST_S = 60.0
"""A helper may take 20 s, which is many of the shortest windows."""


def count(before: int, probe: str, reading: Reading) -> int | None:
    """How many live windows in a row did not try, after one more without a finding.

    Args:
        before: how many it were.
        probe: what measures it, as `errors` of a reading name it.
        reading: the window's.

    Returns:
        None once it is to be forgotten.
    """
    if _is_tried(probe, reading):
        return 0
    untried = before + 1
    return None if untried >= max(_WINDOWS, _LEAST_S / reading.window_s) else untried


def _is_tried(probe: str, reading: Reading) -> bool:
    """Whether the window has echoes of it, or tells why it has nothing."""
    errors = {} if reading.errors is UNSET else reading.errors
    if probe not in ECHO_RUNGS:
        return probe in errors
    ping = reading.ping
    if ping is not UNSET and getattr(ping, probe) is not UNSET:
        return True
    return not errors.keys().isdisjoint((probe, f"{probe}6", "icmp", "icmp6"))
