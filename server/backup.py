"""``pantau backup`` and ``pantau restore``: the database as one file, and back.

The file is a tar of ``manifest.json``, ``pantau.db`` and ``server.toml``. No key is in it: a
new machine gets new ones from the authority, which lies on the controller.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec

from agent.wire import iso
from server import config
from server.show import CommandError
from server.store import StoreError, path_of
from server.store import copy as copying

_FORMAT = 1
_MANIFEST, _DATABASE, _CONFIG = "manifest.json", "pantau.db", "server.toml"
_BLOCK = 1 << 20
_SPARE_BYTES = 16 << 20
"""Beyond the database itself: what ingest needs at its start."""


class Manifest(msgspec.Struct, kw_only=True):
    """The first member of a backup."""

    format: int
    pantau: str
    schema: int
    at: str
    """The moment whose state it is."""
    bytes: int
    sha256: str


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The two commands."""
    backup = commands.add_parser("backup", help="the database into a file, while ingest runs")
    backup.add_argument("file", metavar="FILE", type=Path, help="a file that is not there yet")
    backup.set_defaults(run=run_backup)
    restore = commands.add_parser("restore", help="the database out of such a file")
    restore.add_argument("file", metavar="FILE", type=Path, help="made by 'pantau backup'")
    restore.add_argument(
        "--force", action="store_true", help="also where data is; it is kept under another name"
    )
    restore.set_defaults(run=run_restore)


def run_backup(args: argparse.Namespace) -> int:
    """Write a backup; gives the exit code.

    Raises:
        CommandError: the file is there already or cannot be written.
        StoreError: no database, or a damaged one.
    """
    file: Path = args.file
    if file.exists():
        raise CommandError(f"{file} is there already; name another file")
    source = path_of(config.load(args.config).store.url)
    with _told(file), TemporaryDirectory(prefix=".pantau-backup-", dir=file.parent) as own:
        copied, packed = Path(own) / _DATABASE, Path(own) / file.name
        _need_room(file.parent, 2 * _size(source))  # the copy, and the file it goes into
        made = copying.copy(source, copied)
        manifest = Manifest(
            format=_FORMAT,
            pantau=_version(),
            schema=made.schema,
            at=iso(made.at),
            bytes=copied.stat().st_size,
            sha256=_digest(copied),
        )
        with tarfile.open(packed, "x") as tar:
            _add(tar, _MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            tar.add(copied, _DATABASE)
            tar.add(args.config, _CONFIG)
        packed.chmod(0o600)  # who had service when is not for everybody
        _sync(packed)
        packed.rename(file)
        _sync(file.parent)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, as of {manifest.at}")
    return 0


def run_restore(args: argparse.Namespace) -> int:
    """Put the database of a backup in place; gives the exit code.

    Raises:
        CommandError: the file is no backup, damaged or of a newer version, there is no
            room, or there is data and no ``--force``.
        StoreError: somebody has the database open.
    """
    target = path_of(config.load(args.config).store.url)
    new = target.with_name(f".{target.name}.restoring")
    if not target.parent.is_dir():
        raise CommandError(f"no folder {target.parent}; make it, or mend store.url")
    with _opened(args.file) as tar:
        manifest = _manifest(tar, args.file)
        with copying.out_of_use(target) as holds, _told(target):
            if holds and not args.force:
                raise CommandError(
                    f"{target} holds data; with --force it is kept under another name"
                )
            _need_room(target.parent, manifest.bytes + _SPARE_BYTES)
            try:
                _extract(tar, manifest, args.file, new)
                _give_to_owner(new, target if target.exists() else target.parent)
                mark = datetime.now(UTC).strftime(".before-%Y%m%dT%H%M%S.%f")
                aside = copying.move_aside(target, mark)
                new.rename(target)
                _sync(target.parent)
            finally:
                new.unlink(missing_ok=True)
    if aside is not None:
        print(f"kept what was there as {aside}")
    print(f"{target}: restored, as of {manifest.at}; start pantau-ingest")
    return 0


def _size(database: Path) -> int:
    """Also of what is not yet in the database's own file."""
    parts = (database, Path(f"{database}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def _version() -> str:
    from importlib.metadata import version

    return version("pantau")


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """What the system refuses, in one line."""
    try:
        yield
    except OSError as err:
        raise CommandError(f"{place}: {err.strerror or err}") from None


def _need_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CommandError(
            f"{folder}: {free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed; make room"
        )


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(file, "r:")  # noqa: SIM115  # closed below; errors of opening are ours
    except tarfile.TarError:
        raise CommandError(f"{file} is no backup of Pantau, or damaged") from None
    except OSError as err:
        raise CommandError(f"{file}: {err.strerror}") from None
    with tar:
        yield tar


def _manifest(tar: tarfile.TarFile, file: Path) -> Manifest:
    try:
        first = tar.extractfile(_MANIFEST)
        raw = b"" if first is None else first.read(_BLOCK)
        told = msgspec.json.decode(raw, type=Manifest)
    except (KeyError, tarfile.TarError, msgspec.MsgspecError):
        raise CommandError(f"{file} is no backup of Pantau, or damaged") from None
    if told.format > _FORMAT or told.schema > copying.newest_schema():
        raise CommandError(f"{file} is of Pantau {told.pantau}, newer than this; upgrade this one")
    return told


def _extract(tar: tarfile.TarFile, manifest: Manifest, file: Path, new: Path) -> None:
    """The database to a file of its own, if it is the one that was backed up."""
    try:
        packed = tar.extractfile(_DATABASE)
        if packed is None:
            raise KeyError(_DATABASE)
        with packed, new.open("wb") as out:
            new.chmod(0o640)
            shutil.copyfileobj(packed, out, _BLOCK)
    except (KeyError, tarfile.TarError):
        raise CommandError(f"{file} is damaged: it ends too early; take another backup") from None
    if _digest(new) != manifest.sha256:
        raise CommandError(f"{file} is damaged: its checksum is another; take another backup")
    _sync(new)


def _give_to_owner(new: Path, like: Path) -> None:
    """Root restores for the user whom ingest runs as."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(new, owner.st_uid, owner.st_gid)


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
    body: IO[bytes] = io.BytesIO(content)
    tar.addfile(info, body)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


__all__ = ["CommandError", "Manifest", "StoreError", "add_arguments", "run_backup", "run_restore"]
