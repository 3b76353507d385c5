"""What has proved itself under settings on trial. Pure: readings in, names out."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UnsetType

from agent import wire
from agent.spool import Stream


class Proving:
    """Follows one trial after another."""

    def __init__(self) -> None:
        self._revision: int | None = None
        self._first: tuple[str, int] | None = None
        self._answered: set[str] = set()

    def observe(self, on_trial: int | None, stream: str, seq: int, reading: wire.Reading) -> None:
        """Take in a reading that was stored; only one taken under the trial counts."""
        if on_trial is None or reading.settings_revision != on_trial:
            return
        if self._revision != on_trial:
            self._revision, self._first, self._answered = on_trial, (stream, seq), set()
        for echoes in (reading.ping, reading.ping6):
            if not isinstance(echoes, UnsetType):
                self._answered |= {rung for rung in wire.ECHO_RUNGS if _came_back(echoes, rung)}

    def proved(self, on_trial: int | None, streams: Iterable[Stream]) -> set[str]:
        """The rungs that answered, and ``broker`` when the server has confirmed a reading."""
        if self._first is None or self._revision != on_trial:
            return set()
        stream, seq = self._first
        heard = any(one.stream == stream and one.through >= seq for one in streams)
        return self._answered | ({"broker"} if heard else set())


def _came_back(echoes: wire.Ping, rung: wire.EchoRung) -> bool:
    found = getattr(echoes, rung)
    return not isinstance(found, UnsetType) and bool(found.received)
