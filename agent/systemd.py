"""What the agent says to systemd: ready, status, alive, stopping (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

_ASKING_S = 0.5
_STANDSTILL_S = 180.0


def notify(state: str) -> None:
    """Tell the service manager; nothing happens where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(address)
        out.send(state.encode())


def watchdog_for(window_s: float) -> str:
    """How long the watchdog is to wait: three windows and half a minute.

    The watchdog is fed by finished windows alone, so it must know their length.
    """
    return f"WATCHDOG_USEC={int((3 * window_s + 30) * 1_000_000)}"


def is_progress(stood_s: float, window_s: float) -> bool:
    """Whether sending goes on, when nothing moved there for `stood_s`.

    Moving means that the broker confirmed something, had nothing to confirm, or was found
    to be away, which is tried once a minute at least.
    """
    return stood_s < max(_STANDSTILL_S, 3 * window_s)


def is_rebooting() -> bool:
    """Whether we are being stopped because the machine starts again."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return False
    ask = ["systemctl", "list-jobs", "--plain", "--no-legend", "reboot.target", "kexec.target"]
    try:
        jobs = subprocess.run(ask, capture_output=True, timeout=_ASKING_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b" start " in jobs.stdout
