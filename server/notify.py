"""Telling systemd how the service is (sd_notify(3)); silent elsewhere."""

from __future__ import annotations

import os
import socket


def systemd(state: str) -> None:
    """Send one state such as ``READY=1``; nothing when systemd does not listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:  # a notice that is lost costs nothing
            return
