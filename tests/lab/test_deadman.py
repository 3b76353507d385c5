"""The dead-man's call of a real ``pantau ingest``: made while it works, and only then."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab.city import City
from tests.lab.page import Page
from tests.wait import until

pytestmark = pytest.mark.slow


@pytest.fixture
def page() -> Iterator[Page]:
    with Page() as running:
        yield running


def test_the_call_is_made_while_ingest_is_caught_up_and_its_store_works(
    tmp_path: Path, page: Page
) -> None:
    city = City(tmp_path / "city", None, [], also=["aa-1"])
    city.tables["deadman"] = {"url": page.url, "every_s": 1}
    with city:
        until(lambda: len(page.fetched) >= 3, 30, "three calls")
        assert {path for _, path in page.fetched} == {"/ping/secret"}

        city.broker.stop()
        _falls_silent(page, "the broker is away")
        city.broker.start()
        back_at = time.time()
        until(lambda: page.since(back_at), 60, "a call once the broker is back")

        with closing(sqlite3.connect(city.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            _falls_silent(page, "the database is locked")
            other.execute("ROLLBACK")
        back_at = time.time()
        until(lambda: page.since(back_at), 60, "a call once the store works again")


def _falls_silent(page: Page, when: str) -> None:
    """Eight seconds pass without a call."""

    def silent() -> bool:
        last_at = page.fetched[-1][0]
        return time.time() - last_at > 8

    until(silent, 60, f"silence while {when}")


def test_a_call_that_fails_is_logged_once_and_harms_nothing(tmp_path: Path, page: Page) -> None:
    page.status = 503
    city = City(tmp_path / "city", None, [], also=["aa-1"])
    city.tables["deadman"] = {"url": page.url, "every_s": 1}
    with city:
        until(lambda: len(page.fetched) >= 4, 30, "four calls")
        (line,) = city.ingest.lines("dead-man's call")
        assert line.endswith("to 127.0.0.1 failed: HTTP Error 503: Service Unavailable")
        assert city.status() == {"aa-1": "unknown"}
        page.status = 200
        city.ingest.wait_for("the dead-man's call to 127.0.0.1 works again")
