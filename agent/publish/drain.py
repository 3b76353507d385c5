"""What to send next on one connection. Pure: it knows the spool, no broker, no clock.

Rules
 1. The newest reading goes first, alone; the backlog follows, oldest first.
 2. A stream's backlog begins behind what the server has (`through`), and what was
    sent on this connection is not sent again on it, unless
 3. the server asks for it, or its `through` goes back (it was restored), or
 4. an older stream was lost on the way to its end: the server has a reading of the
    newest stream that was sent behind it, and not that end. Of the newest stream it
    sees the hole and asks; behind the end of an older one it can see nothing.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from agent.spool import Stream
from agent.wire import MAX_READINGS

MAX_BATCH_BYTES = 200 * 1024
"""Readings of one message before compression; the envelope stays below 256 KiB."""

Numbered = list[tuple[int, bytes]]


class Held(Protocol):
    """The spool, as far as sending needs it."""

    @property
    def newest(self) -> tuple[str, int] | None: ...
    def streams(self) -> list[Stream]: ...
    def read(self, stream: str, from_seq: int, limit: int, max_bytes: int) -> Numbered: ...


class Batch(NamedTuple):
    """One message: readings of one stream, and the lowest seq held of that stream."""

    stream: str
    oldest: int
    readings: Numbered

    @property
    def last(self) -> int:
        """The seq with which it ends."""
        return self.readings[-1][0]


class Range(NamedTuple):
    """Readings of a stream that the server asked for, both ends included."""

    stream: str
    first: int
    last: int


class Drain:
    """The place in each stream, for the life of one connection."""

    def __init__(self, spool: Held, max_batch_bytes: int = MAX_BATCH_BYTES) -> None:
        self._spool = spool
        self._max_bytes = max_batch_bytes
        self._next: dict[str, int] = {}
        self._ahead: set[tuple[str, int]] = set()
        self._ranges: deque[Range] = deque()
        self._proofs: dict[str, tuple[str, int]] = {}
        self._tried: dict[str, int] = {}

    def newest(self) -> Batch | None:
        """The newest reading, unless it was sent or the server has it (rule 1)."""
        newest = self._spool.newest
        if newest is None or newest in self._ahead:
            return None
        name, seq = newest
        stream = next((s for s in self._spool.streams() if s.stream == name), None)
        place = self._place(stream) if stream else 0
        if stream is None or seq < place:
            return None
        readings = self._spool.read(name, seq, 1, self._max_bytes)
        if not readings:
            return None
        if seq == place:
            self._next[name] = seq + 1
        else:
            self._ahead = {(n, s) for n, s in self._ahead if n != name or s >= place} | {newest}
        return Batch(name, stream.oldest, readings)

    def backlog(self, limit: int = MAX_READINGS) -> Batch | None:
        """The next readings that were asked for, or the oldest that are not yet sent.

        Args:
            limit: so many at most.
        """
        streams = self._spool.streams()
        following = (self._following(stream, limit) for stream in streams)
        return self._asked(streams, limit) or next(filter(None, following), None)

    def _asked(self, streams: list[Stream], limit: int) -> Batch | None:
        oldest = {stream.stream: stream.oldest for stream in streams}
        while self._ranges:
            asked = self._ranges.popleft()
            count = min(limit, asked.last - asked.first + 1)
            found = self._spool.read(asked.stream, asked.first, count, self._max_bytes)
            readings = [reading for reading in found if reading[0] <= asked.last]
            if readings and asked.stream in oldest:
                if readings[-1][0] < asked.last:
                    self._ranges.appendleft(asked._replace(first=readings[-1][0] + 1))
                return Batch(asked.stream, oldest[asked.stream], readings)
        return None

    def _following(self, stream: Stream, limit: int) -> Batch | None:
        name = stream.stream
        while (place := self._place(stream)) <= stream.end:
            found = self._spool.read(name, place, limit, self._max_bytes)
            if not found:
                self._next[name] = stream.end + 1
                return None
            self._next[name] = found[-1][0] + 1
            readings = [reading for reading in found if (name, reading[0]) not in self._ahead]
            self._ahead -= {(name, seq) for seq, _ in found}
            if readings:
                return Batch(name, stream.oldest, readings)
        return None

    def _place(self, stream: Stream) -> int:
        """The next seq to send of a stream (rule 2)."""
        return max(self._next.get(stream.stream, 0), stream.through + 1)

    def went_back(self, stream: str, through: int) -> None:
        """The server has less than it had: send again what follows (rule 3)."""
        self._next[stream] = min(self._next.get(stream, 0), through + 1)
        self._ahead = {(name, seq) for name, seq in self._ahead if name != stream or seq <= through}

    def recover(self) -> list[Range]:
        """Go back in what was lost (rule 4), and tell which readings; to be called now and then.

        Once for each place in a stream: where that does not help, the next connection may.
        """
        lost: list[Range] = []
        streams = self._spool.streams()
        for stream in streams[:-1]:
            name, newest = stream.stream, streams[-1]
            if stream.through >= stream.end or self._place(stream) <= stream.end:
                self._proofs.pop(name, None)
                continue
            proof = self._proofs.get(name)
            if proof is None or proof[0] != newest.stream:
                self._proofs[name] = (newest.stream, newest.end + 1)
            elif newest.through >= proof[1] and self._tried.get(name) != stream.through:
                self._tried[name] = stream.through
                del self._proofs[name]
                self.went_back(name, stream.through)
                lost.append(Range(name, self._place(stream), stream.end))
        return lost

    def resend(self, asked: Range) -> None:
        """Send again what is held of a range (rule 3), save what is still to be sent."""
        streams = self._spool.streams()
        held = held_of(streams, asked)
        if held is None:
            return
        self._ahead -= {(held.stream, seq) for seq in range(held.first, held.last + 1)}
        place = next(self._place(s) for s in streams if s.stream == held.stream)
        again = held._replace(last=min(held.last, place - 1))
        if again.first <= again.last and again not in self._ranges:
            self._ranges.append(again)


def held_of(streams: list[Stream], asked: Range) -> Range | None:
    """The part of a range that lies within what is held; None when nothing does."""
    stream = next((s for s in streams if s.stream == asked.stream), None)
    if stream is None:
        return None
    first, last = max(asked.first, stream.oldest), min(asked.last, stream.end)
    return Range(stream.stream, first, last) if first <= last else None
