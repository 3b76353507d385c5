"""The service's own socket in the spool folder, by which `check` asks it.

One question a connection: any line; one answer: a JSON text. Who may enter the
folder may ask.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = "agent.sock"
_ASKING_S = 1.0


@contextlib.contextmanager
def _short_name(folder: Path) -> Iterator[str]:
    """A name for the socket that fits into its 108 bytes, however long the path is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)


class LocalServer:
    """Answers one question after another in a thread of its own.

    Raises:
        OSError: the folder takes no socket.
    """

    def __init__(self, folder: Path, answer: Callable[[], bytes]) -> None:
        self._file = folder / _NAME
        self._answer = answer
        self._file.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        with _short_name(folder) as name:
            self._socket.bind(name)
        self._file.chmod(0o660)
        self._socket.listen(4)
        threading.Thread(target=self._run, name="local", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._file.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                asking, _ = self._socket.accept()
            except OSError:
                return
            with asking, contextlib.suppress(OSError):
                asking.settimeout(_ASKING_S)
                asking.recv(64)
                asking.sendall(self._answered())

    def _answered(self) -> bytes:
        """The answer; nothing where making it failed, so that the next one is answered, too."""
        try:
            return self._answer()
        except Exception:
            log.exception("check could not be answered: a fault of ours")
            return b""


def ask(folder: Path, within_s: float) -> bytes | None:
    """The service's answer; None when no service listens there.

    Raises:
        OSError: it may not be asked, or gave no answer in time.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(within_s)
        try:
            with _short_name(folder) as name:
                asking.connect(name)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        asking.sendall(b"check\n")
        return b"".join(iter(lambda: asking.recv(65536), b""))
