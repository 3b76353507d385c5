"""What the agent remembers of its own starts and ends, and when it must go carefully.

Rules
 1. A run that did not end in order, within one boot of the kernel, is a crash; unless it
    had delivered a reading: that one measured, and measuring is what counts.
 2. A run that did not end in order before another boot is a power cut: nothing of ours.
 3. `crashes` crashes within `within_s` are a crash loop: the next run is in safe mode.
 4. Safe mode ends after `quiet_s` without a crash, or by the command ``restart``; its
    crashes are forgotten then.

Times are CLOCK_BOOTTIME: the wall clock may be wrong by years.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.spool import write_file

log = logging.getLogger(__name__)

_FILE = "starts.json"


@dataclass(frozen=True)
class Limits:
    """How many crashes within how long are a loop, and how long safe mode lasts (s)."""

    crashes: int
    within_s: float
    quiet_s: float


class Record(msgspec.Struct, frozen=True):
    """The file: one run, and what is known of those before it.

    ``ended`` tells an end in order, ``proved`` that a reading was delivered, ``crashes``
    the uptimes at which crashes were found, ``restarts`` the starts in this boot but one.
    """

    boot: str
    ended: bool = False
    proved: bool = False
    crashes: tuple[float, ...] = ()
    restarts: int = 0
    last_shutdown_clean: bool | None = None


def begin(before: Record | None, boot: str, now_s: float) -> Record:
    """The record of a run that starts now, after the run that left `before`."""
    if before is None:
        return Record(boot)
    if before.boot != boot:
        return Record(boot, last_shutdown_clean=before.ended)
    crashed = not before.ended and not before.proved
    return Record(
        boot,
        crashes=(*before.crashes, now_s) if crashed else before.crashes,
        restarts=before.restarts + 1,
        last_shutdown_clean=before.last_shutdown_clean,
    )


def why_safe(record: Record, limits: Limits, now_s: float) -> str | None:
    """Why this run must be in safe mode, in words; None where it need not (rule 3)."""
    recent = sum(1 for at_s in record.crashes if now_s - at_s <= limits.within_s)
    if limits.crashes == 0 or recent < limits.crashes:
        return None
    return f"safe mode: {recent} crashes in {limits.within_s:g} s"


class Starts:
    """The record on disk, beside the spool. A disk that takes nothing costs only that."""

    def __init__(self, folder: Path, boot: str, now_s: float) -> None:
        self._file = folder / _FILE
        self.record = begin(self._load(), boot, now_s)
        self._save()

    def proved(self) -> None:
        """A reading was delivered: the crashes before are over."""
        if not self.record.proved:
            self._change(msgspec.structs.replace(self.record, proved=True, crashes=()))

    def forgive(self) -> None:
        """Forget the crashes: safe mode is left."""
        self._change(msgspec.structs.replace(self.record, crashes=()))

    def ended(self) -> None:
        """This run ends in order."""
        self._change(msgspec.structs.replace(self.record, ended=True))

    def _change(self, record: Record) -> None:
        self.record = record
        self._save()

    def _save(self) -> None:
        try:
            write_file(self._file, msgspec.json.encode(self.record))
        except OSError as err:
            log.warning("%s: %s; a crash loop would not be noticed", self._file, err.strerror)

    def _load(self) -> Record | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None
