"""The spool on a disk that lost or changed something: cut, torn, flipped, copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.spool import segment
from tests.agent.spool_helper import (
    BOOT,
    NEXT_BOOT,
    SEGMENT,
    abandon,
    append,
    open_spool,
    payload,
    texts,
)

GARBAGE = bytes(range(256)) * (SEGMENT // 256)
Names = dict[tuple[str, int], bytes]


def _write(path: Path, texts_of: str, size: int = 60) -> Names:
    """Append one reading for each letter, then die; by name what was appended."""
    spool = open_spool(path)
    written: Names = {}
    for letter in texts_of:
        name = append(spool, letter, size)
        written[name] = payload(letter, size)(name[1])
    abandon(spool)
    return written


def _check_no_name_is_reused(path: Path, written: Names, boot: str) -> Names:
    """Go on after the damage; what is held then."""
    spool = open_spool(path, boot=boot)
    for text in ("after", "and after"):
        name = append(spool, text)
        assert name not in written
        written = {**written, name: payload(text)(name[1])}
    held = texts(path)
    for name, data in held.items():
        assert data == written[name]
    abandon(spool)
    return held


def _last_record(path: Path) -> tuple[Path, int, int]:
    """The newest segment, and where its last record begins and ends."""
    file = max(path.glob("*.seg"))
    loaded = segment.load(file)
    assert loaded is not None
    return file, loaded.offsets[-1], loaded.write_at


@pytest.mark.parametrize("boot", [BOOT, NEXT_BOOT])
def test_a_file_cut_off_at_every_byte_of_its_last_record(tmp_path: Path, boot: str) -> None:
    written = _write(tmp_path / "0", "abc")
    _, begin, end = _last_record(tmp_path / "0")
    for cut in range(begin, end):
        path = tmp_path / str(cut)
        written = _write(path, "abc")
        file, _, _ = _last_record(path)
        with file.open("r+b") as out:
            out.truncate(cut)

        held = _check_no_name_is_reused(path, written, boot)

        assert set(written) - set(held) == {max(written)}


@pytest.mark.parametrize("boot", [BOOT, NEXT_BOOT])
def test_a_last_record_of_which_only_a_beginning_reached_the_disk(
    tmp_path: Path, boot: str
) -> None:
    _write(tmp_path / "0", "abc")
    _, begin, end = _last_record(tmp_path / "0")
    for cut in range(begin + 1, end):
        path = tmp_path / str(cut)
        written = _write(path, "abc")
        file, _, _ = _last_record(path)
        data = bytearray(file.read_bytes())
        data[cut:end] = bytes(end - cut)
        with file.open("r+b") as out:
            out.write(data)

        held = _check_no_name_is_reused(path, written, boot)

        # padding of zeros at its end is all that a record may lose unseen
        assert set(written) - set(held) <= {max(written)}


def test_a_power_cut_that_lost_the_whole_last_record_begins_a_new_stream(tmp_path: Path) -> None:
    written = _write(tmp_path, "abc")
    file, begin, end = _last_record(tmp_path)
    with file.open("r+b") as out:
        out.seek(begin)
        out.write(bytes(end - begin))

    held = _check_no_name_is_reused(tmp_path, written, NEXT_BOOT)

    assert len(held) == 4


def test_a_flipped_byte_anywhere_costs_readings_but_never_a_name(tmp_path: Path) -> None:
    _write(tmp_path / "0", "abcd")
    _, _, end = _last_record(tmp_path / "0")
    for place in range(0, end, 3):
        path = tmp_path / f"at-{place}"
        written = _write(path, "abcd")
        file, _, _ = _last_record(path)
        data = bytearray(file.read_bytes())
        data[place] ^= 0x10
        with file.open("r+b") as out:
            out.write(data)

        _check_no_name_is_reused(path, written, BOOT)


def test_garbage_for_a_segment_is_set_aside_and_reported(tmp_path: Path) -> None:
    written = _write(tmp_path, "abcdefgh", 1000)
    first = min(tmp_path.glob("*.seg"))
    first.write_bytes(GARBAGE)

    spool = open_spool(tmp_path)

    assert spool.take_problem() == "00000001.seg: bad header; set aside"
    assert (tmp_path / "00000001.corrupt").exists()
    assert append(spool, "after") not in written
    assert [s.end for s in spool.streams()] == [9]


def test_a_damaged_record_in_the_middle_is_reported_once_and_its_file_kept(tmp_path: Path) -> None:
    written = _write(tmp_path, "abcdefgh", 1000)
    (stream, _), *_ = written
    first = min(tmp_path.glob("*.seg"))
    loaded = segment.load(first)
    assert loaded is not None
    with first.open("r+b") as out:
        out.seek(loaded.offsets[1] + 30)
        out.write(b"XXXX")

    spool = open_spool(tmp_path)
    abandon(spool)
    again = open_spool(tmp_path)

    assert spool.take_problem() == "00000001.seg: damaged; 2 readings after 1 lost"
    assert again.take_problem() is None
    assert (tmp_path / "00000001.corrupt").exists()
    assert (spool.dropped, again.dropped) == (2, 0)
    assert [seq for seq, _ in again.read(stream, 1, 100, 10**6)] == [1, 4, 5, 6, 7, 8]


def test_a_hole_does_not_hold_up_the_acks_once_what_lies_below_is_released(
    tmp_path: Path,
) -> None:
    _write(tmp_path, "abcdefgh", 1000)
    first = min(tmp_path.glob("*.seg"))
    loaded = segment.load(first)
    assert loaded is not None
    with first.open("r+b") as out:
        out.seek(loaded.offsets[2] + 30)
        out.write(b"XXXX")
    spool = open_spool(tmp_path)
    stream = spool.streams()[0].stream

    assert spool.streams()[0].oldest == 1
    spool.release(stream, 2)
    assert spool.streams()[0].oldest == 4
    spool.release(stream, 1)
    assert spool.streams()[0].oldest == 1


def test_a_record_that_rots_while_the_agent_runs_is_lost_alone_with_what_follows_it_there(
    tmp_path: Path,
) -> None:
    spool = open_spool(tmp_path)
    for letter in "abcdefgh":
        stream, _ = append(spool, letter, 1000)
    file = min(tmp_path.glob("*.seg"))
    loaded = segment.load(file)
    assert loaded is not None
    with file.open("r+b") as out:
        out.seek(loaded.offsets[1] + 30)
        out.write(b"XXXX")

    assert [seq for seq, _ in spool.read(stream, 1, 100, 10**6)] == [1, 4, 5, 6, 7, 8]
    assert spool.dropped == 2
    assert "00000001.seg: the record of seq 2 cannot be read" in (spool.take_problem() or "")


def test_damage_in_the_segment_that_is_written_ends_its_stream(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    written = {append(spool, letter) for letter in "abc"}
    (stream, _) = max(written)
    file = max(tmp_path.glob("*.seg"))
    loaded = segment.load(file)
    assert loaded is not None
    with file.open("r+b") as out:
        out.seek(loaded.offsets[1] + 30)
        out.write(b"XXXX")

    assert [seq for seq, _ in spool.read(stream, 1, 100, 10**6)] == [1]
    assert append(spool, "after") not in written


def test_corrupt_files_count_towards_the_bound_and_go_before_readings_that_wait(
    tmp_path: Path,
) -> None:
    (tmp_path / "00000001.seg").write_bytes(GARBAGE)
    spool = open_spool(tmp_path, segments=3)
    for i in range(3):
        append(spool, str(i), 3000)

    assert spool.dropped == 0
    assert sorted(file.suffix for file in tmp_path.glob("0*")) == [".seg"] * 3


@pytest.mark.parametrize("name", ["old.seg", "00000001 (copy).seg", "²²²²²²²².seg"])
def test_a_segment_whose_name_is_no_number_is_left_alone_and_reported(
    tmp_path: Path, name: str
) -> None:
    written = _write(tmp_path, "abcdefgh", 1000)
    newest = max(tmp_path.glob("*.seg"))
    newest.rename(tmp_path / name)
    whole = (tmp_path / name).read_bytes()

    spool = open_spool(tmp_path)
    assert spool.take_problem() == f"{name}: its name is no number; left alone"
    abandon(spool)
    held = _check_no_name_is_reused(tmp_path, written, BOOT)

    assert (tmp_path / name).read_bytes() == whole
    assert set(written) - set(held) == {name for name in written if name[1] > 6}


def test_behind_a_segment_that_was_renamed_no_seq_is_given_again(tmp_path: Path) -> None:
    """The one before it bears no seal where the power went between the two."""
    written = _write(tmp_path, "abc", 1000)
    first, unsealed = tmp_path / "00000001.seg", (tmp_path / "00000001.seg").read_bytes()
    written |= dict.fromkeys(_write(tmp_path, "de", 1000), b"")
    with first.open("r+b") as out:  # the same file, so it is no copy
        out.write(unsealed)
    (tmp_path / "00000002.seg").rename(tmp_path / "old.seg")

    spool = open_spool(tmp_path)
    assert append(spool, "after") not in written
    abandon(spool)


def test_what_an_interrupted_layout_left_behind_is_removed(tmp_path: Path) -> None:
    tmp_path.joinpath("00000001.tmp").write_bytes(bytes(SEGMENT))

    append(open_spool(tmp_path), "a")

    assert [file.name for file in tmp_path.glob("0*")] == ["00000001.seg"]


def test_damage_that_is_left_out_of_the_listing_does_not_stop_it(tmp_path: Path) -> None:
    written = _write(tmp_path, "abcdefgh", 1000)
    min(tmp_path.glob("*.seg")).write_bytes(b"no segment")

    assert set(texts(tmp_path)) == {name for name in written if name[1] > 3}
    assert all(json.loads(data) for data in texts(tmp_path).values())


def test_a_segment_that_rots_on_after_it_was_kept_beside_is_set_aside_all_the_same(
    tmp_path: Path,
) -> None:
    _write(tmp_path, "abcdefgh", 1000)
    first = min(tmp_path.glob("*.seg"))
    for place in (600, 10):
        with first.open("r+b") as out:
            out.seek(place)
            out.write(b"XXXX")
        abandon(open_spool(tmp_path))

    assert not first.exists()
    assert first.with_suffix(".corrupt").exists()
