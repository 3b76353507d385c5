"""What a Raspberry Pi's firmware says of its supply and of its processor's pace.

Asked are, in this order, files of the kernel that cost nothing, and then a program:

    /sys/class/hwmon/*/in0_lcrit_alarm                            mainline, driver rpi_volt
    /sys/devices/platform/soc*/soc*:firmware/get_throttled        Raspberry Pi's own kernel
    vcgencmd get_throttled                                        where that file is not there

The firmware's number: bit 0 undervoltage, 1 frequency capped, 2 throttled, 3 soft temperature
limit, all of this moment; 16 to 19 the same at some time since the board started.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from agent.probes.ending import output
from agent.probes.runner import ProbeError

_AGAIN_S = 600.0
_NUMBER = re.compile(r"(?:throttled=)?(?:0[xX])?([0-9a-fA-F]{1,8})\s*\Z")
_UNDERVOLTAGE, _SLOWED = 1 << 0, 1 << 1 | 1 << 2 | 1 << 3
_SEEN = 16


class Supply(NamedTuple):
    """Whether the supply is too low, and whether the processor is slowed; now, or ever."""

    undervoltage: bool | UnsetType = UNSET
    undervoltage_seen: bool | UnsetType = UNSET
    throttled: bool | UnsetType = UNSET
    throttled_seen: bool | UnsetType = UNSET


def parse(text: str) -> Supply:
    """The firmware's number, as the kernel's file (``50005``) or vcgencmd tells it.

    Raises:
        ProbeError: it is none.
    """
    found = _NUMBER.match(text.strip())
    if found is None:
        raise ProbeError(f"the board's get_throttled is no number: {text.strip()[:40]!r}")
    bits = int(found[1], 16)
    return Supply(
        bool(bits & _UNDERVOLTAGE),
        bool(bits >> _SEEN & _UNDERVOLTAGE),
        bool(bits & _SLOWED),
        bool(bits >> _SEEN & _SLOWED),
    )


class Board:
    """Asks one board. What was seen once stays seen: the kernel's own driver forgets it.

    Args:
        sysfs: where the kernel's files are.
    """

    def __init__(self, sysfs: Path = Path("/sys")) -> None:
        self._sysfs = sysfs
        self._rest_until_s = 0.0
        self._undervoltage_seen = self._throttled_seen = False

    def look(self, now_s: float, within_s: float) -> tuple[Supply, str | None]:
        """What is known now, and what went wrong; all absent on another board.

        A program that fails or hangs is left alone for ten minutes.
        """
        problem = None
        told = Supply()
        try:
            told = self._firmware(now_s, within_s)
        except ProbeError as err:
            problem = str(err)
        alarm = self._alarm()
        under = told.undervoltage if alarm is UNSET else alarm or told.undervoltage is True
        self._undervoltage_seen |= under is True or told.undervoltage_seen is True
        self._throttled_seen |= told.throttled is True or told.throttled_seen is True
        return Supply(
            under,
            UNSET if under is UNSET else self._undervoltage_seen,
            told.throttled,
            UNSET if told.throttled is UNSET else self._throttled_seen,
        ), problem

    def _firmware(self, now_s: float, within_s: float) -> Supply:
        for file in sorted(self._sysfs.glob("devices/platform/soc*/soc*firmware/get_throttled")):
            try:
                return parse(file.read_text(errors="replace"))
            except OSError:
                continue  # an old firmware refuses the question
        if now_s < self._rest_until_s:
            return Supply()
        try:
            said = output(("vcgencmd", "get_throttled"), within_s)
            if said is None:
                self._rest_until_s = now_s + _AGAIN_S  # it may yet be installed
            return Supply() if said is None else parse(said)
        except ProbeError:
            self._rest_until_s = now_s + _AGAIN_S
            raise

    def _alarm(self) -> bool | UnsetType:
        for chip in sorted(self._sysfs.glob("class/hwmon/hwmon*")):
            try:
                if (chip / "name").read_text().strip() == "rpi_volt":
                    return (chip / "in0_lcrit_alarm").read_text().strip() == "1"
            except (OSError, UnicodeDecodeError):
                continue  # a chip that went away, or a kernel without the alarm: not measured
        return UNSET
