"""What the file system under the spool adds to its wear, and how to have it add less.

A write changes the file's time. ext4 writes that down within 5 s in a commit of its journal:
12 KB and two flushes for each window. Nothing that a program does avoids it, nor does
``lazytime`` on Linux 6.6 and later, where each new time counts the inode's version up. With a
long commit interval (mount option ``commit``) many windows share one.
"""

from __future__ import annotations

import os
from pathlib import Path

_LONG_ENOUGH_S = 600
_DEFAULT_S = 5


def advice(path: Path) -> str | None:
    """What to change about the mount that holds `path`, in one line; None where nothing.

    A folder that is not there yet will be where its nearest parent is.
    """
    try:
        device = next(place for place in (path, *path.parents) if place.exists()).stat().st_dev
        mounted = Path("/proc/self/mountinfo").read_text(errors="replace")
    except (OSError, StopIteration):
        return None
    return advice_on(mounted, f"{os.major(device)}:{os.minor(device)}")


def advice_on(mountinfo: str, number: str) -> str | None:
    """The same for the device with this ``major:minor`` (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        mount, system = fields.split(), rest.split()
        if len(mount) < 5 or len(system) < 3 or mount[2] != number or system[0] != "ext4":
            continue
        commit_s = _commit_s(system[2].split(","))
        if commit_s < _LONG_ENOUGH_S:
            return (
                f"{mount[4]} is an ext4 with commit={commit_s}: each window costs the card"
                " 12 KB and 2 flushes more than it must; mount it with commit=1800"
            )
        return None
    return None


def _commit_s(options: list[str]) -> int:
    for option in options:
        name, _, value = option.partition("=")
        if name == "commit" and value.isdigit():
            return int(value)
    return _DEFAULT_S
