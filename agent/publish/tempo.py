"""How much of the backlog may be on its way to the server. Pure; the clock is an argument.

The broker takes whatever comes, and hands it to the server in its order: what a fleet sends
too fast makes everybody's newest readings wait. Only the server's acks tell how fast it is.

Rules
 1. One message of the backlog is on its way at a time. The next may go when the acks cover it,
    or when the server asks for something of that stream, which so was lost on the way, or
    `PATIENCE_S` later: the server is away, or far behind. Each that goes without an ack makes
    the next wait twice as long, up to `MOST_S`, and an ack sets that to twice what it took: a
    fleet that goes on every 10 s whatever comes back is more than a server takes that is behind.
 2. The first holds `FIRST` readings. An ack within `QUICK_S` doubles that, up to what a message
    may hold; one after more than `SLOW_S`, or none, halves it, down to `LEAST`: the largest
    that makes a fleet of 9,000 wait for some seconds only.
 3. While no ack was heard at all, nobody may be there who says them: full messages go without
    waiting. A server that knows a site keeps its acks at the broker, where they are heard at
    once.
"""

from __future__ import annotations

from agent.wire import MAX_READINGS, Ack

FIRST = 16
LEAST = 8
QUICK_S = 2.0
"""The server acknowledges each site once a second at most."""
SLOW_S = 4.0
PATIENCE_S = 10.0
MOST_S = 160.0


class Tempo:
    """For the life of one connection.

    Attributes:
        size: how many readings the next message of the backlog may hold.
    """

    def __init__(self) -> None:
        self.size = MAX_READINGS
        self._heard = False
        self._on_its_way: tuple[str, int] | None = None
        self._sent_s = 0.0
        self._patience_s = PATIENCE_S

    def until_s(self) -> float:
        """Until when the next message waits for an ack; may be long past."""
        if self._on_its_way is None or not self._heard:
            return 0.0
        return self._sent_s + self._patience_s

    def sent(self, stream: str, last: int, now_s: float) -> None:
        """A message goes, which ends with that reading."""
        if self._heard and self._on_its_way is not None:
            self._slow_down()
            self._patience_s = min(2 * self._patience_s, MOST_S)
        self._on_its_way, self._sent_s = (stream, last), now_s

    def acknowledged(self, ack: Ack, now_s: float) -> None:
        """The server says what it has."""
        if not self._heard:
            self._heard, self.size = True, FIRST
        if self._on_its_way is None:
            return
        stream, last = self._on_its_way
        if ack.stream != stream or ack.through < last:
            return
        self._on_its_way = None
        took_s = now_s - self._sent_s
        self._patience_s = min(max(2 * took_s, PATIENCE_S), MOST_S)
        if took_s <= QUICK_S:
            self.size = min(2 * self.size, MAX_READINGS)
        elif took_s > SLOW_S:
            self._slow_down()

    def lost(self, stream: str) -> None:
        """The server asks for what it lacks of that stream: nothing is to be waited for."""
        if self._on_its_way is not None and self._on_its_way[0] == stream:
            self._on_its_way = None

    def _slow_down(self) -> None:
        self.size = max(LEAST, self.size // 2)
