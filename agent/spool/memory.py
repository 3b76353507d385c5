"""Readings that no disk took: a stream that lives and dies with the process.

Its name is made for it and never written down, so that none of its seqs can
come again, whatever becomes of the process.
"""

from __future__ import annotations

import uuid
from collections import deque

CAPACITY = 500
"""Readings held at most; about 1 MB."""


class Memory:
    """One such stream; the oldest reading makes room for the newest."""

    size = 0

    def __init__(self) -> None:
        self.stream = str(uuid.uuid4())
        self.first = 1
        self._payloads: deque[bytes] = deque()

    @property
    def last(self) -> int:
        return self.first + len(self._payloads) - 1

    def append(self, payload: bytes) -> bool:
        """Keep one reading; False when another had to go for it."""
        self._payloads.append(payload)
        if len(self._payloads) <= CAPACITY:
            return True
        self._payloads.popleft()
        self.first += 1
        return False

    def read(self, first_seq: int, limit: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Up to `limit` readings from `first_seq` on, at least one, within `max_bytes`."""
        found: list[tuple[int, bytes]] = []
        for seq in range(first_seq, min(self.last, first_seq + limit - 1) + 1):
            payload = self._payloads[seq - self.first]
            max_bytes -= len(payload)
            if found and max_bytes < 0:
                break
            found.append((seq, payload))
        return found
