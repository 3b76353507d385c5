"""Disk images and mounted roots: where the root file system is, and what system it holds."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x28: "armv7l", 0x03: "i686", 0xF3: "riscv64"}
"""ELF's e_machine, by the name that uname -m has for it."""


class ImageError(Exception):
    """What is wrong with a card, with the mend."""


@dataclass(frozen=True)
class System:
    """What a root file system says of itself."""

    architecture: str
    python: str
    network: str  # "NetworkManager" or "networkd"
    free_mb: int


@contextmanager
def mounted(card: Path, *, write: bool) -> Iterator[Path]:
    """The root of a card: the folder itself, or the image's last ext4, mounted for us alone.

    The mount is in a namespace of this process: it ends with it, however that ends.

    Raises:
        ImageError: no image, or none with such a root.
    """
    if card.is_dir():
        yield card
        return
    begin, size = partition(card)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise ImageError(f"{card}: only root may mount it; run the play with --ask-become-pass")
    _run(card, "mount", "--make-rprivate", "/")
    with tempfile.TemporaryDirectory(prefix="pantau-card-") as folder:
        how = "loop" if write else "loop,ro,noload"
        options = f"{how},offset={begin},sizelimit={size}"
        _run(card, "mount", "-t", "ext4", "-o", options, str(card), folder)
        try:
            yield Path(folder)
        finally:
            _run(card, "umount", folder)


def partition(image: Path) -> tuple[int, int]:
    """Where the image's last ext4 begins, and its size, in bytes."""
    end = image.stat().st_size
    done = subprocess.run(
        ["partx", "--raw", "--noheadings", "--output", "START,SECTORS", str(image)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    table = [tuple(512 * int(cell) for cell in row.split()) for row in done.stdout.splitlines()]
    found = [(begin, size) for begin, size in table if size and _is_ext4(image, begin)]
    if not found:
        raise ImageError(
            f"{image}: holds no partition with ext4; take the image of Raspberry Pi OS, unpacked"
            " (xz -d, unzip)"
        )
    begin, size = found[-1]
    if begin + size > end:
        raise ImageError(f"{image}: ends within its root partition; download or copy it again")
    return begin, size


def system(root: Path, card: Path) -> System:
    """What is installed there, read from its files.

    Raises:
        ImageError: not what an agent runs on.
    """
    python = root / "usr/bin/python3"
    if not (root / "etc/os-release").exists():
        raise ImageError(f"{card}: is no root of a system (etc/os-release is not there); mount the"
                         " card's second partition and name that folder")  # fmt: skip
    if not any((root / lib / "systemd/systemd").exists() for lib in ("lib", "usr/lib")):
        raise ImageError(f"{card}: has no systemd; take Raspberry Pi OS or Debian")
    version = re.fullmatch(r"python(3\.\d+)", _link(python))
    if version is None:
        raise ImageError(f"{card}: has no Python; take Raspberry Pi OS or Debian 12")
    if not (root / "usr/sbin/sshd").exists():
        raise ImageError(f"{card}: has no ssh server; take Raspberry Pi OS, or install it there")
    there = os.statvfs(root)
    return System(
        architecture=_architecture(python.with_name(version[0]), card),
        python=version[1],
        network="NetworkManager" if (root / "usr/sbin/NetworkManager").exists() else "networkd",
        free_mb=there.f_bavail * there.f_frsize // 2**20,
    )


def _link(file: Path) -> str:
    try:
        return os.path.basename(os.readlink(file))  # noqa: PTH115, PTH119 — only its words count
    except OSError:
        return ""


def _architecture(program: Path, card: Path) -> str:
    try:
        with program.open("rb") as file:
            head = file.read(20)
        magic, machine = head[:4], struct.unpack("<H", head[18:20])[0]
    except (OSError, struct.error) as err:
        raise ImageError(f"{card}: its Python cannot be read: {err}; take a fresh image") from None
    if magic != b"\x7fELF" or machine not in _MACHINES:
        raise ImageError(f"{card}: its Python is for an unknown machine; take a fresh image")
    return _MACHINES[machine]


def _is_ext4(image: Path, begin: int) -> bool:
    with image.open("rb") as file:
        file.seek(begin + 1024 + 56)
        return file.read(2) == b"\x53\xef"


def _run(card: Path, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{card}: {done.stderr.strip()}; take a fresh image, as root")
