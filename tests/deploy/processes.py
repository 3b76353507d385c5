"""The processes of this computer, those of all machines among them."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Self


class CommandLines:
    """Every command line of this computer while it is entered, on controller and machines alike."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.lines.add(file.read_text(errors="replace").replace("\0", " "))
