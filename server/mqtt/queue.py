"""What has arrived and was not handed out yet, and in which order it is. Pure.

Rules
 1. Without a chooser all goes in the order of its arrival.
 2. With one, what goes first overtakes what may wait, and takes along all that came before it
    from whom it speaks of: among the messages of one site nothing ever changes places.
 3. What may wait goes in the order of its arrival, at least one and at most `WAITING_AT_ONCE`
    with each batch, whose place nobody takes: so all of it goes at last.
 4. What is on behalf of nobody, such as a marker, waits until all that came before it has gone.
 5. Who has `MOST_BEFORE` messages waiting, or in the batch, or more than `BEFORE_BYTES` waiting,
    waits with the rest: nobody can keep the others waiting by sending much.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

WAITING_AT_ONCE = 100
"""Who comes first waits for as long as these take."""
LOOKED_AT = 2000
"""Most that are looked at for one batch: half a second of the event loop, and once for each."""
BATCH_BYTES = 32 << 20
"""Of payloads; a batch with more takes no further message, but for what waited longest."""
MOST_BEFORE, BEFORE_BYTES = 10, 1 << 20
"""Rule 5."""


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

    @property
    def waiting(self) -> bool:
        """Whether anything was looked at, and left."""
        return bool(self._waiting)

    def take(self, most: int, choose: Choose | None = None) -> list[Arrival]:
        """Hand out about so many at most: what is taken along comes on top.

        Args:
            most: without what rule 2 takes along; more than `WAITING_AT_ONCE` with a chooser.
            choose: says what goes first; None: nothing does.
        """
        load = _Load()
        if choose is None or len(self) <= min(most, WAITING_AT_ONCE):
            self._add_oldest(load, most)
            while self._new and len(load.taken) < most and not load.heavy:
                load.add(self._new.popleft())
        else:
            self._add_first(load, most - WAITING_AT_ONCE, choose)
            self._add_oldest(load, WAITING_AT_ONCE)
        self.payload_bytes -= load.payload_bytes
        return load.taken

    def _add_first(self, load: _Load, most: int, choose: Choose) -> None:
        had = Counter[str]()
        for _ in range(min(len(self._new), LOOKED_AT)):
            if len(load.taken) >= most or load.heavy:
                return
            one = self._new.popleft()
            whose, first = choose(one.message)
            numbers = self._of.get(whose, ())
            if first and len(numbers) + had[whose] < MOST_BEFORE and self._light(numbers):
                had[whose] += len(numbers) + 1
                for number in numbers:
                    load.add(self._waiting.pop(number)[0])
                self._of.pop(whose, None)
                load.add(one)
            else:
                self._waiting[one.number] = (one, whose)
                self._of.setdefault(whose, deque()).append(one.number)

    def _light(self, numbers: Iterable[int]) -> bool:
        weights = (len(self._waiting[number][0].message.payload) for number in numbers)
        return sum(weights) <= BEFORE_BYTES

    def _add_oldest(self, load: _Load, most: int) -> None:
        """At least one, however heavy what goes first was."""
        for _ in range(min(len(self._waiting), most)):
            _, (one, whose) = self._waiting.popitem(last=False)
            numbers = self._of[whose]
            numbers.popleft()  # its oldest
            if not numbers:
                del self._of[whose]
            load.add(one)
            if load.heavy:
                return


class _Load:
    """A batch in the making."""

    def __init__(self) -> None:
        self.taken: list[Arrival] = []
        self.payload_bytes = 0

    def add(self, one: Arrival) -> None:
        self.taken.append(one)
        self.payload_bytes += len(one.message.payload)

    @property
    def heavy(self) -> bool:
        return self.payload_bytes >= BATCH_BYTES
