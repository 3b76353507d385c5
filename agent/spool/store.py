"""The spool: every reading is on disk here before it is published.

Rules
 1. A seq is never used twice. A stream goes on after a start only where its end
    is certain: nothing but zeros follows its last record, it is no copy, and it
    was written in this same kernel boot or closed in order. Else a new stream.
 2. Any failed write ends the stream: what the disk holds of it is uncertain.
 3. `append` returns when the reading is durable. Where the disk takes nothing,
    the reading goes into a stream in memory, and the next one tries the disk.
    That stream goes on until the disk takes one, also when all of it is released.
 4. What the server stored is released, and kept while there is room. When there
    is none, released segments go first, then damaged ones, then the oldest;
    readings lost that way are counted.
 5. A release may go back: the server was restored, and wants readings again.
    One beyond our end says that an older copy of this spool wrote on; its seqs
    are taken, so a new stream begins.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from agent.spool import folder, segment
from agent.spool.folder import Positions
from agent.spool.memory import Memory
from agent.spool.segment import DamagedError, Segment
from agent.spool.streams import Part, Stream, summarise, unreleased
from agent.spool.writer import Writer

log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_LEAST_SEGMENTS = 8


class Spool:
    """Thread-safe; one for each folder.

    Args:
        path: the folder, made when missing.
        max_bytes: room for all files together.
        boot: the kernel's boot id.

    Raises:
        SpoolError: another agent uses the folder, or it cannot be used.
    """

    def __init__(
        self, path: Path, max_bytes: int, *, boot: str, segment_bytes: int | None = None
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes or min(_MIB, max_bytes // _LEAST_SEGMENTS)
        self._writer = Writer(boot)
        self._lock = threading.RLock()
        self._problem: str | None = None
        self._folder = folder.take(path)
        try:
            self._open()
        except OSError as err:
            os.close(self._folder)
            raise folder.SpoolError(f"spool {path}: {err.strerror}; mend the disk") from None

    def _open(self) -> None:
        found = folder.scan(self._path)
        positions = folder.load_positions(self._path)
        self._parts: list[Part] = list(found.segments)
        self._number = found.next_number
        self._released = positions.released
        self._dropped = positions.dropped + found.lost
        for problem in found.problems:
            self._report(problem)
        if found.end_is_known:
            newest = found.segments[-1]
            if newest.ended == "closed" or newest.boot == self._writer.boot:
                self._writer.go_on_in(newest)
        try:
            self._make_room(0)
        except OSError as err:
            self._report(f"cannot make room: {err.strerror or err}")

    # Writing

    def append(self, make: Callable[[int], bytes]) -> int:
        """Store what `make` makes of its seq, and return that seq."""
        with self._lock:
            try:
                return self._append_to_disk(make)
            except OSError as err:
                self._report(f"cannot write: {err.strerror or err}; kept in memory")
                self._writer.abandon()
                return self._append_to_memory(make)

    def _append_to_disk(self, make: Callable[[int], bytes]) -> int:
        writer = self._writer
        payload = make(writer.next_seq)
        if not writer.has_room_for(payload):
            following = self._new_segment(segment.room_for(len(payload)))
            writer.seal()
            writer.active = following
        return writer.append(payload)

    def _new_segment(self, needed: int) -> Segment:
        """Lay out the next segment, dropping others while there is no room.

        Raises:
            OSError: there is no room although nothing is left to drop.
        """
        size = max(needed, self._segment_bytes)
        self._make_room(size)
        while True:
            try:
                new = segment.create(
                    self._path / f"{self._number:08d}{segment.SUFFIX}",
                    stream=self._writer.stream,
                    first_seq=self._writer.next_seq,
                    boot=self._writer.boot,
                    size=size,
                )
            except OSError as err:
                if err.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._drop_one():
                    raise
                self._report("the disk is full; older readings make room")
                continue
            self._number += 1
            self._parts.append(new)
            return new

    def _append_to_memory(self, make: Callable[[int], bytes]) -> int:
        newest = self._parts[-1] if self._parts else None
        if not isinstance(newest, Memory):
            newest = Memory()
            self._parts.append(newest)
        seq = newest.last + 1
        if not newest.append(make(seq)):
            self._dropped += newest.first - 1 > self._through(newest.stream)
        return seq

    # Reading and releasing

    @property
    def newest(self) -> tuple[str, int] | None:
        """Stream and seq of the reading that came last."""
        with self._lock:
            held = [part for part in self._parts if part.last >= part.first]
            return (held[-1].stream, held[-1].last) if held else None

    def streams(self) -> list[Stream]:
        """What is held, the oldest stream first."""
        with self._lock:
            return summarise(self._parts, self._released)

    def read(
        self, stream: str, from_seq: int, limit: int, max_bytes: int
    ) -> list[tuple[int, bytes]]:
        """Readings of a stream from `from_seq` on, as many as the bounds allow."""
        found: list[tuple[int, bytes]] = []
        with self._lock:
            for part in list(self._parts):
                if part.stream != stream or part.last < max(from_seq, part.first):
                    continue
                start = max(from_seq, part.first)
                more = self._read_part(part, start, limit - len(found), max_bytes)
                found += more if not found or _bytes_of(more) <= max_bytes else []
                max_bytes -= _bytes_of(more)
                if len(found) == limit or max_bytes <= 0:
                    break
        return found

    def _read_part(
        self, part: Part, start: int, limit: int, max_bytes: int
    ) -> list[tuple[int, bytes]]:
        try:
            return part.read(start, limit, max_bytes)
        except DamagedError as err:
            assert isinstance(part, Segment)
            self._cut(part, err)
            good = err.seq - start
            return self._read_part(part, start, min(limit, good), max_bytes) if good else []

    def _cut(self, part: Segment, err: DamagedError) -> None:
        """Take a segment's readings from the damaged one on out of use."""
        lost = part.last - err.seq + 1
        self._dropped += lost
        self._report(f"{part.path.name}: {err}; {lost} readings lost")
        del part.offsets[err.seq - part.first :]
        if part is self._writer.active:
            self._writer.begin_stream()

    def release(self, stream: str, through: int) -> None:
        """The server has everything of `stream` up to `through`; rule 5."""
        with self._lock:
            ends = [part.last for part in self._parts if part.stream == stream]
            if not ends:
                return
            if stream == self._writer.stream and through >= self._writer.next_seq:
                self._report(f"the server knows seq {through} of our stream; beginning a new one")
                self._writer.begin_stream()
            self._released[stream] = min(through, max(ends))
            newest = self._parts[-1]  # where it is in memory, its stream goes on
            self._parts = [
                part
                for part in self._parts
                if part is newest or not (isinstance(part, Memory) and self._is_released(part))
            ]
            held = {part.stream for part in self._parts} | {self._writer.stream}
            self._released = {name: seq for name, seq in self._released.items() if name in held}

    def _through(self, stream: str) -> int:
        return self._released.get(stream, 0)

    def _is_released(self, part: Part) -> bool:
        return part.last <= self._through(part.stream)

    # Room

    def _make_room(self, needed: int) -> None:
        while self._bytes() + needed > self._max_bytes and self._drop_one():
            pass

    def _bytes(self) -> int:
        aside = sum(file.stat().st_size for file in folder.corrupt_files(self._path))
        return aside + sum(part.size for part in self._parts)

    def _drop_one(self) -> bool:
        """Give up one file (rule 4); False when there is none to give up."""
        droppable = [
            part
            for part in self._parts
            if isinstance(part, Segment) and part is not self._writer.active
        ]
        corrupt = folder.corrupt_files(self._path)
        released = next((part for part in droppable if self._is_released(part)), None)
        if released is None and corrupt:
            corrupt[0].unlink(missing_ok=True)
            return True
        part = released or next(iter(droppable), None)
        if part is None:
            return False
        part.path.unlink(missing_ok=True)  # by hand, or by fsck, it may be gone already
        self._parts.remove(part)
        self._dropped += unreleased(part, self._released)
        self.save()
        return True

    @property
    def unreleased(self) -> int:
        """Readings that the server has not confirmed."""
        with self._lock:
            return sum(unreleased(part, self._released) for part in self._parts)

    @property
    def dropped(self) -> int:
        """Readings lost since the spool was made: no room, or damage."""
        return self._dropped

    def save(self) -> None:
        """Write the released positions down; losing them means sending again."""
        with self._lock:
            held = {part.stream for part in self._parts if isinstance(part, Segment)}
            released = {name: seq for name, seq in self._released.items() if name in held}
            try:
                folder.save_positions(self._path, Positions(released, self._dropped))
            except OSError as err:
                self._report(f"cannot write positions: {err.strerror or err}")

    def take_problem(self) -> str | None:
        """What went wrong since it was last asked, in one line."""
        with self._lock:
            problem, self._problem = self._problem, None
            return problem

    def _report(self, text: str) -> None:
        log.warning("spool: %s", text)
        self._problem = text if self._problem is None else f"{self._problem}; {text}"[:500]

    def abandon(self) -> None:
        """Leave as a killed process does: the folder is free, and nothing was written."""
        self._writer.let_go()
        os.close(self._folder)

    def close(self) -> None:
        """Leave in order, so that the stream goes on after the next start."""
        with self._lock:
            try:
                self._writer.close()
            except OSError as err:
                self._report(f"cannot close: {err.strerror or err}")
            self.save()
            os.close(self._folder)


def _bytes_of(readings: list[tuple[int, bytes]]) -> int:
    return sum(len(payload) for _, payload in readings)
