"""When things are due: windows, probes within them, reconnects. Pure, no clock is read.

Times are seconds of one clock that never steps (CLOCK_MONOTONIC). A window covers
``[start_s, end_s)``; it is complete at ``end_s + ECHO_TIMEOUT_S``, when the last echo that
was sent in it is either answered or lost, which leaves 2 s of the 4 s in which a reading
must be published.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection
from dataclasses import dataclass

ECHO_TIMEOUT_S = 2.0
"""An echo without an answer after this time is lost."""
PROBE_DEADLINE_S = 2.0
"""The longest that a once-a-window probe may take; no longer than the echoes' own timeout."""
ECHO_INTERVAL_S = 1.0
ECHOES_A_WINDOW = 11
"""Intervals in a short window: one more than the 10 echoes that a judgement needs, because
jitter and phase may push one echo over each edge."""
SPLAY_MAX_S = 10.0
RECONNECT_FIRST_S = 3.0
RECONNECT_MAX_S = 60.0
REFUSED_MAX_S = 600.0

# Where in the window a probe starts, as a share of it. What crosses the network is spread;
# what counts (link) stands at the end, so that its deltas are those of the window.
_POSITIONS = {
    "filter": 0.1,
    "dns": 0.25,
    "ntp": 0.4,
    "web": 0.5,
    "wifi": 0.1,
    "walk": 0.1,
    "access_points": 0.6,
    "clients": 0.75,
    "host": 0.95,
    "link": 1.0,
}


@dataclass(frozen=True, slots=True)
class Window:
    """One window, and when its reading can be made."""

    start_s: float
    end_s: float

    @property
    def complete_s(self) -> float:
        """When every echo sent in it is answered or lost."""
        return self.end_s + ECHO_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Due:
    """One probe and when it starts."""

    at_s: float
    name: str


def splay_s(site: str, window_s: float) -> float:
    """How long a site waits before its first window, so that a fleet does not beat in time.

    The same site always waits equally long, at most a window and at most 10 s.
    """
    digest = hashlib.sha256(site.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return share * min(window_s, SPLAY_MAX_S)


def first_window(now_s: float, site: str, window_s: float) -> Window:
    """The first window of an agent that starts now."""
    start_s = now_s + splay_s(site, window_s)
    return Window(start_s, start_s + window_s)


def next_window(last: Window, window_s: float, now_s: float) -> Window:
    """The window after `last`, joined to it without a gap.

    `window_s` may differ from the last one's (new settings). Where whole windows passed
    unmeasured (a suspended machine), they are left out and the grid is kept.
    """
    missed = max(0.0, (now_s - last.end_s) // window_s)
    start_s = last.end_s + missed * window_s
    return Window(start_s, start_s + window_s)


def probes_due(window: Window, names: Collection[str]) -> list[Due]:
    """Each once-a-window probe of `names` and its start, soonest first.

    Each starts within the window, so that with `probe_deadline_s` it has ended when the
    window is complete.
    """
    length_s = window.end_s - window.start_s
    return sorted(
        (Due(window.start_s + _POSITIONS.get(name, 0.5) * length_s, name) for name in names),
        key=lambda due: (due.at_s, due.name),
    )


def probe_deadline_s(window_s: float) -> float:
    """How long a probe may take: 2 s, and always over before its next start."""
    return min(PROBE_DEADLINE_S, 0.9 * window_s)


def echo_interval_s(window_s: float) -> float:
    """The mean time between two echoes to one target: 1 s, less where the window is short.

    A window of 1 s has one every 91 ms: every window holds at least 10 echoes a target.
    """
    return min(ECHO_INTERVAL_S, window_s / ECHOES_A_WINDOW)


def reconnect_delay(attempt: int, rng: random.Random) -> float:
    """Seconds before connection attempt number `attempt` (0 is the first after a loss).

    Full jitter: uniform from 0 to a bound that doubles from 3 s to 60 s, so that a fleet
    that lost its broker at once does not come back at once.
    """
    return rng.uniform(0.0, _bound_s(attempt, RECONNECT_MAX_S))


def refused_delay(refusals: int, rng: random.Random) -> float:
    """The same on a metered link after so many refusals: the bound goes on to 600 s."""
    return rng.uniform(0.0, _bound_s(refusals, REFUSED_MAX_S))


def _bound_s(attempt: int, most_s: float) -> float:
    return min(most_s, RECONNECT_FIRST_S * 2.0 ** min(attempt, 16))
