"""What the kernel says of the disk that holds the spool: errors, read-only, how worn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import UNSET, UnsetType

_PRE_EOL: dict[int, Literal["normal", "warning", "urgent"]] = {
    1: "normal",
    2: "warning",
    3: "urgent",
}


class Storage(NamedTuple):
    """``errors`` that the file system has counted since it was made, whether it takes writes,
    the share of its life that the memory says is used, and what it says of its spare blocks."""

    errors: int | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    worn_ratio: float | UnsetType = UNSET
    spare_blocks: Literal["normal", "warning", "urgent"] | UnsetType = UNSET


def storage(path: str, sysfs: Path = Path("/sys")) -> Storage:
    """Of the file system that `path` lies on.

    Raises:
        OSError: there is no such path.
    """
    device = Path(path).stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounted = Path("/proc/self/mountinfo").read_text(errors="replace")
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY or has_given_up(mounted, number)
    return at_device(number, bool(read_only), sysfs)


def has_given_up(mountinfo: str, number: str) -> bool:
    """Whether the file system of a device takes no writes since an error.

    Linux from 6.15 on leaves the mount as it was, and says so in its options alone.
    """
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if number == "".join(fields.split()[2:3]):
            return not {"ro", "emergency_ro"}.isdisjoint(rest.rpartition(" ")[2].split(","))
    return False


def at_device(number: str, read_only: bool, sysfs: Path) -> Storage:
    """Of the block device with this ``major:minor``; a part of a disk, or a whole one."""
    block = (sysfs / "dev/block" / number).resolve()
    disk = block.parent if (block / "partition").exists() else block
    errors = _number(sysfs / "fs/ext4" / block.name / "errors_count", 10)
    used = _number(disk / "device/life_time", 16)
    spare = _number(disk / "device/pre_eol_info", 16)
    return Storage(
        UNSET if errors is None or errors < 0 else errors,
        read_only,
        # JESD84-B51, DEVICE_LIFE_TIME_EST: tenths of its life, the upper edge of each; 11 is over
        UNSET if used is None or not 1 <= used <= 11 else min(10, used) / 10,
        UNSET if spare is None else _PRE_EOL.get(spare, UNSET),
    )


def _number(file: Path, base: int) -> int | None:
    """The largest number in a file; eMMC tells one for each type of its memory."""
    try:
        return max((int(word, base) for word in file.read_text().split()), default=None)
    except (OSError, ValueError):
        return None  # not this kind of disk, or nothing that makes sense
