"""Does the hotspot's WiFi work? A scan for it, and a user's walk, each in a helper process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Generic, TypeVar

from agent import wire
from agent.probes.runner import Context
from agent.probes.wifi_helper import Helper

SCAN_LIMIT_S, WALK_LIMIT_S = 30.0, 120.0
_SHARE = 0.9
T = TypeVar("T")


class NowAndThen(Generic[T]):
    """Runs a helper every so often; the window in which it ends has its value."""

    def __init__(self, helper: Helper[T]) -> None:
        self._helper = helper
        self._next_s = 0.0
        self._lock = threading.Lock()

    def step(self, request: Mapping[str, object], every_s: float, within_s: float) -> T | None:
        """Start the helper where it is due, and take its value where it has one.

        While another thread does that (a command beside the service) there is nothing to take.

        Raises:
            ProbeError: it failed.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._step(request, every_s, within_s)
        finally:
            self._lock.release()

    def _step(self, request: Mapping[str, object], every_s: float, within_s: float) -> T | None:
        now_s = time.monotonic()
        if not self._helper.runs and now_s >= self._next_s:
            self._next_s = now_s + every_s
            self._helper.begin(request)
        return self._helper.result(within_s)


class WifiProbe:
    """A scan for the hotspot's SSID, every ``every_s``."""

    def __init__(self) -> None:
        self._scans = NowAndThen(Helper("wifi_scan", wire.Wifi, SCAN_LIMIT_S))

    def __call__(self, context: Context) -> wire.Wifi | None:
        """None between scans, and while one is under way.

        Raises:
            ProbeError: no radio, no permission, no end.
        """
        given = context.hotspot.wifi
        if given is None:
            return None
        request = {"ssid": given.ssid, "bssids": given.bssids, "interface": given.interface}
        return self._scans.step(request, given.every_s, _SHARE * context.deadline_s)


class WalkProbe:
    """A user's walk, every ``every_s``; one takes several windows."""

    def __init__(self) -> None:
        self._walks = NowAndThen(Helper("walk", wire.Walk, WALK_LIMIT_S))

    def __call__(self, context: Context) -> wire.Walk | None:
        """None between walks, and while one is under way.

        Raises:
            ProbeError: no radio, no permission, a program is missing.
        """
        walk, wifi = context.hotspot.walk, context.hotspot.wifi
        if walk is None or wifi is None:
            return None
        request = {
            "ssid": wifi.ssid,
            "interface": walk.interface,
            "url": walk.url,
            "pass_url": walk.pass_url,
            "password_file": str(walk.password_file) if walk.password_file else None,
        }
        return self._walks.step(request, walk.every_s, _SHARE * context.deadline_s)
