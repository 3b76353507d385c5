"""Where the echoes go: target names and ``auto`` to addresses, off the sending path.

Two background threads, each only where it is needed: one follows the default route and
looks for the ISP's first hop, one resolves names. A target keeps its last known address
while a newer one cannot be found, so that an outage shows as lost echoes and not as a rung
that was never measured. A default route over a point-to-point link has no gateway to measure.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

from agent import wire
from agent.measured import Family
from agent.probes.echo import who_answers
from agent.probes.route import Route, default_route, default_route6

AUTO = "auto"
Targets = Mapping[wire.EchoRung, tuple[str, ...] | Literal["auto"]]
Key = tuple[wire.EchoRung, str]

ROUTE_AGAIN_S = 5.0
"""How often the route is read without news of it; link changes bring none."""
RETRY_S = 10.0
"""After this a name or a hop that was not found is looked for again."""
REFRESH_S = 300.0
"""After this a name or a hop that was found is looked for again."""
_RTMGRP_IPV4_ROUTE, _RTMGRP_IPV6_ROUTE = 0x40, 0x400
_ISP: Key = ("isp", AUTO)
_GATEWAY: Key = ("gateway", AUTO)


def keys(targets: Targets, family: Family) -> list[Key]:
    """The targets that can have an address of this family."""
    return [
        (rung, name)
        for rung, names in targets.items()
        for name in ((AUTO,) if names == AUTO else names)
        if _version(name) in (None, family)
    ]


class Addresses:
    """The present address of each target, by rung and name, of one family.

    Over IPv6 a name without an address, and a hop that is not found, are no error.
    """

    def __init__(self, targets: Targets, family: Family = 4) -> None:
        self._family = family
        self._keys = keys(targets, family)
        self._current: dict[Key, str] = {}
        self._errors: dict[Key, str] = {}
        self._failed: str | None = None
        self._route: Route | None = None
        self._hop_due_s = 0.0
        self._stop = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._threads: list[threading.Thread] = []
        for rung, name in self._keys:
            if _version(name) == family:
                # in the spelling of the kernel's answers, with which it is compared
                self._current[rung, name] = str(ipaddress.ip_address(name))
        towards = next((key for key in self._keys if key[0] == "domestic"), None)
        self._isp_towards = towards if _ISP in self._keys else None

    @property
    def keys(self) -> list[Key]:
        """Every target, whether its address is known or not."""
        return list(self._keys)

    def get(self, key: Key) -> str | None:
        """The address of a target; None while it is not known."""
        return self._current.get(key)

    def errors(self) -> dict[str, str]:
        """Why targets have no address, or an old one; by rung, ``icmp`` for all of them."""
        by_rung: dict[str, str] = {"icmp": self._failed} if self._failed else {}
        if self._family == 6:
            return by_rung
        for (rung, _), text in sorted(self._errors.items()):
            by_rung[rung] = f"{by_rung[rung]}; {text}" if rung in by_rung else text
        return by_rung

    def start(self) -> None:
        """Reads the route at once, and starts to follow what can change."""
        if _GATEWAY in self._keys or self._isp_towards:
            self._read_route(time.monotonic())
            self._spawn(self._follow_routes, "routes")
        if any(name != AUTO and _version(name) is None for _, name in self._keys):
            self._spawn(self._follow_names, "names")

    def stop(self) -> None:
        """Ends the background work; a lookup that hangs is left to end by itself."""
        self._stop.set()
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            thread.join(timeout=0.2)
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._wake)

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        def guarded() -> None:
            try:
                target()
            except Exception as err:  # a thread that dies must be seen in the readings
                self._failed = f"{name} are followed no more: {type(err).__name__}: {err}"

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _follow_names(self) -> None:
        names = {name for _, name in self._keys if name != AUTO and _version(name) is None}
        due_s = dict.fromkeys(names, 0.0)
        while not self._stop.is_set():
            now_s = time.monotonic()
            for name in [name for name in names if due_s[name] <= now_s]:
                found = self._resolve(name)
                due_s[name] = time.monotonic() + (REFRESH_S if found else RETRY_S)
            self._stop.wait(max(0.0, min(due_s.values()) - time.monotonic()))

    def _resolve(self, name: str) -> bool:
        keys = [key for key in self._keys if key[1] == name]
        try:
            domain = socket.AF_INET if self._family == 4 else socket.AF_INET6
            answers = socket.getaddrinfo(name, None, domain, socket.SOCK_DGRAM)
        except OSError as err:
            for key in keys:
                self._errors[key] = f"{name} does not resolve: {err.strerror}"
            return False
        address = str(answers[0][4][0])
        for key in keys:
            if key == self._isp_towards and self._current.get(key) != address:
                self._hop_due_s = 0.0  # the way to it may begin with another hop
                os.eventfd_write(self._wake, 1)
            self._current[key] = address
            self._errors.pop(key, None)
        return True

    def _follow_routes(self) -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as news:
            news.setblocking(False)
            news.bind((0, _RTMGRP_IPV4_ROUTE if self._family == 4 else _RTMGRP_IPV6_ROUTE))
            poller = select.poll()
            poller.register(news, select.POLLIN)
            poller.register(self._wake, select.POLLIN)
            while not self._stop.is_set():
                self._read_route(time.monotonic())
                if self._isp_towards and self._hop_due_s <= time.monotonic():
                    found = self._find_hop(self._isp_towards)
                    self._hop_due_s = time.monotonic() + (REFRESH_S if found else RETRY_S)
                poller.poll(ROUTE_AGAIN_S * 1000)
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                with contextlib.suppress(OSError):  # read until nothing is left; overflow is news
                    while news.recv(65536):
                        pass

    def _read_route(self, now_s: float) -> None:
        route = default_route() if self._family == 4 else default_route6()
        if _GATEWAY in self._keys:
            if route is None:  # the last one fails
                self._errors[_GATEWAY] = "no default route"
            else:
                self._errors.pop(_GATEWAY, None)
                if route.gateway:
                    self._current[_GATEWAY] = route.gateway
                else:  # over a link without gateways there is nothing to measure, and no error
                    self._current.pop(_GATEWAY, None)
        if route and route != self._route:
            if self._route:
                self._current.pop(_ISP, None)  # behind another gateway lies another hop
            self._route = route
            self._hop_due_s = now_s

    def _find_hop(self, towards: Key) -> bool:
        """Looks for the hop with TTL 2; only one that answers echoes itself is taken."""
        target = self.get(towards)
        hop = who_answers(target, ttl=2) if target else None
        if hop is None:
            self._errors[_ISP] = f"nobody answers with TTL 2 towards {towards[1]}"
        elif who_answers(hop, ttl=64) is None:
            self._errors[_ISP] = f"the hop {hop} answers no echo"
        else:
            self._current[_ISP] = hop
            self._errors.pop(_ISP, None)
            return True
        return False


def _version(name: str) -> int | None:
    """4 or 6 where the name is an address, else None."""
    try:
        return ipaddress.ip_address(name).version
    except ValueError:
        return None
