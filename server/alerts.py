"""The outbox to MQTT: every letter published in order, marked on its PUBACK.

The broker's memory is not trusted: each connection begins with the letters
that were not acknowledged, and then with all that should stand retained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from server.store import Letter


class Link(Protocol):
    """Where letters go."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        on_published: Callable[[], None] | None = None,
    ) -> None:
        """Publish at QoS 1, in order."""


class Source(Protocol):
    """Where letters come from."""

    def letters(self, after: int) -> list[Letter]:
        """Letters with an id above `after`, in order."""

    def standing(self) -> Iterable[tuple[str, bytes]]:
        """Topic and payload of all that should stand retained."""


class Publisher:
    """The outbox on one connection.

    `begin` and `load` read the store and belong on its thread; the others belong
    on the connection's.
    """

    def __init__(self, link: Link, source: Source) -> None:
        self._link = link
        self._source = source
        self._loaded = 0
        self._letters: deque[Letter] = deque()
        self._standing: list[tuple[str, bytes]] = []
        self._posted: list[int] = []

    def begin(self) -> None:
        """Load what was not acknowledged before, and what should stand."""
        self.load()
        self._standing = list(self._source.standing())

    def load(self) -> None:
        """Load what was added to the outbox."""
        for letter in self._source.letters(self._loaded):
            self._letters.append(letter)
            self._loaded = letter.id

    def send(self) -> None:
        """Hand everything loaded to the connection."""
        while self._letters:
            letter = self._letters.popleft()
            self._link.publish(
                letter.topic,
                letter.payload,
                retain=letter.retain,
                on_published=lambda number=letter.id: self._posted.append(number),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            )
        for topic, payload in self._standing:
            self._link.publish(topic, payload, retain=True)
        self._standing = []

    def take_posted(self) -> list[int]:
        """Letters that the broker acknowledged since the last call."""
        posted, self._posted = self._posted, []
        return posted
