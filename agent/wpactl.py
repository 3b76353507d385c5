"""The control socket of hostapd and wpa_supplicant: one datagram asks, one answers."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Self

_MAX_BYTES = 8192


class ControlSocket:
    """A conversation with the daemon that listens at `path`.

    Raises:
        OSError: nobody listens there, or we may not speak with it; names the path.
    """

    def __init__(self, path: Path, timeout_s: float = 1.0) -> None:
        self._timeout_s = timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._events: list[str] = []
        try:
            self._socket.bind("")  # the kernel gives an abstract name, so that it can answer
            self._socket.connect(str(path))
        except OSError as err:
            self._socket.close()
            raise OSError(err.errno, err.strerror, str(path)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str) -> str:
        """The answer to a command.

        Raises:
            TimeoutError: none came.
        """
        self._socket.send(command.encode())
        end_s = time.monotonic() + self._timeout_s
        while True:
            text = self._receive(end_s - time.monotonic())
            if text is None:
                raise TimeoutError(f"no answer to {command.partition(' ')[0]}")
            if not text.startswith("<"):
                return text
            self._events.append(text)

    def event(self, within_s: float) -> str | None:
        """The next event, such as ``<3>CTRL-EVENT-CONNECTED``, after ATTACH; None if none came."""
        return self._events.pop(0) if self._events else self._receive(within_s)

    def _receive(self, within_s: float) -> str | None:
        self._socket.settimeout(max(0.001, within_s))
        with contextlib.suppress(TimeoutError):
            return self._socket.recv(_MAX_BYTES).decode(errors="replace")
        return None
