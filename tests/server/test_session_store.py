"""What a connection of ingest tells of a store that fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server import session
from server.config import Mqtt
from server.resend import Holes
from server.store import StoreError
from tests.lab.broker import Broker
from tests.server.centre import home
from tests.server.link import connected, run


def _failing(times: int) -> Callable[[], int]:
    """Work on a store that fails so often, and then gives how often it was tried."""
    tries = itertools.count()

    def work() -> int:
        done = next(tries)
        if done < times:
            raise StoreError("city.db: database or disk is full")
        return done

    return work


def test_two_loops_that_wait_for_the_store_tell_once_that_it_fails_and_once_that_it_works(
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(session, "_RETRY_S", 0.01)

    async def story() -> None:
        with ThreadPoolExecutor(1) as worker:
            async with connected(Mqtt(url=broker.url)) as link:
                one = session.Session(link, home(tmp_path).ingest, worker, Holes(), 0.0)
                works = [one._retried(_failing(times)) for times in (3, 6, 0)]
                assert await asyncio.gather(*works) == [3, 6, 0]

    run(story)
    told = [record.message for record in caplog.records if record.name == session.__name__]
    assert told == [
        "city.db: database or disk is full; trying again every 0 s, nothing is lost",
        "the store works again",
    ]
