"""A power cut: writes that the card was not told to keep are gone, whatever we had been told.

The card is a file on another file system ("the flash"), each on a loop device. What the card
has flushed is written to the flash, the rest stays in memory; so an image of the flash, taken
between two of its writes, is what a power cut would have left.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.spool import Spool
from tests.agent.spool_helper import texts
from tests.lab.net import child_environment, sh
from tests.wait import until

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

_WRITER = """
import os, sys
from pathlib import Path
from agent.spool import Spool

if sys.argv[2] == "careless":
    os.fdatasync = os.fsync = lambda descriptor: None
spool = Spool(Path(sys.argv[1]), 4 << 20, boot="1" * 36, segment_bytes=32768)
for _ in sys.stdin:
    seq = spool.append(lambda seq: b'{"seq":%d,"pad":"%s"}' % (seq, b"x" * (seq * 37 % 1700)))
    print(spool.newest[0], seq, flush=True)
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that no writeback reaches."""
    with tempfile.TemporaryDirectory(prefix="pantau-power-", dir="/dev/shm") as name:
        yield Path(name)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[str]:
    """An image on a loop device of its own, mounted; gives the device."""
    place.mkdir()
    loop = sh("losetup", "--find", "--show", str(image)).strip()
    try:
        sh("mount", loop, str(place))
        try:
            yield loop
        finally:
            until(lambda: _umounted(place), 20, "the card to be let go")
    finally:
        sh("losetup", "--detach", loop)


def _umounted(place: Path) -> bool:
    return subprocess.run(["umount", place], check=False, capture_output=True).returncode == 0


def _made(image: Path, size: str) -> None:
    sh("fallocate", "-l", size, str(image))
    sh("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))


@contextmanager
def card(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """A mounted card; its place, the image of the flash under it, and the flash's device."""
    flash = folder / "flash.img"
    _made(flash, "56M")
    with ExitStack() as stack:
        device = stack.enter_context(mounted(flash, folder / "flash"))
        image = folder / "flash" / "card.img"
        _made(image, "24M")
        sh("sync", "-f", str(image))
        stack.enter_context(mounted(image, folder / "card"))
        yield folder / "card", flash, device


def _cut(flash: Path, device: str, into: Path) -> None:
    """What the flash holds at one moment: no write of it came between beginning and end."""
    stat = Path(f"/sys/block/{Path(device).name}/stat")

    def written() -> tuple[str, str]:
        fields = stat.read_text().split()
        return fields[4], fields[8]  # writes done, and requests under way

    def copied() -> bool:
        before = written()
        shutil.copyfile(flash, into)
        return before[1] == "0" and written() == before

    until(copied, 30, "a moment without a write")


def _held_after(image: Path, folder: Path) -> dict[tuple[str, int], bytes]:
    """What the next start finds, when both file systems have recovered."""
    with (
        mounted(image, folder / "flash2"),
        mounted(folder / "flash2" / "card.img", folder / "card2"),
    ):
        path = folder / "card2" / "spool"
        spool = Spool(path, 4 << 20, boot="2" * 36, segment_bytes=32768)
        spool.append(lambda _: b'{"after":"the cut"}')
        spool.close()
        found = texts(path)
    for name in ("flash2", "card2"):
        (folder / name).rmdir()
    return found


def _cut_again_and_again(folder: Path, kind: str, moments: list[int]) -> Iterator[tuple[int, int]]:
    """For each cut the highest seq that was stored by then, and the highest that survived.

    A cut comes when the writer has told of as many more readings as `moments` say, while it
    stores one more.
    """
    with card(folder) as (place, flash, device):
        told: list[tuple[str, int]] = []
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(place / "spool"), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        ) as writer:
            try:
                assert writer.stdin is not None
                assert writer.stdout is not None
                under_way = 0
                for more in moments:
                    writer.stdin.write("\n" * (more + 1 - under_way))
                    writer.stdin.flush()
                    under_way = 1
                    for _ in range(more):
                        stream, seq = writer.stdout.readline().split()
                        told.append((stream, int(seq)))
                    _cut(flash, device, folder / "cut.img")
                    found = _held_after(folder / "cut.img", folder)
                    stream, stored = told[-1]
                    kept = sorted(seq for name, seq in found if name == stream)
                    assert len(kept) <= stored + 1
                    new = [name for name in found if name[0] != stream]
                    assert kept == list(range(1, len(kept) + 1)), "no gap, and none before the end"
                    assert [seq for _, seq in new] == [1], "the next start begins a stream"
                    yield stored, len(kept)
            finally:
                writer.kill()


def test_a_power_cut_at_any_moment_costs_nothing_that_was_stored(memory: Path) -> None:
    # prime steps, so that cuts fall at all places of a segment and at its change
    for stored, kept in _cut_again_and_again(memory, "careful", [1, 2, 3, 5, 7, 11, 13, 17, 19]):
        assert kept >= stored


def test_the_same_cut_takes_what_was_written_without_being_flushed(memory: Path) -> None:
    losses = [
        stored - kept for stored, kept in _cut_again_and_again(memory, "careless", [40, 20, 20])
    ]
    assert max(losses) >= 20, "so the test above would have seen a loss"
