"""Disk images as a vendor ships them: a partition table, a FAT boot partition, an ext4 root."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.lab.net import sh

_COPY_S = 600.0
BOOT_BEGIN = 4 * 2**20


def root_begin(boot_mb: int) -> int:
    """Where the root partition begins, in bytes."""
    return BOOT_BEGIN + boot_mb * 2**20


def partitioned(
    file: Path, root: Path, *, boot_mb: int, root_mb: int, boot_files: Sequence[Path] = ()
) -> None:
    """Make `file` an image with `root` in its second partition.

    Args:
        file: the image, made anew.
        root: a folder, copied with owners and modes.
        boot_mb: size of the boot partition, MiB.
        root_mb: size of the root partition, MiB.
        boot_files: what lies in the boot partition, if anything; a FAT, as firmware reads it.
    """
    begin = root_begin(boot_mb)
    rows = [(0x0C, BOOT_BEGIN // 512, boot_mb * 2048), (0x83, begin // 512, root_mb * 2048)]
    table = b"".join(
        struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", first, sectors)
        for kind, first, sectors in rows
    )
    ext4 = file.with_suffix(".ext4")
    sh("mkfs.ext4", "-q", "-d", str(root), str(ext4), f"{root_mb}M", within_s=_COPY_S)
    with file.open("wb") as disk:
        disk.write(bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa")
        disk.truncate(begin + root_mb * 2**20)
    sh("dd", f"if={ext4}", f"of={file}", "bs=4M", f"seek={begin}", "oflag=seek_bytes",
       "conv=sparse,notrunc", "status=none", within_s=_COPY_S)  # fmt: skip
    ext4.unlink()
    if boot_files:
        fat = f"{file}@@{BOOT_BEGIN}"
        sh("mformat", "-i", fat, "-T", str(boot_mb * 2048), "-v", "bootfs", "::")
        sh("mcopy", "-i", fat, *map(str, boot_files), "::", within_s=_COPY_S)


def from_boot(image: Path, names: Sequence[str], folder: Path) -> None:
    """Copy files of an image's boot partition into `folder`, as firmware reads them."""
    sh("mcopy", "-n", "-o", "-i", f"{image}@@{BOOT_BEGIN}", *(f"::{name}" for name in names),
       str(folder), within_s=_COPY_S)  # fmt: skip
