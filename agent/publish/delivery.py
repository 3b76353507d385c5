"""Whether the centre confirms what this process sends. Pure.

Rules
 1. What counts is an ack, not the broker's PUBACK: the reading is stored at the centre.
 2. It must cover a reading that was sent in this life of the process, and say more than the ack
    that stood retained at the broker, which tells of earlier times.
"""

from __future__ import annotations


class Delivery:
    """Follows what is sent and acknowledged, over all connections of a process."""

    def __init__(self) -> None:
        self.confirmed = False
        self._sent: dict[str, int] = {}  # by stream, the lowest seq
        self._stood: dict[str, int] = {}

    def sent(self, stream: str, seq: int) -> None:
        """A message with readings from `seq` on went out."""
        self._sent[stream] = min(self._sent.get(stream, seq), seq)

    def acked(self, stream: str, through: int, *, retained: bool) -> None:
        """The centre says that it has everything of `stream` up to `through`."""
        if retained:
            self._stood[stream] = through
        elif stream in self._sent and through >= self._sent[stream]:
            self.confirmed |= through > self._stood.get(stream, 0)
