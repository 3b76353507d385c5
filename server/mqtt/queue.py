"""What has arrived and was not handed out yet, and in which order it is. Pure.

Rules
 1. Without a chooser all goes in the order of its arrival.
 2. With one, what goes first overtakes what may wait, and takes along all that came before it
    from whom it speaks of: among the messages of one site nothing ever changes places.
 3. What may wait goes in the order of its arrival, some with each batch.
 4. What is on behalf of nobody, such as a marker, waits until all that came before it has gone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

WAITING_AT_ONCE = 100
"""Of those who may wait, with each batch: who comes first waits for as long as they take."""
LOOKED_AT = 1000
"""Most that are looked at for one batch, so that the event loop goes on."""
BATCH_BYTES = 32 << 20
"""Of payloads; a batch with more holds no further message."""
MOST_BEFORE = 10
"""Who has more waiting waits behind it, as everybody would for the sake of one."""


class Message(NamedTuple):
    """One message as it arrived.

    Attributes:
        retain: it stood there before we subscribed.
        received_at: our time of receipt, in seconds since 1970.
    """

    topic: str
    payload: bytes
    retain: bool
    received_at: float


class Turn(NamedTuple):
    """What a message is: of whom, empty for nobody, and whether it goes first."""

    whose: str
    first: bool


Choose = Callable[[Message], Turn]


class Arrival(NamedTuple):
    """A message with its number in the order of arrival, and its packet id, where it has one."""

    number: int
    mid: int | None
    message: Message


class Queue:
    """See the module.

    Attributes:
        payload_bytes: of all that waits.
    """

    def __init__(self) -> None:
        self.payload_bytes = 0
        self._number = 0
        self._new: deque[Arrival] = deque()
        self._waiting: OrderedDict[int, tuple[Arrival, str]] = OrderedDict()  # older than the new
        self._of: dict[str, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._waiting)

    def put(self, mid: int | None, message: Message) -> int:
        """Take in what arrived; gives its number."""
        self._number += 1
        self._new.append(Arrival(self._number, mid, message))
        self.payload_bytes += len(message.payload)
        return self._number

    def take(self, most: int, choose: Choose | None = None) -> list[Arrival]:
        """Hand out about so many at most: what is taken along comes on top.

        Args:
            most: without what rule 2 takes along.
            choose: says what goes first; None: nothing does.
        """
        load = _Load(most)
        if choose is None or len(self) <= min(most, WAITING_AT_ONCE):
            self._add_oldest(load, most)
            while self._new and not load.full:
                load.add(self._new.popleft())
        else:
            self._add_first(load, choose)
            self._add_oldest(load, WAITING_AT_ONCE)
        self.payload_bytes -= load.payload_bytes
        return load.taken

    def _add_first(self, load: _Load, choose: Choose) -> None:
        for _ in range(min(len(self._new), LOOKED_AT)):
            if load.full:
                break
            one = self._new.popleft()
            whose, first = choose(one.message)
            before = self._of.get(whose, ())
            if first and len(before) <= MOST_BEFORE:
                for number in before:
                    load.add(self._waiting.pop(number)[0])
                self._of.pop(whose, None)
                load.add(one)
            else:
                self._waiting[one.number] = (one, whose)
                self._of.setdefault(whose, deque()).append(one.number)

    def _add_oldest(self, load: _Load, most: int) -> None:
        for _ in range(min(len(self._waiting), most)):
            if load.full:
                break
            _, (one, whose) = self._waiting.popitem(last=False)
            numbers = self._of[whose]
            numbers.popleft()  # its oldest
            if not numbers:
                del self._of[whose]
            load.add(one)


class _Load:
    """A batch in the making."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken: list[Arrival] = []
        self.payload_bytes = 0

    def add(self, one: Arrival) -> None:
        self.taken.append(one)
        self.payload_bytes += len(one.message.payload)

    @property
    def full(self) -> bool:
        return len(self.taken) >= self._most or self.payload_bytes >= BATCH_BYTES
