"""The radio of a walk: wpa_supplicant on it, and the address of the lease; undone on leaving."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.helpers.walk_dhcp import Lease
from agent.helpers.walk_talk import HelperError
from agent.wpactl import ControlSocket

_START_S, _ASSOCIATE_S, _LEAVE_S, _ANSWER_S = 15.0, 20.0, 5.0, 5.0
_TABLE = "7204"
"""A routing table of the walk alone, so that no other traffic takes the hotspot's way."""
_REASONS = {
    "WRONG_KEY": "the password is refused",
    "CTRL-EVENT-ASSOC-REJECT": "the access point refuses us",
    "CTRL-EVENT-NETWORK-NOT-FOUND": "the network is not there",
}


class Radio:
    """A radio that nothing else uses, up from entering to leaving."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self._folder = tempfile.TemporaryDirectory(prefix="pantau-walk-")
        self._supplicant: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if not Path("/sys/class/net", self.interface, "phy80211").exists():
            raise HelperError(f"no radio named {self.interface}; mend interface in [walk]")
        _ip("link", "set", self.interface, "up")
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _err: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        if self._supplicant is not None:
            self._supplicant.kill()
            self._supplicant.wait()
        with contextlib.suppress(HelperError):
            self._undo()
        self._folder.cleanup()

    @property
    def hardware(self) -> str:
        """Its link address."""
        return Path("/sys/class/net", self.interface, "address").read_text().strip()

    def associate(self, ssid: str, password: str | None) -> None:
        """Join the network; returns when data may pass.

        Raises:
            HelperError: why it did not.
        """
        folder = Path(self._folder.name)
        conf = folder / "wpa.conf"
        key = "key_mgmt=NONE" if password is None else f'psk="{password}"'
        conf.touch(0o600)
        conf.write_text(
            f"ctrl_interface={folder}\nnetwork={{\n ssid={ssid.encode().hex()}\n {key}\n}}\n"
        )
        try:
            self._supplicant = subprocess.Popen(
                ["wpa_supplicant", "-i", self.interface, "-c", str(conf)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise HelperError("wpa_supplicant is not installed") from None
        end_s = time.monotonic() + _ASSOCIATE_S
        why = "no answer from the network"
        with self._control() as control:
            control.ask("ATTACH")
            while (left_s := end_s - time.monotonic()) > 0:
                if "wpa_state=COMPLETED" in control.ask("STATUS"):
                    return
                event = control.event(min(left_s, 1.0)) or ""
                why = next((text for word, text in _REASONS.items() if word in event), why)
        raise HelperError(why)

    def _control(self) -> ControlSocket:
        path = Path(self._folder.name) / self.interface
        end_s = time.monotonic() + _START_S
        while True:
            try:
                return ControlSocket(path, _ANSWER_S)
            except OSError:
                assert self._supplicant is not None
                if self._supplicant.poll() is not None or time.monotonic() > end_s:
                    raise HelperError("wpa_supplicant does not run") from None
                time.sleep(0.05)

    def configure(self, lease: Lease) -> None:
        """Use the lease, for sockets bound to its address alone."""
        self._undo()  # what a walk left behind that was killed; most likely the same lease
        _ip(
            "addr", "add", f"{lease.address}/{lease.prefix}", "dev", self.interface, "noprefixroute"
        )
        own = ("dev", self.interface, "table", _TABLE)
        _ip("route", "replace", f"{lease.router}/32", *own)
        _ip("route", "replace", "default", "via", lease.router, *own)
        _ip("rule", "add", "from", lease.address, "lookup", _TABLE)

    def _undo(self) -> None:
        """Take away every rule of the walk's table, and the addresses with their routes."""
        _ip("rule", "flush", "table", _TABLE)
        _ip("addr", "flush", "dev", self.interface)

    def leave(self) -> None:
        """Disconnect in order.

        Raises:
            HelperError: we are still on, or cannot tell.
        """
        end_s = time.monotonic() + _LEAVE_S
        with contextlib.suppress(OSError), self._control() as control:
            control.ask("DISCONNECT")
            while time.monotonic() < end_s:
                if "wpa_state=DISCONNECTED" in control.ask("STATUS"):
                    return
                time.sleep(0.05)
        raise HelperError("the radio does not let go of the network")


def _ip(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["ip", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError:
        raise HelperError("ip is not installed; apt-get install iproute2") from None
    if done.returncode:
        raise HelperError(done.stderr.strip() or f"ip {arguments[0]} fails")
