"""``pantau backup`` and ``pantau restore`` on real files: whole, or refused in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from server import cli
from server.store import copy as copying
from server.store import open_store
from tests.server.centre import Centre, home
from tests.server.made import SITE, Device
from tests.wait import until

ROOT = Path(__file__).parents[2]


class Desk:
    """A centre with a few readings, and the commands on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.file = folder / "city.backup"
        self.config = folder / "server.toml"
        self.config.write_text(f'[store]\nurl = "sqlite://{folder}/pantau.db"\n')
        self.device = Device()
        self.centre: Centre = home(folder)
        self.hears(3)

    def hears(self, count: int) -> None:
        """So many more readings, committed."""
        for _ in range(count):
            self.centre.hears(self.device.live(1000.0 + 60 * self.device.seq))

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        code = cli.main([*map(str, words), "--config", str(self.config)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def refused(self, *words: str | Path) -> str:
        """The one line of a command that fails with 1."""
        code, out, err = self.run(*words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        return err

    def does(self, *words: str | Path) -> str:
        """What a command says that succeeds."""
        code, out, err = self.run(*words)
        assert (code, err) == (0, "")
        return out

    def stored(self) -> list[int]:
        """The seqs in the database as it lies there now."""
        with closing(open_store(self.centre.url)) as store:
            return [row.seq for _, row in store.readings(SITE)]

    def files(self) -> set[str]:
        """All names in the folder, but the log that SQLite keeps while it is open."""
        return {file.name for file in self.folder.iterdir() if not file.name.endswith("-shm")}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


class Packed(NamedTuple):
    """The members of a backup."""

    manifest: dict[str, object]
    members: dict[str, bytes]


def unpacked(file: Path) -> Packed:
    with tarfile.open(file) as tar:
        members = {one.name: (tar.extractfile(one) or sys.stdin.buffer).read() for one in tar}
    return Packed(json.loads(members["manifest.json"]), members)


def packed(file: Path, members: dict[str, bytes], **manifest: object) -> None:
    """A backup with another manifest."""
    told = json.loads(members["manifest.json"]) | manifest
    with tarfile.open(file, "w") as tar:
        for name, content in {**members, "manifest.json": json.dumps(told).encode()}.items():
            part = file.with_name("part")
            part.write_bytes(content)
            tar.add(part, name)
            part.unlink()


def test_what_comes_back_is_the_moment_of_the_backup(desk: Desk) -> None:
    desk.does("backup", desk.file)
    desk.hears(2)
    desk.centre.store.close()
    out = desk.does("restore", desk.file, "--force")

    assert desk.stored() == [1, 2, 3]
    [kept] = desk.folder.glob("pantau.db.before-*")
    assert str(kept) in out
    with closing(open_store(f"sqlite://{kept}")) as store:
        assert [row.seq for _, row in store.readings(SITE)] == [1, 2, 3, 4, 5]


def test_a_backup_is_for_its_owner_and_tells_what_it_is_and_holds_no_key(desk: Desk) -> None:
    before = desk.files()
    desk.does("backup", desk.file)

    assert desk.files() - before == {"city.backup"}
    assert desk.file.stat().st_mode & 0o777 == 0o600
    manifest, members = unpacked(desk.file)
    assert list(members) == ["manifest.json", "pantau.db", "server.toml"]
    assert members["server.toml"] == desk.config.read_bytes()
    assert manifest["schema"] == copying.newest_schema()
    assert manifest["bytes"] == len(members["pantau.db"])
    assert manifest["sha256"] == hashlib.sha256(members["pantau.db"]).hexdigest()


def test_writers_go_on_between_the_steps_and_the_copy_is_of_one_moment(desk: Desk) -> None:
    with desk.centre.store.transaction():
        for _ in range(2000):  # so that there are several steps
            desk.centre.store.add_message(b"x" * 5000)
    written: list[int] = []

    def write() -> None:
        with desk.centre.store.transaction():
            desk.centre.store.quarantine(1000, "topic", "reason", b"")
        written.append(1)

    copying.copy(desk.centre.path, desk.folder / "copy.db", write)

    assert len(written) > 2
    assert len(list(desk.centre.store.quarantined())) == len(written)
    with closing(open_store(f"sqlite://{desk.folder}/copy.db")) as copied:
        assert list(copied.quarantined()) == []
        assert [row.seq for _, row in copied.readings(SITE)] == [1, 2, 3]


def test_a_process_that_ingests_all_the_while_is_copied_whole_again_and_again(
    tmp_path: Path,
) -> None:
    log, url = tmp_path / "log", f"sqlite://{tmp_path}/pantau.db"
    command = [sys.executable, "-m", "tests.server.store_writer", url, str(log)]
    writer = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        until(lambda: log.exists() and log.stat().st_size, 60, "the first batch")
        for number in range(3):
            before = log.stat().st_size
            copying.copy(tmp_path / "pantau.db", tmp_path / f"{number}.db")
            until(lambda size=before: log.stat().st_size > size, 60, "a batch after the copy")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            with closing(open_store(f"sqlite://{tmp_path}/{number}.db")) as store:
                for stream in store.streams():
                    held = [row.seq for _, row in store.readings(stream.site)]
                    assert [seq for seq in held if seq <= stream.seqs.through] == list(
                        range(1, stream.seqs.through + 1)
                    )
    finally:
        writer.kill()
        writer.wait()


def test_a_file_that_is_there_is_never_written_over(desk: Desk) -> None:
    desk.file.write_text("mine")

    assert "is there already; name another file" in desk.refused("backup", desk.file)
    assert desk.file.read_text() == "mine"


def test_without_a_database_or_a_folder_there_is_one_line(desk: Desk) -> None:
    nowhere = desk.folder / "none" / "city.backup"
    assert "No such file or directory" in desk.refused("backup", nowhere)
    desk.config.write_text(f'[store]\nurl = "sqlite://{desk.folder}/none.db"\n')
    assert "none.db; nothing to back up" in desk.refused("backup", desk.file)
    desk.config.write_text(f'[store]\nurl = "sqlite://{desk.folder}/none/pantau.db"\n')
    assert "none; make it, or mend store.url" in desk.refused("restore", desk.file)


def test_a_damaged_database_makes_no_backup(desk: Desk) -> None:
    desk.hears(40)
    desk.centre.store.close()
    with desk.centre.path.open("r+b") as data:
        data.seek(3 * 16384)
        data.write(b"\xff" * 16384)
    before = desk.files()

    assert "pantau.db" in desk.refused("backup", desk.file)
    assert desk.files() == before


def test_a_database_that_somebody_has_open_is_not_touched(desk: Desk) -> None:
    desk.does("backup", desk.file)
    desk.hears(1)
    other = open_store(desk.centre.url)

    line = desk.refused("restore", desk.file, "--force")
    assert "is in use; stop pantau-ingest and pantau-witness first" in line
    other.close()
    assert desk.stored() == [1, 2, 3, 4]


def test_data_is_kept_unless_it_is_said_and_an_empty_database_is_no_data(desk: Desk) -> None:
    desk.does("backup", desk.file)
    desk.centre.store.close()
    assert "holds data; with --force it is kept" in desk.refused("restore", desk.file)
    assert desk.stored() == [1, 2, 3]

    desk.centre.path.unlink()
    open_store(desk.centre.url).close()
    desk.does("restore", desk.file)
    assert desk.stored() == [1, 2, 3]


def test_a_damaged_database_is_kept_aside_and_replaced(desk: Desk) -> None:
    desk.does("backup", desk.file)
    desk.centre.store.close()
    desk.centre.path.write_bytes(b"no database at all" * 1000)
    desk.does("restore", desk.file, "--force")

    assert desk.stored() == [1, 2, 3]
    [kept] = desk.folder.glob("pantau.db.before-*")
    assert kept.read_bytes().startswith(b"no database at all")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9])
def test_a_file_that_ends_too_early_changes_nothing(desk: Desk, share: float) -> None:
    desk.does("backup", desk.file)
    desk.centre.store.close()
    content = desk.file.read_bytes()
    desk.file.write_bytes(content[: int(share * len(content))])
    before = desk.files()

    assert "damaged" in desk.refused("restore", desk.file, "--force")
    assert desk.files() == before
    assert desk.stored() == [1, 2, 3]


def test_one_changed_byte_is_found(desk: Desk) -> None:
    desk.does("backup", desk.file)
    desk.centre.store.close()
    content = bytearray(desk.file.read_bytes())
    content[len(content) // 2] ^= 1
    desk.file.write_bytes(content)

    line = desk.refused("restore", desk.file, "--force")
    assert "is damaged: its checksum is another; take another backup" in line
    assert desk.stored() == [1, 2, 3]


@pytest.mark.parametrize("key", ["format", "schema"])
def test_a_backup_of_a_newer_version_is_refused_and_an_older_schema_is_taken(
    desk: Desk, key: str
) -> None:
    desk.does("backup", desk.file)
    desk.centre.store.close()
    newer = {key: 1000, "pantau": "9.0.0"}
    packed(desk.file, unpacked(desk.file).members, **newer)

    line = desk.refused("restore", desk.file, "--force")
    assert "is of Pantau 9.0.0, newer than this; upgrade this one" in line
    assert desk.stored() == [1, 2, 3]


def test_what_is_no_backup_is_refused(desk: Desk) -> None:
    desk.centre.store.close()
    with tarfile.open(desk.file, "w") as tar:
        tar.add(desk.config, "server.toml")
    assert "is no backup of Pantau" in desk.refused("restore", desk.file, "--force")
    desk.file.write_bytes(desk.centre.path.read_bytes())
    assert "is no backup of Pantau" in desk.refused("restore", desk.file, "--force")
    desk.file.unlink()
    assert "No such file or directory" in desk.refused("restore", desk.file, "--force")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.needs_root
def test_without_room_nothing_is_begun(desk: Desk, small_disk: Path) -> None:
    with desk.centre.store.transaction():
        desk.centre.store.add_message(b"x" * 3_000_000)
    assert "2 MB are free" in desk.refused("backup", small_disk / "city.backup")
    desk.does("backup", desk.file)
    desk.config.write_text(f'[store]\nurl = "sqlite://{small_disk}/pantau.db"\n')
    assert "are needed; make room" in desk.refused("restore", desk.file)
    assert list(small_disk.iterdir()) == []


@pytest.mark.needs_root
def test_root_restores_for_the_user_who_owns_the_folder(desk: Desk) -> None:
    desk.does("backup", desk.file)
    desk.centre.store.close()
    desk.centre.path.unlink()
    shutil.chown(desk.folder, 12345, 12345)
    desk.does("restore", desk.file)

    status = desk.centre.path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 12345, 0o640)


def test_the_copy_is_complete_in_one_file(desk: Desk) -> None:
    desk.does("backup", desk.file)
    alone = desk.folder / "alone.db"
    alone.write_bytes(unpacked(desk.file).members["pantau.db"])
    with closing(sqlite3.connect(alone)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("SELECT count(*) FROM readings").fetchone() == (3,)
