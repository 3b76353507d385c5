"""A machine's own clock: wrong, and kept by no time server (see wrong_clock.c)."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from tests.deploy.machines import Machine
from tests.lab.net import sh

_SOURCE = Path(__file__).with_name("wrong_clock.c")
_LIBRARY, _SHIFT = "usr/lib/wrong-clock.so", "usr/lib/wrong-clock.shift"
_WORD = struct.Struct("q")


class WrongClock:
    """The clock of one machine, which boots again with it."""

    def __init__(self, machine: Machine, ahead_s: float) -> None:
        assert shutil.which("gcc"), "needs gcc: apt-get install g++"
        root = machine.root
        sh("gcc", "-shared", "-fPIC", "-O1", "-o", str(root / _LIBRARY), str(_SOURCE))
        self._shift = root / _SHIFT
        self._shift.write_bytes(_WORD.pack(0))
        self._shift.chmod(0o644)
        self.ahead_s = ahead_s
        (root / "etc/ld.so.preload").write_text(f"/{_LIBRARY}\n")
        machine.halt()
        machine.boot()

    @property
    def ahead_s(self) -> float:
        """How far it is ahead of the right time."""
        return float(_WORD.unpack(self._shift.read_bytes())[0]) / 1e9

    @ahead_s.setter
    def ahead_s(self, seconds: float) -> None:
        # In place: every process of the machine looks into this very file.
        with self._shift.open("r+b") as file:
            file.write(_WORD.pack(int(seconds * 1e9)))
