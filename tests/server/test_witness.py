"""What the witness makes of its rounds, and what it keeps of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import witness
from server.config import WitnessConfig
from server.model import Site, Witnessed
from server.store import Store
from server.witness import Watch
from tests.server.centre import Centre

EVERY_S = 30.0
SITES = [
    Site("aa-1", "A", "maesa", "telkom", address="127.0.0.1"),
    Site("aa-2", "B", "maesa", "telkom", address="127.0.0.2"),
    Site("aa-3", "C", "maesa", "telkom"),
    Site("aa-4", "D", "maesa", "telkom", address="127.0.0.4", retired=True),
]


def rounds(store: Store, *told: tuple[float, dict[str, bool]]) -> None:
    """Rounds with these results, written as the service writes them."""
    watch = Watch(looked_at=store.witness_at() or 0.0)
    with store.transaction():
        store.end_witnessed(watch.looked_at)
    for at, results in told:
        change = witness.look(watch, results, at, EVERY_S)
        with store.transaction():
            if change.ended_at is not None:
                store.end_witnessed(change.ended_at)
            store.put_witnessed(change.rows)
            store.set_witness_at(at)
        watch = change.watch


def kept(store: Store, site: str = "aa-1") -> list[tuple[float, float, bool]]:
    return [(one.from_at, one.to_at, one.answered) for one in store.witnessed(site, 0.0, 1e9)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Centre(tmp_path).store


def test_spans_change_where_the_answers_change(store: Store) -> None:
    told = [(1000.0 + EVERY_S * n, {"aa-1": n not in (3, 4)}) for n in range(8)]
    rounds(store, *told)

    assert kept(store) == [(1000, 1060, True), (1090, 1120, False), (1150, 1210, True)]


def test_a_round_in_which_nothing_changes_writes_no_span() -> None:
    watch = witness.look(Watch(), {"aa-1": True}, 1000, EVERY_S).watch

    assert witness.look(watch, {"aa-1": True}, 1030, EVERY_S).rows == []


def test_of_the_time_in_which_the_witness_was_away_nothing_is_known(store: Store) -> None:
    rounds(store, (1000, {"aa-1": True}), (1030, {"aa-1": True}), (1200, {"aa-1": True}))
    rounds(store, (5000, {"aa-1": True}), (5030, {"aa-1": True}))

    assert kept(store) == [(1000, 1030, True), (5000, 5030, True)]


def test_a_restart_ends_what_went_on(store: Store) -> None:
    rounds(store, (1000, {"aa-1": True}), (1030, {"aa-1": True}))
    rounds(store, (1060, {"aa-1": False}), (1090, {"aa-1": False}))

    assert kept(store) == [(1000, 1030, True), (1060, 1090, False)]


def test_a_site_without_a_result_is_not_silent(store: Store) -> None:
    rounds(store, (1000, {"aa-1": True, "aa-2": True}), (1030, {"aa-1": True, "aa-2": True}))
    rounds(store, (1060, {"aa-2": True}), (1090, {"aa-1": True, "aa-2": True}))

    assert kept(store) == [(1000, 1030, True)]


def test_only_what_lies_within_the_times_asked_for_is_told(store: Store) -> None:
    rounds(store, *[(1000.0 + EVERY_S * n, {"aa-1": True}) for n in range(8)])

    assert store.witnessed("aa-1", 1010.0, 1100.0) == [Witnessed("aa-1", 1010, 1100, True)]
    assert store.witnessed("aa-1", 1300.0, 1400.0) == []


def test_what_fping_complains_of_is_no_silence() -> None:
    said = "10.0.0.1 is alive\n10.0.0.2 is unreachable\n10.0.0.3 is unreachable\n"
    complaints = "10.0.0.3: error while sending ping: Network is unreachable\nx.y: Name or service"

    assert witness.read(said, complaints) == {"10.0.0.1": True, "10.0.0.2": False}


def test_a_round_in_which_nobody_answers_is_our_own_silence() -> None:
    def said(count: int) -> str:
        return "".join(f"10.0.0.{n} is unreachable\n" for n in range(count))

    assert witness.read(said(10), "") == {}
    assert len(witness.read(said(9), "")) == 9
    assert len(witness.read(said(10) + "10.0.1.1 is alive\n", "")) == 11


@pytest.mark.needs_root
def test_registered_sites_with_an_address_are_pinged(tmp_path: Path) -> None:
    centre = Centre(tmp_path, *SITES)
    one = witness.Witness(centre.store, WitnessConfig(every_s=1.0))
    one.round(1000.0)
    one.round(1001.0)

    assert [kept(centre.store, site.id) for site in SITES] == [
        [(1000, 1001, True)],
        [(1000, 1001, True)],
        [],
        [],
    ]


@pytest.mark.needs_root
def test_rounds_that_take_longer_than_from_one_to_the_next_are_no_absence(tmp_path: Path) -> None:
    """Where an address is silent, a round is two tries of `timeout_s` each."""
    centre = Centre(tmp_path, SITES[0])
    one = witness.Witness(centre.store, WitnessConfig(every_s=1.0, timeout_s=1.0))
    one.round(1000.0)
    one.round(1004.0)

    assert kept(centre.store) == [(1000, 1004, True)]


def test_a_witness_without_fping_says_so_once_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    centre = Centre(tmp_path, *SITES)
    one = witness.Witness(centre.store, WitnessConfig())
    monkeypatch.setenv("PATH", str(tmp_path))
    one.round(1000.0)
    one.round(1030.0)

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "No such file or directory: 'fping'" in caplog.text
    assert kept(centre.store) == []
