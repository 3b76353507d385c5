"""Which readings speak of a site as it is now. Pure."""

from __future__ import annotations

from agent.wire import Envelope, Reading
from server import gap
from server.causes import LastSeen
from server.model import Rules


def is_live(seen: LastSeen | None, reading: Reading, envelope: Envelope, rules: Rules) -> bool:
    """Whether a reading speaks of now: rule 2 of `server.health`.

    Args:
        seen: the newest live reading before it.
    """
    if reading.boot != envelope.sent_boot:
        return False
    age_s = envelope.sent_uptime_s - reading.uptime_s
    if age_s > rules.silence_windows * reading.window_s:
        return False
    if seen is None:
        return True
    if seen.stream == envelope.stream:
        return reading.seq > seen.seq
    return seen.boot != reading.boot or reading.uptime_s > seen.uptime_s


def of_past_outage(reading: Reading, returned_uptime_s: float) -> bool:
    """Whether its window shows an outage that is over, and was told already.

    Args:
        returned_uptime_s: of the device, when the site last came back or connected; 0: unknown.
    """
    began_s = reading.uptime_s - reading.window_s
    return began_s < returned_uptime_s and gap.far(reading) == "fail"
