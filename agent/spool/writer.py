"""The writing end of the spool: one stream, one segment, one write a record.

It never decides where to write; it keeps the two rules that make a seq unique:
a seq is taken only with its record on disk, and after a failed write the stream
is left for good.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid

from agent.spool import segment
from agent.spool.segment import Segment


class Writer:
    """Appends to `active`, the segment that takes records now, if any."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.active: Segment | None = None
        self._descriptor: int | None = None
        self.begin_stream()

    def begin_stream(self) -> None:
        """Leave the stream for a new one, which no segment holds yet."""
        self._leave()
        self.stream = str(uuid.uuid4())
        self.next_seq = 1

    def go_on_in(self, newest: Segment) -> None:
        """Continue a stream whose end is certain."""
        self._leave()
        self.active = newest
        self.stream, self.next_seq = newest.stream, newest.last + 1

    def has_room_for(self, payload: bytes) -> bool:
        if self.active is None:
            return False
        free = self.active.size - self.active.write_at - segment.CONTROL_ROOM
        return len(segment.pack(0, payload)) <= free

    def append(self, payload: bytes) -> int:
        """Write one reading, durably, and return its seq.

        Raises:
            OSError: the disk refuses.
        """
        assert self.active is not None
        seq = self.next_seq
        self.active.offsets.append(self._write(segment.pack(seq, payload)))
        self.next_seq += 1
        return seq

    def seal(self) -> None:
        """Say in the full segment that another follows, so that none goes on in it."""
        if self.active:
            self._write(segment.pack(0, b"seal"))
            self._leave()

    def close(self) -> None:
        """Say that the stream may go on here after the next start."""
        if self.active and self.active.ended != "closed":
            self._write(segment.pack(0, b"close"))
        self._leave()

    def let_go(self) -> None:
        """Leave without a word, as a killed process does."""
        self._leave()

    def abandon(self) -> None:
        """Leave the stream after a failed write; the record, if there, is struck out."""
        if self.active and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, bytes(16), self.active.write_at)
        self.begin_stream()

    def _write(self, record: bytes) -> int:
        """Put a record behind the last, in one write and one sync; its place.

        A segment that was closed, or written in another boot, is opened first,
        in the same write.
        """
        active = self.active
        assert active is not None
        if self._descriptor is None:
            self._descriptor = os.open(active.path, os.O_WRONLY | os.O_CLOEXEC)
        going_on = active.ended == "open" and active.boot == self.boot
        before = b"" if going_on else segment.pack(0, b"open " + self.boot.encode())
        data = before + record
        if active.write_at + len(data) > active.size:
            raise OSError(errno.EFBIG, "segment full")
        if os.pwrite(self._descriptor, data, active.write_at) != len(data):
            raise OSError(errno.ENOSPC, "the record was cut short")
        os.fdatasync(self._descriptor)
        offset = active.write_at + len(before)
        active.write_at += len(data)
        active.boot, active.ended = self.boot, "open"
        return offset

    def _leave(self) -> None:
        self.active = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
