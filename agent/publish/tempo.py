"""How much of the backlog may be on its way to the server. Pure; the clock is an argument.

The broker takes whatever comes, and hands it to the server in its order: what a fleet sends
too fast waits there, and everybody's newest readings with it, where the server does not take
those first. Only the server's acks tell how fast it is: from the broker's PUBACK on, since before
that it is the link that takes its time.

Rules
 1. One message of the backlog is on its way at a time. The next may go when the acks cover it,
    or when the server asks for something of that stream, which so was lost on the way, or
    `PATIENCE_S` later: the server is away. Each that goes without an ack makes
    the next wait twice as long, up to `MOST_S`, and an ack sets that to twice what it took,
    or to `PATIENCE_S` where that is more.
 2. An ack that took longer than `QUICK_S` tells of a queue. The next message rests then
    `REST` times as long as it took too long, up to `LONGEST_REST_S`: of a fleet of any size only
    so many send that the queue stays within some seconds. It rests half to one and a half times
    that by chance, so that those who were held up together do not come back together. A server
    that asks for readings ends the rest.
 3. The newest reading, which a connection sends first, is the first such question, of a server
    that takes everything in its order; of one that takes it first, the first message is. It is
    waited for `ANSWER_S` only: an ack that stands at the broker may be all there is. An ack for
    what the last connection sent may answer it: then one message goes too early.
 4. The first message holds `FIRST` readings. One whose ack took no longer than `GROWS_S` doubles
    that, up to what a message may hold: few large ones cost the server less than many small
    ones, and who is many may not grow together while the queue does. One that the link takes
    more than `SLOW_S` for, or that brings no ack, halves it, down to `LEAST`.
 5. While no ack was heard at all, nobody may be there who says them: full messages go without
    waiting. A server that knows a site keeps its acks at the broker, where they are heard at
    once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.wire import MAX_READINGS, Ack

FIRST = 16
LEAST = 8
QUICK_S = 2.0
"""The server acknowledges each site once a second at most."""
GROWS_S = 3.0
SLOW_S = 10.0
ANSWER_S = 10.0
PATIENCE_S = 20.0
MOST_S = 160.0
REST = 32.0
LONGEST_REST_S = 100.0


@dataclass(slots=True)
class _Sent:
    """What is on its way: an ack of the stream from `through` on answers it.

    Attributes:
        last: the seq with which the message ends.
        landed_s: when the broker had it.
    """

    stream: str
    last: int
    through: int
    sent_s: float
    landed_s: float | None = None


class Tempo:
    """For the life of one connection.

    Args:
        chance: gives numbers from 0 to 1.

    Attributes:
        size: how many readings the next message of the backlog may hold.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self.size = MAX_READINGS
        self._chance = chance
        self._heard = False
        self._asked = False
        self._on_its_way: _Sent | None = None
        self._patience_s = PATIENCE_S
        self._rests_until_s = 0.0

    def until_s(self) -> float:
        """Until when the next message waits for an ack, or rests; may be long past."""
        if not self._heard:
            return 0.0
        one = self._on_its_way
        if one is None:
            return self._rests_until_s
        return one.sent_s + (self._patience_s if one.through else ANSWER_S)

    def newest(self, stream: str, seq: int, now_s: float) -> None:
        """The newest reading goes, alone. Any ack of its stream answers it, wherever it stands."""
        if not self._asked:
            self._asked = True
            self._on_its_way = _Sent(stream, seq, 0, now_s)

    def sent(self, stream: str, last: int, now_s: float) -> None:
        """A message goes, which ends with that reading."""
        self._asked = True
        before = self._on_its_way
        if self._heard and before is not None and before.through:
            self._slow_down()
            self._patience_s = min(2 * self._patience_s, MOST_S)
        self._on_its_way = _Sent(stream, last, last, now_s)

    def landed(self, stream: str, last: int, now_s: float) -> None:
        """The broker has the message that ends with that reading."""
        one = self._on_its_way
        if one is not None and (one.stream, one.last, one.landed_s) == (stream, last, None):
            one.landed_s = now_s

    def stood(self) -> None:
        """An ack stood at the broker: there is a server, which knows us."""
        if not self._heard:
            self._heard, self.size = True, FIRST

    def acknowledged(self, ack: Ack, now_s: float) -> None:
        """The server says what it has."""
        self.stood()
        one = self._on_its_way
        if one is None or ack.stream != one.stream or ack.through < one.through:
            return
        self._on_its_way = None
        landed_s = now_s if one.landed_s is None else one.landed_s
        took_s = now_s - landed_s
        self._patience_s = min(max(2 * (now_s - one.sent_s), PATIENCE_S), MOST_S)
        rest_s = min(REST * max(0.0, took_s - QUICK_S), LONGEST_REST_S)
        self._rests_until_s = now_s + rest_s * (0.5 + self._chance())
        if landed_s - one.sent_s > SLOW_S:
            self._slow_down()
        elif one.through and took_s <= GROWS_S:
            self.size = min(2 * self.size, MAX_READINGS)

    def lost(self, stream: str) -> None:
        """The server asks for what it lacks of that stream: nothing is to be waited for."""
        self._rests_until_s = 0.0
        if self._on_its_way is not None and self._on_its_way.stream == stream:
            self._on_its_way = None

    def _slow_down(self) -> None:
        self.size = max(LEAST, self.size // 2)
