"""A user's walk: onto the hotspot, through its portal, to the web, and off again.

Request: ``ssid``, ``interface``, ``url``, and ``pass_url`` and ``password_file`` or null.
Value: `wire.Walk`. The steps are numbered in `walk`.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.helpers import walk_dhcp
from agent.helpers.walk_radio import Radio
from agent.helpers.walk_talk import NET_ADMIN, NET_RAW, HelperError, serve

_HTTP_S = 5.0
_NO_CONTENT = 204


class Steps:
    """How long each step took, and where the walk ended."""

    def __init__(self) -> None:
        self.took_ms: dict[str, float] = {}
        self.failed: tuple[str, str] | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times a step; one that fails ends the walk."""
        begun_s = time.monotonic()
        try:
            yield
        except (OSError, http.client.HTTPException, HelperError) as err:
            self.failed = name, str(err) or type(err).__name__
            raise StepError from None
        self.took_ms[name] = round((time.monotonic() - begun_s) * 1000, 3)


class StepError(Exception):
    """A step failed; `Steps` knows which."""


def work(request: dict[str, Any]) -> object:
    """Walk, and tell how far it went."""
    steps = Steps()
    told: dict[str, object] = {}
    with Radio(request["interface"]) as radio:
        try:
            walk(request, radio, steps, told)
        except StepError:
            assert steps.failed is not None
            told["first_failure"] = steps.failed[0]
    value = {"ok": steps.failed is None, "steps_ms": steps.took_ms, **told}
    if steps.failed is not None:
        raise HelperError(": ".join(steps.failed), value)
    return value


def walk(request: dict[str, Any], radio: Radio, steps: Steps, told: dict[str, object]) -> None:
    """The steps in order.

    1. associate: join the network (open, or WPA with its password).
    2. lease: take an address by DHCP.
    3. portal: ask for the page; it answers, by itself (204) or by the portal.
    4. pass: where the portal answered and there is a pass, fetch that.
    5. web: the page answers 204.
    6. leave: give the address back and disconnect.
    """
    with steps.step("associate"):
        radio.associate(request["ssid"], _password(request["password_file"]))
    with steps.step("lease"):
        lease = walk_dhcp.take(radio.interface, radio.hardware)
        radio.configure(lease)
    get = getter(radio.interface, lease.address)
    with steps.step("portal"):
        told["portal"] = get(request["url"]) != _NO_CONTENT
    if told["portal"] and request["pass_url"] is not None:
        with steps.step("pass"):
            status = get(request["pass_url"])
            if status >= 400:
                raise HelperError(f"the pass answers {status}")
    with steps.step("web"):
        status = get(request["url"])
        if status != _NO_CONTENT:
            raise HelperError(f"the page answers {status}")
    with steps.step("leave"):
        walk_dhcp.release(radio.interface, radio.hardware, lease)
        radio.leave()


def _password(file: str | None) -> str | None:
    """The first line of the file."""
    return None if file is None else Path(file).read_text().partition("\n")[0].strip()


def getter(interface: str, address: str) -> Callable[[str], int]:
    """A function that fetches a page over one interface and gives its status."""

    def get(url: str) -> int:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        connection = http.client.HTTPConnection(host, port, timeout=_HTTP_S)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(_HTTP_S)
        connection.sock = sock
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            sock.bind((address, 0))
            sock.connect((host, port))
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"User-Agent": "pantau"})
            return connection.getresponse().status
        finally:
            connection.close()

    return get


if __name__ == "__main__":
    serve(work, (NET_ADMIN, NET_RAW))
