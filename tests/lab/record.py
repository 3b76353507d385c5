"""What a test did to a city and when: the record by which Pantau is judged, and by nothing else.

    record = Record(tmp_path / "record.jsonl")
    with record.doing("cut", "maesa-0001"):
        city.agents["maesa-0001"].cut()

Each deed stands in the file as soon as it is done, with the wall-clock instants between which it
was done. The judge reads the file anew (`read`).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

_BEAT_S = 0.02


class Deed(NamedTuple):
    """One thing done to a site: at some instant from `began_at` to `ended_at`."""

    what: str
    site: str
    began_at: float
    ended_at: float


class Bounds(NamedTuple):
    """A number that is known to lie between two."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float | int) and self.low <= value <= self.high

    def until(self, later: Bounds) -> Bounds:
        """How long it is from an instant within these to one within `later`."""
        return Bounds(max(0.0, later.low - self.high), max(0.0, later.high - self.low))

    def plus(self, other: Bounds) -> Bounds:
        """Both added."""
        return Bounds(self.low + other.low, self.high + other.high)


NOTHING = Bounds(0.0, 0.0)


class Record:
    """The record of one story; see the module."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.touch()

    @contextlib.contextmanager
    def doing(self, what: str, *sites: str) -> Iterator[None]:
        """What the body does is done to these sites."""
        began_at = time.time()
        yield
        ended_at = time.time()
        with self.file.open("a") as file:
            for site in sites:
                file.write(json.dumps(Deed(what, site, began_at, ended_at)._asdict()) + "\n")


def read(file: Path) -> list[Deed]:
    """All deeds of a record, in the order in which they were done."""
    return [Deed(**json.loads(line)) for line in file.read_text().splitlines()]


class Pacemaker:
    """Measures how late this machine wakes a process that sleeps, while the context lasts.

    What an agent sees it sees as late as that: on a machine that is busy with other things a
    judge of seconds has to know.
    """

    def __init__(self) -> None:
        self.late_s = 0.0
        """The latest so far."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last_s = time.monotonic()
        while not self._end.wait(_BEAT_S):
            now_s = time.monotonic()
            self.late_s = max(self.late_s, now_s - last_s - _BEAT_S)
            last_s = now_s
