"""The SQLite store: durable, whole after a kill, loud when the disk is full."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import wire
from server.model import SiteTerm
from server.store import NoStoreError, StoreError, open_store, sqlite
from tests.server import store_writer
from tests.server.centre import Centre, home
from tests.server.made import MINE, SITE, Device, Message, identity
from tests.wait import until

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "url", ["", "sqlite", "sqlite://", "sqlite:///", "postgres://x/y", "/x.db"]
)
def test_a_url_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match=r"^store\.url .* is not understood; write sqlite:///path"):
        open_store(url)


@pytest.mark.parametrize("slashes", ["sqlite://", "sqlite:///"])
def test_three_slashes_or_four_name_the_same_file(tmp_path: Path, slashes: str) -> None:
    open_store(f"{slashes}{tmp_path}/pantau.db").close()

    assert (tmp_path / "pantau.db").exists()


def test_a_database_is_made_only_when_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NoStoreError):
        open_store(f"sqlite://{tmp_path}/pantau.db", create=False)

    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_looked_at_is_one_error() -> None:
    with pytest.raises(StoreError, match="File name too long; be a user who may write there"):
        open_store(f"sqlite:///{'x' * 300}.db")


def test_opening_twice_migrates_once(tmp_path: Path) -> None:
    first = home(tmp_path)
    version = first.store.registry_version()
    first.restart()

    assert first.store.registry_version() == version


def test_a_migration_that_fails_leaves_no_half_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sqlite._statements
    monkeypatch.setattr(
        sqlite, "_statements", lambda text: iter([*list(whole(text))[:5], "CREATE NONSENSE;"])
    )
    with pytest.raises(StoreError, match="syntax error"):
        open_store(f"sqlite://{tmp_path}/pantau.db")
    monkeypatch.undo()

    assert open_store(f"sqlite://{tmp_path}/pantau.db").sites() == {}


def test_a_commit_waits_for_the_disk_and_readers_do_not_wait_for_writers(tmp_path: Path) -> None:
    centre = home(tmp_path)
    run = centre.store._one  # type: ignore[attr-defined]  # what SQLite itself says
    assert (run("PRAGMA journal_mode")[0], run("PRAGMA synchronous")[0]) == ("wal", 2)

    other = open_store(centre.url)
    with centre.store.transaction():
        centre.store.quarantine(1000, "topic", "reason", b"")
        assert list(other.quarantined()) == []
    assert len(list(other.quarantined())) == 1
    other.close()


def test_what_is_read_in_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    centre = home(tmp_path)
    other = open_store(centre.url)
    with other.snapshot():
        assert list(other.quarantined()) == []
        with centre.store.transaction():
            centre.store.quarantine(1000, "topic", "reason", b"")
        assert list(other.quarantined()) == []
    assert len(list(other.quarantined())) == 1
    other.close()


def test_readings_without_a_synchronised_clock_are_found_by_when_they_came(tmp_path: Path) -> None:
    centre, device = home(tmp_path), Device(synced=False)
    centre.hears(device.live(1000.0))
    centre.hears(device.live(9000.0))

    assert [row.seq for row in centre.store.unsynced(SITE, 0.0)] == [2, 1]
    assert [row.seq for row in centre.store.unsynced(SITE, 8000.0)] == [2]


def test_an_exception_in_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = home(tmp_path).store
    with suppress(KeyError), store.transaction():
        store.quarantine(1000, "topic", "reason", b"")
        raise KeyError

    assert list(store.quarantined()) == []


def test_every_field_of_a_site_comes_back(tmp_path: Path) -> None:
    store = home(tmp_path).store

    assert store.sites() == {SITE: MINE}
    assert store.terms(SITE) == (SiteTerm(MINE, 0.0),)


def test_quarantine_keeps_the_head_of_what_is_large_and_its_size(tmp_path: Path) -> None:
    store = home(tmp_path).store
    with store.transaction():
        store.quarantine(1000, "topic", "reason", b"x" * 300_000)

    [one] = store.quarantined()
    assert (one.size, len(one.head)) == (300_000, 4096)


def test_quarantine_is_bounded_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.store.tables._QUARANTINE_ROWS", 10)
    store = home(tmp_path).store
    with store.transaction():
        for number in range(25):
            store.quarantine(number, "topic", "reason", b"")

    assert [one.at for one in store.quarantined()] == list(range(15, 25))


def logged(log: Path) -> int:
    """Batches whose commit had returned, by the writer's own log."""
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def stored_batches(centre: Centre, site: str) -> list[tuple[int, list[bytes]]]:
    """For each stored batch of a site: its number, and the bodies that were stored."""
    found: dict[int, list[bytes]] = {}
    for _, row in centre.rows(site):
        found.setdefault((row.seq - 1) // 10, []).append(row.body)
    return sorted(found.items())


def test_a_writer_that_is_killed_leaves_every_committed_batch_whole(tmp_path: Path) -> None:
    """Judged by the writer's log, and by the readings made anew, never by the store's count."""
    log, dice = tmp_path / "log", random.Random(7)  # noqa: S311  # no secret
    centre = Centre(tmp_path)
    for _ in range(6):
        centre.store.close()
        before = logged(log)
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.server.store_writer", centre.url, str(log)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        goal = before + dice.randrange(1, 12)
        until(lambda goal=goal: logged(log) >= goal, 60, "the writer")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        writer.kill()
        writer.wait()

        centre.restart()
        committed = logged(log)
        stored = len({(row.seq - 1) // 10 for _, row in centre.rows("aa-1")})
        assert committed <= stored <= committed + 1
        for place, site in enumerate(store_writer.SITES):
            found = stored_batches(centre, site)
            assert [number for number, _ in found] == list(range(stored))
            for number, bodies in found:
                assert bodies == made_anew(number)[place]
            assert centre.through(site) == {identity(site): through(found)}


def made_anew(number: int) -> list[list[bytes]]:
    """The bodies of a batch by site, made anew."""
    return [
        [good.raw for good in wire.decode_readings(one.payload, site=site).good]
        for site, one in zip(store_writer.SITES, store_writer.batch(number), strict=True)
    ]


def through(found: list[tuple[int, list[bytes]]]) -> int:
    """Up to where a site's seqs have no hole."""
    reached = 0
    for number, bodies in found:
        if reached != 10 * number:
            break
        reached += len(bodies)
    return reached


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(centre: Centre, device: Device) -> tuple[list[int], Message, str]:
    """Send large readings until the disk is full: what was taken, what not, and why."""
    taken: list[int] = []
    for n in range(60):
        noise = random.Random(n).randbytes(50_000).hex()  # noqa: S311  # no secret
        message = device.live(1000.0 + 60 * n, errors={"noise": noise})
        try:
            centre.hears(message)
        except StoreError as err:
            return taken, message, str(err)
        taken.append(device.seq)
    raise AssertionError("the disk never filled")


@pytest.mark.needs_root
def test_a_full_disk_is_an_error_that_leaves_nothing_half_written(small_disk: Path) -> None:
    centre = home(small_disk)
    taken, message, why = fill(centre, Device())
    assert taken
    assert re.search("database or disk is full|disk I/O error", why)
    assert centre.seqs(SITE) == taken

    with pytest.raises(StoreError):
        centre.hears(message)
    assert centre.seqs(SITE) == taken


@pytest.mark.needs_root
def test_once_there_is_room_again_the_same_batch_is_taken(small_disk: Path) -> None:
    centre, device = home(small_disk), Device()
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1_000_000)
    _, message, _ = fill(centre, device)
    filler.unlink()
    centre.hears(message)

    assert centre.seqs(SITE) == list(range(1, device.seq + 1))
    assert list(centre.through(SITE).values()) == [device.seq]


def steps(centre: Centre) -> int:
    """How many instructions SQLite runs through to tell what should stand."""
    ran = 0

    def count() -> int:
        nonlocal ran
        ran += 1
        return 0

    assert isinstance(centre.store, sqlite.Database)
    centre.store._db.set_progress_handler(count, 1)
    list(centre.ingest.standing())
    centre.store._db.set_progress_handler(None, 0)
    return ran


def test_what_stands_costs_no_more_after_years_of_streams(tmp_path: Path) -> None:
    """Every power cut that damages the spool begins a new one."""
    centre, before = home(tmp_path), 0
    for number in range(60):
        device = Device(stream=identity(f"stream {number}"))
        centre.hears(device.live(1000.0 + 60 * number))
        if number == 1:
            before = steps(centre)

    assert steps(centre) == before > 0
    stands = centre.standing()[f"sites/{SITE}/acks"]
    assert stands["stream"] == identity("stream 59")


def test_the_stream_that_was_seen_stands_although_another_came_later(tmp_path: Path) -> None:
    centre, device, found = home(tmp_path), Device(), Device(stream=identity("found again"))
    found.reading(500)
    centre.hears(device.live(1000), device.live(1060), found.message(1061, 1))
    other = Device(site="bitung-0099", stream=identity("other"))
    centre.hears(other.live(1000))

    stands = {topic: body for topic, body in centre.standing().items() if "/acks" in topic}
    assert {topic: (body["stream"], body["through"]) for topic, body in stands.items()} == {
        f"sites/{SITE}/acks": (device.stream, 2),
        "sites/bitung-0099/acks": (other.stream, 1),
    }
