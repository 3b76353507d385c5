"""One segment file: a header, then records, then zeros.

A file is laid out in full before its first record, so that `fdatasync` of a
record writes data alone. All integers are little endian.

    header   magic, format, stream, first seq, inode, size, boot id, CRC-32
    record   length, CRC-32 of length, seq and payload; seq; payload
    control  a record with seq 0: who wrote on (`open BOOT`), that the writer
             left in order (`close`), that another segment follows (`seal`)

A copied file has another inode than its header says, and one that was cut off has
another size, so both are recognised.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

SUFFIX = ".seg"
CONTROL_ROOM = 160
"""Bytes kept free at the end for the control records that may follow."""

_MAGIC = b"PANTAUSP"
_FORMAT = 1
_HEADER = struct.Struct("<8sI16sQQQ36sI")
_RECORD = struct.Struct("<IIQ")
_ZEROS = bytes(64 * 1024)
_LONGEST = 1 << 24

End = Literal["open", "closed", "sealed"]


class Header(NamedTuple):
    """What a segment says of itself; `boot` is the kernel boot that made it."""

    stream: str
    first_seq: int
    inode: int
    size: int
    boot: str


class DamagedError(Exception):
    """The record of this seq can no longer be read."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"the record of seq {seq} cannot be read: {why}")
        self.seq = seq


@dataclass
class Segment:
    """A segment as found on disk.

    `offsets` are the places of its good records, which have consecutive seqs.
    `torn` says that something other than zeros follows the last of them, and
    `behind` how many readings are lost there, as a good record beyond tells.
    `boot` wrote to it last.
    """

    path: Path
    header: Header
    size: int
    offsets: array[int] = field(default_factory=lambda: array("I"))
    write_at: int = _HEADER.size
    ended: End = "open"
    boot: str = ""
    torn: bool = False
    behind: int = 0

    @property
    def first(self) -> int:
        return self.header.first_seq

    @property
    def last(self) -> int:
        """The last seq held; one below `first` while there is none."""
        return self.header.first_seq + len(self.offsets) - 1

    @property
    def stream(self) -> str:
        return self.header.stream

    @property
    def is_original(self) -> bool:
        """Whether it is the file that was laid out, neither a copy nor cut off."""
        return (self.header.inode, self.header.size) == (self.path.stat().st_ino, self.size)

    def read(self, first_seq: int, limit: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Up to `limit` readings from `first_seq` on, at least one, within `max_bytes`.

        Raises:
            DamagedError: a record that was good has changed, or the disk refuses.
        """
        found: list[tuple[int, bytes]] = []
        try:
            with self.path.open("rb", buffering=0) as file:
                for seq in range(first_seq, min(self.last, first_seq + limit - 1) + 1):
                    record = _read_record(file.fileno(), self.offsets[seq - self.first])
                    if record is None or record[0] != seq:
                        raise DamagedError(seq, "it has changed")
                    max_bytes -= len(record[1])
                    if found and max_bytes < 0:
                        break
                    found.append(record)
        except OSError as err:
            raise DamagedError(first_seq + len(found), str(err.strerror)) from None
        return found


def pack(seq: int, payload: bytes) -> bytes:
    """A record as it stands in the file."""
    crc = zlib.crc32(payload, zlib.crc32(struct.pack("<IQ", len(payload), seq)))
    return _RECORD.pack(len(payload), crc, seq) + payload


def room_for(payload_bytes: int) -> int:
    """The size of the smallest segment that holds one payload of that many bytes."""
    return _HEADER.size + _RECORD.size + payload_bytes + CONTROL_ROOM


def create(path: Path, *, stream: str, first_seq: int, boot: str, size: int) -> Segment:
    """Lay out a new, empty segment; durable once this returns.

    Raises:
        OSError: no room, or the disk refuses; nothing stays behind then.
    """
    unfinished = path.with_suffix(".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, size)
        for start in range(0, size, len(_ZEROS)):
            os.pwrite(descriptor, _ZEROS[: size - start], start)
        header = Header(stream, first_seq, os.fstat(descriptor).st_ino, size, boot)
        os.pwrite(descriptor, _pack_header(header), 0)
        os.fsync(descriptor)
        unfinished.rename(path)
        sync_folder(path.parent)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return Segment(path, header, size, boot=boot)


def load(path: Path) -> Segment | None:
    """A segment from disk; None when its header is no good."""
    data = path.read_bytes()
    header = _unpack_header(data)
    if header is None:
        return None
    segment = Segment(path, header, len(data), boot=header.boot)
    while (found := _record_at(data, segment.write_at)) is not None:
        seq, payload = found
        if seq == 0:
            _note_control(segment, payload)
        elif seq == segment.last + 1:
            segment.offsets.append(segment.write_at)
            segment.ended = "open"
        else:
            break
        segment.write_at += _RECORD.size + len(payload)
    segment.torn = data.count(0, segment.write_at) != len(data) - segment.write_at
    if segment.torn:
        segment.behind = _count_behind(data, segment)
    return segment


def sync_folder(folder: Path) -> None:
    """Make new, renamed and removed names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pack_header(header: Header) -> bytes:
    body = _HEADER.pack(
        _MAGIC,
        _FORMAT,
        uuid.UUID(header.stream).bytes,
        header.first_seq,
        header.inode,
        header.size,
        header.boot.encode()[:36],
        0,
    )[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def _unpack_header(data: bytes) -> Header | None:
    if len(data) < _HEADER.size:
        return None
    magic, version, stream, first_seq, inode, size, boot, crc = _HEADER.unpack_from(data)
    if (magic, version, crc) != (_MAGIC, _FORMAT, zlib.crc32(data[: _HEADER.size - 4])):
        return None
    return Header(str(uuid.UUID(bytes=stream)), first_seq, inode, size, boot.rstrip(b"\0").decode())


def _record_at(data: bytes, offset: int) -> tuple[int, bytes] | None:
    """Seq and payload of the record there; None where there is no good one."""
    start = offset + _RECORD.size
    if start > len(data):
        return None
    length, crc, seq = _RECORD.unpack_from(data, offset)
    if not 0 < length <= len(data) - start:
        return None
    payload = data[start : start + length]
    if crc != zlib.crc32(payload, zlib.crc32(struct.pack("<IQ", length, seq))):
        return None
    return seq, payload


def _read_record(descriptor: int, offset: int) -> tuple[int, bytes] | None:
    head = os.pread(descriptor, _RECORD.size, offset)
    if len(head) < _RECORD.size:
        return None
    length = min(_RECORD.unpack(head)[0], _LONGEST)
    return _record_at(head + os.pread(descriptor, length, offset + _RECORD.size), 0)


def _note_control(segment: Segment, payload: bytes) -> None:
    word, _, boot = payload.decode("ascii", "replace").partition(" ")
    if word == "open":
        segment.ended, segment.boot = "open", boot
    else:
        segment.ended = "sealed" if word == "seal" else "closed"


def _count_behind(data: bytes, segment: Segment) -> int:
    """How many readings, the bad one among them, come before the end of the last good record."""
    last, offset = segment.last, segment.write_at + 1
    data = data.rstrip(b"\0")
    while offset + _RECORD.size <= len(data):
        length, _, seq = _RECORD.unpack_from(data, offset)
        likely = 0 < length < len(data) and segment.last < seq < segment.last + len(data)
        found = _record_at(data, offset) if likely else None
        if found:
            last = max(last, seq)
        offset += _RECORD.size + length if found else 1
    return last - segment.last
