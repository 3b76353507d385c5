"""The spool on a disk that is full, and on one that takes nothing any more."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.proving import Proving
from agent.spool import memory
from tests.agent.spool_helper import NEXT_BOOT, SEGMENT, append, open_spool, payload, texts
from tests.agent.test_meter import reading

pytestmark = pytest.mark.needs_root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for ten segments."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={12 * SEGMENT}", "pantau-test", disk], check=True
    )
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def _fill(disk: Path) -> Path:
    """Leave no free block to anyone."""
    file = disk / "somebody-elses"
    while True:
        try:
            with file.open("ab", buffering=0) as out:
                out.write(bytes(SEGMENT))
        except OSError:
            return file


def test_on_a_full_disk_the_oldest_make_room_and_the_newest_are_stored(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool", segments=100)
    for i in range(4):
        append(spool, str(i), 3000)
    _fill(small_disk)
    names = [append(spool, str(i), 3000) for i in range(4, 7)]

    assert set(names) <= set(texts(small_disk / "spool"))
    assert len(texts(small_disk / "spool")) + spool.dropped == 7
    assert "the disk is full; older readings make room" in (spool.take_problem() or "")
    assert [seq for _, seq in names] == [5, 6, 7]
    spool.close()


def test_a_disk_that_was_full_before_we_started_keeps_readings_in_memory(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool")
    _fill(small_disk)
    first = append(spool, "a")
    second = append(spool, "b")

    assert (first[1], second) == (1, (first[0], 2))
    assert "cannot write: No space left on device; kept in memory" in (spool.take_problem() or "")
    assert spool.read(first[0], 1, 10, 1000) == [(1, payload("a")(1)), (2, payload("b")(2))]
    assert spool.unreleased == 2
    spool.close()


def test_once_there_is_room_again_readings_go_to_the_disk_and_those_in_memory_stay(
    small_disk: Path,
) -> None:
    spool = open_spool(small_disk / "spool")
    filler = _fill(small_disk)
    in_memory = append(spool, "a")
    filler.unlink()
    on_disk = append(spool, "b")

    assert on_disk[0] != in_memory[0]
    assert (small_disk / "spool" / "00000001.seg").exists()
    assert [s.stream for s in spool.streams()] == [in_memory[0], on_disk[0]]
    spool.release(in_memory[0], 1)
    assert [s.stream for s in spool.streams()] == [on_disk[0]]
    spool.close()


def test_memory_is_bounded_and_what_it_loses_is_counted(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool")
    _fill(small_disk)
    for i in range(memory.CAPACITY + 5):
        append(spool, str(i))

    held = spool.streams()[0]
    assert (held.oldest, held.end) == (6, memory.CAPACITY + 5)
    assert spool.dropped == 5
    spool.close()


def test_readings_in_memory_are_one_stream_whatever_the_server_has_of_them(
    small_disk: Path,
) -> None:
    spool = open_spool(small_disk / "spool")
    filler = _fill(small_disk)
    names = []
    for i in range(memory.CAPACITY + 5):
        names.append(append(spool, str(i)))
        spool.release(*names[-1])

    (stream, _) = names[0]
    assert names == [(stream, seq) for seq in range(1, memory.CAPACITY + 6)]
    assert (spool.unreleased, spool.dropped) == (0, 0)
    filler.unlink()
    on_disk = append(spool, "on disk")
    spool.release(*on_disk)
    assert [s.stream for s in spool.streams()] == [on_disk[0]]
    spool.close()


def test_a_broker_on_trial_proves_itself_also_while_the_disk_takes_nothing(
    small_disk: Path,
) -> None:
    spool = open_spool(small_disk / "spool")
    _fill(small_disk)
    stream, seq = append(spool, "taken under the trial")
    proving = Proving()
    proving.observe(7, stream, seq, replace(reading(), settings_revision=7))

    assert "broker" not in proving.proved(7, spool.streams())
    spool.release(stream, seq)
    assert "broker" in proving.proved(7, spool.streams())
    spool.close()


def test_of_streams_that_are_gone_no_position_is_kept(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool")
    for i in range(20):
        filler = _fill(small_disk)
        spool.release(*append(spool, f"{i} in memory"))
        filler.unlink()
        spool.release(*append(spool, f"{i} on disk", 3000))

    assert set(spool._released) == {s.stream for s in spool.streams()} | {spool._writer.stream}
    spool.close()


def test_a_disk_that_turns_read_only_keeps_the_agent_going(small_disk: Path) -> None:
    spool = open_spool(small_disk / "spool")
    before = append(spool, "a")
    spool.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    again = open_spool(small_disk / "spool")
    after = append(again, "b")

    assert "Read-only file system; kept in memory" in (again.take_problem() or "")
    assert [s.stream for s in again.streams()] == [before[0], after[0]]
    assert after[0] != before[0]
    again.close()


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def test_what_a_read_only_disk_does_not_let_us_set_aside_stays_and_keeps_its_number(
    small_disk: Path,
) -> None:
    folder = small_disk / "spool"
    spool = open_spool(folder)
    names = [append(spool, str(i), 3000) for i in range(2)]
    spool.close()
    (folder / "00000001.seg").write_bytes(b"no segment")
    (folder / "00000007.seg").write_bytes(b"no segment either")
    (folder / "00000009.tmp").write_bytes(b"")
    _remount(small_disk, "ro")

    again = open_spool(folder)
    problem = again.take_problem() or ""
    assert "00000001.seg: bad header; cannot be set aside: Read-only file system" in problem
    assert "00000009.tmp: cannot be removed: Read-only file system" in problem
    in_memory = append(again, "in memory")
    assert [s.stream for s in again.streams()] == [names[1][0], in_memory[0]]
    assert in_memory[0] != names[1][0]

    _remount(small_disk, "rw")
    on_disk = append(again, "on disk")
    assert max(folder.glob("0*")).name == "00000010.seg"
    assert set(texts(folder)) == {names[1], on_disk}
    again.close()


def test_a_smaller_bound_that_a_read_only_disk_cannot_meet_does_not_stop_the_agent(
    small_disk: Path,
) -> None:
    spool = open_spool(small_disk / "spool")
    names = [append(spool, str(i), 3000) for i in range(4)]
    spool.close()
    _remount(small_disk, "ro")

    again = open_spool(small_disk / "spool", boot=NEXT_BOOT, segments=2)
    assert again.take_problem() == "cannot make room: Read-only file system"
    name = append(again, "in memory")
    assert [s.stream for s in again.streams()] == [names[0][0], name[0]]
    again.close()
