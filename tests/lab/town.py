"""Modelled sites that a test makes suffer while it watches what broker and centre make of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from server.config import Mqtt
from server.fleet.fleet import Fleet, in_memory
from server.fleet.story import DEFAULTS, EVENTS, Event

T = TypeVar("T")
_WITHIN_S = 60.0


def event(name: str, what: str, **more: Any) -> Event:
    """Something that happens, by its default measure; who is struck says who strikes."""
    return Event(name, 0.0, None, what, (), DEFAULTS.get(EVENTS[what] or "", 0.0), **more)


class Town:
    """Modelled sites, in an event loop of their own; each waits for its `begin`.

    Args:
        url: of the broker.
        window_s: seconds of one reading.
        keepalive_s: after 1.5 of these the broker gives a silent site up.
        running: those whose device runs already; `begin` starts only their agent.

    Attributes:
        made: site, stream and seq of each reading, in their order.
    """

    def __init__(
        self,
        url: str,
        names: Sequence[str],
        *,
        window_s: float = 1.0,
        keepalive_s: int = 4,
        running: Collection[str] = (),
    ) -> None:
        self._folder = in_memory()  # on a busy disk each reading may take a second
        self.made: list[tuple[str, str, int]] = []
        self._fleet = Fleet(
            dict.fromkeys(names, ("ap-1",)),
            Mqtt(url=url, keepalive_s=keepalive_s),
            window_s=window_s,
            spools=Path(self._folder.name),
            made=lambda site, stream, seq, *_: self.made.append((site, stream, seq)),
            running=running,
        )
        self.sites = self._fleet.sites
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()

    def do(self, deed: Callable[[], T]) -> T:
        """What `deed` gives, done where the sites live."""
        done: Future[T] = Future()

        def now() -> None:
            try:
                done.set_result(deed())
            except Exception as err:
                done.set_exception(err)

        self._loop.call_soon_threadsafe(now)
        return done.result(_WITHIN_S)

    def begin(self, *names: str) -> None:
        """Start them."""
        self.do(lambda: self._fleet.switch_on(names))

    def strikes(self, one: Event, *names: str) -> None:
        """It begins at these sites."""
        self.do(lambda: self._fleet.begin(replace(one, sites=names)))

    def passes(self, one: Event, *names: str) -> None:
        """It ends at these sites."""
        self.do(lambda: self._fleet.end(replace(one, sites=names)))

    def unreleased(self, name: str) -> int:
        """How many readings in its spool wait for an ack."""
        spool = self.sites[name].box.spool
        assert spool is not None
        return spool.unreleased

    @contextmanager
    def living(self) -> Iterator[Town]:
        """They live as long as this lasts; a fault of one is raised at the end."""
        faults: list[BaseException] = []
        ready, over = threading.Event(), asyncio.Event()

        async def live() -> None:
            fleet = asyncio.create_task(self._fleet.run())
            ready.set()
            ends = asyncio.create_task(over.wait())
            await asyncio.wait([ends, fleet], return_when="FIRST_COMPLETED")
            for task in (ends, fleet):
                task.cancel()
            ended = await asyncio.gather(fleet, return_exceptions=True)
            faults.extend(one for one in ended if isinstance(one, Exception))

        thread = threading.Thread(target=self._runner.run, args=(live(),))
        thread.start()
        ready.wait(_WITHIN_S)
        try:
            yield self
        finally:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(over.set)
            thread.join(_WITHIN_S)
            self._runner.close()
            self._folder.cleanup()
        assert faults == []
