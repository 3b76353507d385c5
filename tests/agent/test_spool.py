"""The spool on a healthy disk: order, bounds, releases, restarts, one agent only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.spool import Spool, SpoolError
from tests.agent.spool_helper import (
    NEXT_BOOT,
    SEGMENT,
    abandon,
    append,
    open_spool,
    payload,
    texts,
)


def test_the_first_reading_of_a_new_spool_has_seq_one(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)

    assert append(spool, "a")[1] == 1
    assert append(spool, "b")[1] == 2
    assert [(s.oldest, s.end, s.through) for s in spool.streams()] == [(1, 2, 0)]


def test_what_was_appended_is_read_back_within_the_bounds(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    names = [append(spool, str(i), 500) for i in range(30)]
    stream = names[0][0]

    assert [seq for seq, _ in spool.read(stream, 1, 100, 10**6)] == list(range(1, 31))
    assert [seq for seq, _ in spool.read(stream, 5, 3, 10**6)] == [5, 6, 7]
    assert [seq for seq, _ in spool.read(stream, 5, 100, 1100)] == [5, 6]
    assert [seq for seq, _ in spool.read(stream, 5, 100, 1)] == [5]
    assert spool.read(stream, 31, 100, 10**6) == []
    assert spool.read("another", 1, 100, 10**6) == []


def test_a_reading_larger_than_a_segment_is_stored(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    stream, seq = append(spool, "large", 3 * SEGMENT)

    assert spool.read(stream, seq, 1, 1) == [(seq, payload("large", 3 * SEGMENT)(seq))]


@pytest.mark.parametrize("boot_after", ["11111111-1111-4111-8111-111111111111", NEXT_BOOT])
def test_a_spool_closed_in_order_goes_on_with_its_stream(tmp_path: Path, boot_after: str) -> None:
    spool = open_spool(tmp_path)
    stream, seq = append(spool, "a")
    spool.close()

    again = open_spool(tmp_path, boot=boot_after)

    assert append(again, "b") == (stream, seq + 1)


def test_after_a_kill_in_the_same_boot_the_stream_goes_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    stream, seq = append(spool, "a")
    abandon(spool)

    assert append(open_spool(tmp_path), "b") == (stream, seq + 1)


def test_after_a_power_cut_a_new_stream_begins_and_the_old_one_stays_readable(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path)
    old, seq = append(spool, "a")
    abandon(spool)

    again = open_spool(tmp_path, boot=NEXT_BOOT)
    new, first = append(again, "b")

    assert new != old
    assert first == 1
    assert [s.stream for s in again.streams()] == [old, new]
    assert again.read(old, seq, 1, 1) == [(seq, payload("a")(seq))]


def test_a_stream_continued_after_an_orderly_close_is_uncertain_after_a_power_cut(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path)
    stream, _ = append(spool, "a")
    spool.close()
    again = open_spool(tmp_path, boot=NEXT_BOOT)
    append(again, "b")
    abandon(again)

    third = open_spool(tmp_path, boot="33333333-3333-4333-8333-333333333333")

    assert append(third, "c")[0] != stream


def test_a_copied_spool_begins_a_new_stream(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "a")
    stream, seq = append(spool, "a")
    spool.close()
    subprocess.run(["cp", "-a", tmp_path / "a", tmp_path / "b"], check=True)

    copy = open_spool(tmp_path / "b")
    original = open_spool(tmp_path / "a")

    assert append(original, "mine") == (stream, seq + 1)
    assert append(copy, "theirs")[0] != stream
    assert copy.read(stream, seq, 1, 1) == [(seq, payload("a")(seq))]


def test_an_ack_beyond_our_end_says_that_our_seqs_are_taken(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    stream, seq = append(spool, "a")

    spool.release(stream, seq + 5)

    assert append(spool, "b")[0] != stream


def test_a_full_segment_whose_successor_is_gone_is_never_gone_on_in(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    before = [append(spool, str(i), 600) for i in range(8)]
    spool.close()
    newest = max(tmp_path.glob("*.seg"))
    assert newest.name != "00000001.seg"
    newest.unlink()

    again = open_spool(tmp_path)

    assert append(again, "after")[0] != before[0][0]


def test_a_second_agent_is_refused_with_one_line(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    append(spool, "a")

    with pytest.raises(SpoolError, match=r"another pantau-agent uses it; stop that one first$"):
        open_spool(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SpoolError, match=r"file/spool: Not a directory; mend spool.path"):
        open_spool(tmp_path / "file" / "spool")


def test_released_readings_are_kept_while_there_is_room(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    stream, seq = append(spool, "a")
    spool.release(stream, seq)

    assert spool.unreleased == 0
    assert len(spool.read(stream, 1, 1, 1)) == 1


def test_a_release_may_go_back(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for i in range(5):
        stream, _ = append(spool, str(i))
    spool.release(stream, 5)
    spool.release(stream, 2)

    assert spool.unreleased == 3
    assert spool.streams()[0].through == 2


def test_released_positions_survive_an_orderly_restart(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for i in range(5):
        stream, _ = append(spool, str(i))
    spool.release(stream, 4)
    spool.close()

    assert open_spool(tmp_path).streams()[0].through == 4


@pytest.mark.parametrize("stored", [b"", b"[]", b'{"released": 7, "dropped": 0}', b"\xff"])
def test_broken_positions_cost_a_second_delivery_and_nothing_else(
    tmp_path: Path, stored: bytes
) -> None:
    spool = open_spool(tmp_path)
    stream, seq = append(spool, "a")
    spool.release(stream, seq)
    spool.close()
    (tmp_path / "positions.json").write_bytes(stored)

    again = open_spool(tmp_path)

    assert again.streams()[0].through == 0
    assert append(again, "b") == (stream, seq + 1)


def test_released_segments_go_before_older_ones_that_wait(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segments=4)
    waiting, _ = append(spool, "waiting", 3000)
    abandon(spool)
    again = open_spool(tmp_path, segments=4, boot=NEXT_BOOT)
    for i in range(6):
        stream, seq = append(again, str(i), 3000)
        again.release(stream, seq)

    assert again.dropped == 0
    assert len(again.read(waiting, 1, 1, 1)) == 1


def test_a_segment_that_somebody_removed_does_not_keep_the_agent_from_its_disk(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path, segments=3)
    names = [append(spool, str(i), 3000) for i in range(2)]
    min(tmp_path.glob("*.seg")).unlink()
    names += [append(spool, str(i), 3000) for i in range(2, 6)]

    assert set(texts(tmp_path)) == set(names[-3:])
    assert "cannot write" not in (spool.take_problem() or "")
    assert spool.dropped == 3
    spool.close()


def test_the_oldest_go_when_nothing_is_released_and_are_counted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segments=4)
    for i in range(10):
        append(spool, str(i), 3000)

    held = spool.streams()[0]
    assert (held.oldest, held.end) == (7, 10)
    assert spool.dropped == 6
    assert _bytes(tmp_path) <= 4 * SEGMENT


def test_the_count_of_dropped_readings_survives_a_restart(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segments=4)
    for i in range(10):
        append(spool, str(i), 3000)
    abandon(spool)

    assert open_spool(tmp_path, segments=4).dropped == 6


def test_a_smaller_bound_is_met_at_the_next_start(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segments=10)
    for i in range(10):
        append(spool, str(i), 3000)
    spool.close()

    open_spool(tmp_path, segments=4)

    assert _bytes(tmp_path) <= 4 * SEGMENT


def test_a_long_life_of_restarts_without_readings_writes_nothing_more(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    stream, _ = append(spool, "a")
    spool.close()
    for _ in range(50):
        open_spool(tmp_path).close()

    again = open_spool(tmp_path)
    assert append(again, "b") == (stream, 2)
    assert len(list(tmp_path.glob("*.seg"))) == 1


def test_many_restarts_with_readings_fill_segments_in_order(tmp_path: Path) -> None:
    names = []
    for i in range(120):
        spool = open_spool(tmp_path, boot=f"{i % 3:08d}-1111-4111-8111-111111111111")
        names.append(append(spool, str(i), 100))
        spool.close()

    assert [seq for _, seq in names] == list(range(1, 121))
    assert set(texts(tmp_path)) == set(names)


def test_the_folder_can_be_listed_beside_the_agent_and_is_left_alone(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    stream, _ = append(spool, "a")
    append(spool, "b")
    before = sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir())

    listed = subprocess.run(
        [sys.executable, "-m", "agent.spool", tmp_path], capture_output=True, text=True, check=True
    )

    lines = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(line["stream"], line["seq"], line["reading"]["text"]) for line in lines] == [
        (stream, 1, "a"),
        (stream, 2, "b"),
    ]
    assert sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir()) == before


def test_one_reading_is_one_write_into_a_file_that_does_not_grow(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 16 * SEGMENT, boot=NEXT_BOOT, segment_bytes=SEGMENT)
    append(spool, "a")
    file = tmp_path / "00000001.seg"
    blocks, size = file.stat().st_blocks, file.stat().st_size
    for i in range(10):
        append(spool, str(i))

    assert (file.stat().st_blocks, file.stat().st_size) == (blocks, size)


def _bytes(path: Path) -> int:
    return sum(f.stat().st_size for f in path.iterdir() if f.suffix in (".seg", ".corrupt"))
