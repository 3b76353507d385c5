"""When what is sent on one connection, and what the server's acks change. Pure.

It knows the spool and the place in its streams; the clock is an argument, and what goes
out is the caller's to send.

Rules
 1. The newest reading goes as soon as there is room in flight.
 2. The backlog waits for the retained acks, which tell where it begins: until the newest
    stream's has come, or for `ACKS_WAIT_S`. Then it goes as fast as the server takes it
    (see `agent.publish.tempo`), at one message each `BACKLOG_INTERVAL_S` at most, and takes half
    of what may be in flight, so that the newest reading and replies find room.
 3. It is looked now and then for what was lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent import wire
from agent.publish.drain import MAX_BATCH_BYTES, Batch, Drain, Held, Range
from agent.publish.tempo import Tempo

BACKLOG_INTERVAL_S = 0.25
BACKLOG_IN_FLIGHT = 10
"""Leaves room for the newest reading and for replies within the connection's 20."""
ACKS_WAIT_S = 1.0
"""From the broker's answer to the subscription on."""
ANSWER_S = 10.0
"""A broker that has not answered by then will not."""
RECOVER_S = 5.0


class Releasing(Held, Protocol):
    """The spool, as far as acks need it."""

    def release(self, stream: str, through: int) -> None: ...


class Pace:
    """What is due, for the life of one connection.

    Args:
        spool: what to send, and what to release.
        now_s: when the connection began, on a clock that never steps.
        chance: gives numbers from 0 to 1.
        max_batch_bytes: of the readings of one message.
    """

    def __init__(
        self,
        spool: Releasing,
        now_s: float,
        chance: Callable[[], float],
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self.drain = Drain(spool, max_batch_bytes)
        self._tempo = Tempo(chance)
        self._spool = spool
        self._acked = False
        self._waits_for_acks = True
        self._next_backlog_s = now_s + ANSWER_S
        self._next_look_s = now_s + RECOVER_S

    def answered(self, now_s: float) -> None:
        """The broker has answered the subscription, and sends what stands retained."""
        if self._waits_for_acks:
            self._next_backlog_s = min(self._next_backlog_s, now_s + ACKS_WAIT_S)

    def resend(self, asked: Range) -> None:
        """The server asks for readings: what was on its way was lost."""
        self.drain.resend(asked)
        self._tempo.lost(asked.stream)

    def newest(self, now_s: float, in_flight: int, max_in_flight: int) -> Batch | None:
        """The newest reading, where it is due (rule 1)."""
        batch = self.drain.newest() if in_flight < max_in_flight else None
        if batch is not None:
            self._tempo.newest(batch.stream, batch.last, now_s)
        return batch

    def backlog(self, now_s: float, in_flight: int, max_in_flight: int) -> Batch | None:
        """The next message of the backlog, where one is due (rule 2)."""
        if self._waits_for_acks and self._acked:
            self._waits_for_acks, self._next_backlog_s = False, now_s
        room = min(BACKLOG_IN_FLIGHT, max(1, max_in_flight // 2))
        if now_s < max(self._next_backlog_s, self._tempo.until_s()) or in_flight >= room:
            return None
        self._waits_for_acks = False
        batch = self.drain.backlog(self._tempo.size)
        if batch is not None:
            self._next_backlog_s = now_s + BACKLOG_INTERVAL_S
            self._tempo.sent(batch.stream, batch.last, now_s)
        return batch

    def landed(self, stream: str, last: int, now_s: float) -> None:
        """The broker has confirmed the message of that stream that ends with that reading."""
        self._tempo.landed(stream, last, now_s)

    def wait_s(self, now_s: float) -> float | None:
        """How long until there may be backlog to send; None: until something happens."""
        left_s = max(self._next_backlog_s, self._tempo.until_s()) - now_s
        return left_s if left_s > 0 else None

    def recover(self, now_s: float) -> list[Range]:
        """Go back in what was lost, where it is time to look; which readings (rule 3)."""
        if now_s < self._next_look_s:
            return []
        self._next_look_s = now_s + RECOVER_S
        return self.drain.recover()

    def acknowledged(self, ack: wire.Ack, now_s: float, *, retained: bool) -> bool:
        """Release what the server has; True where it has less than it had, and it is sent again."""
        if retained:
            self._tempo.stood()
        else:
            self._tempo.acknowledged(ack, now_s)
        newest = self._spool.newest
        self._acked |= newest is not None and newest[0] == ack.stream
        before = next((s for s in self._spool.streams() if s.stream == ack.stream), None)
        self._spool.release(ack.stream, ack.through)
        if before is None or ack.through >= before.through:
            return False
        self.drain.went_back(ack.stream, ack.through)
        self._tempo.lost(ack.stream)
        return True
