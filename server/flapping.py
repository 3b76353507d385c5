"""When a site flaps: its status changes too often to alert each change. Pure.

The last 20 changes of the status count, as far as they are not older than
``flap_window_s``. Each weighs by its rank, the newest 1.2 and the twentieth 0.8, so that
20 weigh 20; what those in the window weigh, over 20, is the *share*. The weights are those
of Nagios (flap detection of its manual); but it ranks checks, of which some changed
nothing. Checks have no fixed interval here, so changes are ranked, and a window of time
bounds them instead.

Rules
 1. A change that brings the share to ``flap_start_ratio`` begins it: by default the ninth
    within an hour.
 2. It ends when changes have aged out of the window until the share is at most
    ``flap_stop_ratio``, or when the status has stood for ``flap_rest_s``, whichever is
    first. So a site that goes and stays away is called flapping no longer than
    ``flap_rest_s``, whatever was before.
 3. After such a rest the count begins anew.
"""

from __future__ import annotations

from server.model import Rules

MOST = 20
"""So many changes count."""
_NEWEST, _OLDEST = 1.2, 0.8
_STEP = (_NEWEST - _OLDEST) / (MOST - 1)
_SHARES = tuple(
    (_NEWEST * count - _STEP * count * (count - 1) / 2) / MOST for count in range(MOST + 1)
)
"""The share that so many changes within the window come to."""

Changes = tuple[float, ...]
"""When the status changed, oldest first."""


def changed(changes: Changes, now: float, rules: Rules) -> Changes:
    """What counts after one more change, now; none lies ahead, though our clock be set back."""
    young = [min(at, now) for at in changes if now - at < rules.flap_window_s]
    return (*young[1 - MOST :], now)


def starts(changes: Changes, rules: Rules) -> bool:
    """Whether changes of which all are within the window make a site flap."""
    share = round(_SHARES[len(changes)], 9)
    return share >= rules.flap_start_ratio and share > rules.flap_stop_ratio


def calm_at(changes: Changes, rules: Rules) -> float:
    """When a site that flaps will have calmed if its status stays as it is."""
    if not changes:
        return 0.0
    rested_at = changes[-1] + rules.flap_rest_s
    for at, share in zip(reversed(changes), _SHARES[1:], strict=False):
        if round(share, 9) > rules.flap_stop_ratio:
            return min(rested_at, at + rules.flap_window_s)
    return changes[-1]  # other rules bear so many


def left(changes: Changes, now: float, rules: Rules) -> Changes:
    """What still counts of a site that has calmed."""
    if not changes or now - changes[-1] >= rules.flap_rest_s:
        return ()
    return tuple(at for at in changes if now - at < rules.flap_window_s)


def reason(changes: Changes) -> str:
    """Why it flaps, as an operator reads it."""
    if not changes:
        return "its status changes too often"
    return f"{len(changes)} changes of status in {(changes[-1] - changes[0]) / 60:.0f} min"
