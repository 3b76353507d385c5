"""Terms with dates: what is valid when, and an older database that learns of them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from server import terms
from server.model import Contract, Maintenance, Site, SiteTerm
from server.store import Store, open_store
from server.store.sqlite import _statements
from tests.server.centre import Centre
from tests.server.made import MINE, SITE, Device

OLD = SiteTerm(MINE, 0.0, 1000.0)
NEW = SiteTerm(Site(SITE, "Pasar Girian", "girian", "biznet"), 1000.0)


def test_a_term_is_valid_from_its_beginning_to_just_before_its_end() -> None:
    assert [terms.in_force((OLD, NEW), at) for at in (-1.0, 0.0, 999.9, 1000.0)] == [
        *(None, OLD, OLD, NEW),
    ]


def test_a_period_is_cut_where_terms_change() -> None:
    assert list(terms.within((OLD, NEW), 900.0, 1100.0)) == [
        *((900.0, 1000.0, OLD), (1000.0, 1100.0, NEW)),
    ]


def test_where_no_term_is_valid_a_period_has_no_part() -> None:
    assert list(terms.within((OLD,), 900.0, 1100.0)) == [(900.0, 1000.0, OLD)]
    assert list(terms.within((OLD,), 1000.0, 1100.0)) == []


def test_a_site_that_ends_loses_what_was_to_come() -> None:
    assert terms.ended((OLD, NEW), 500.0) == (SiteTerm(MINE, 0.0, 500.0),)


def test_what_is_entered_without_an_end_lasts_until_the_next_change() -> None:
    assert terms.entered((OLD, NEW), NEW.site, 500.0) == (
        SiteTerm(MINE, 0.0, 500.0),
        SiteTerm(NEW.site, 500.0, None),
    )
    assert terms.entered((OLD, NEW), MINE, -500.0) == (SiteTerm(MINE, -500.0, 1000.0), NEW)


@pytest.mark.parametrize("begin", [-500.0, 0.0, 500.0, 999.0])
def test_a_known_end_stays_where_a_term_without_an_end_is_entered(begin: float) -> None:
    """The same again, also from earlier on, and another."""
    assert terms.entered((OLD,), MINE, begin) == (SiteTerm(MINE, min(begin, 0.0), 1000.0),)
    assert terms.entered((OLD,), NEW.site, begin)[-1].valid_to == 1000.0


def test_a_term_from_a_known_end_on_puts_the_site_back_for_good() -> None:
    assert terms.entered((OLD,), MINE, 1000.0) == (SiteTerm(MINE, 0.0, None),)
    assert terms.entered((OLD,), MINE, 2000.0) == (OLD, SiteTerm(MINE, 2000.0, None))


def test_a_gap_in_service_stays_a_gap() -> None:
    again = SiteTerm(MINE, 3000.0)

    assert terms.entered((OLD, again), NEW.site, 500.0) == (
        *(SiteTerm(MINE, 0.0, 500.0), SiteTerm(NEW.site, 500.0, 1000.0), again),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(f"sqlite://{tmp_path}/pantau.db")
    yield made
    made.close()


def test_a_term_to_come_becomes_the_registry_when_its_time_is_there(store: Store) -> None:
    with store.transaction():
        store.put_terms(SITE, (OLD, NEW))
        store.promote(500.0)
    assert store.sites()[SITE].isp == "telkom"
    assert store.next_change_at(500.0) == 1000.0

    version = store.registry_version()
    with store.transaction():
        store.promote(1000.0)
    assert store.sites()[SITE].isp == "biznet"
    assert store.registry_version() > version
    assert store.next_change_at(1000.0) is None


def test_promoting_where_nothing_changed_is_no_change(store: Store) -> None:
    with store.transaction():
        store.put_terms(SITE, (OLD, NEW))
        store.promote(500.0)
    version = store.registry_version()
    with store.transaction():
        store.promote(600.0)

    assert store.registry_version() == version


def test_a_site_without_a_term_is_retired_and_one_to_come_is_not_there_yet(store: Store) -> None:
    with store.transaction():
        store.put_terms(SITE, (OLD,))
        store.put_terms("bitung-9", (SiteTerm(Site("bitung-9", "Pos", "maesa", "icon"), 3000.0),))
        store.promote(500.0)
    assert list(store.sites()) == [SITE]

    with store.transaction():
        store.promote(2000.0)
    assert store.sites()[SITE].retired


def test_contracts_and_maintenance_also_change_with_time(store: Store) -> None:
    with store.transaction():
        store.put_contract("c", [Contract("c", 100.0, 400.0)], at=1.0)
        store.put_maintenance(Maintenance("m1", "isp", "telkom", 200.0, 300.0))

    assert [store.next_change_at(at) for at in (0.0, 100.0, 200.0, 300.0, 400.0)] == [
        *(100.0, 200.0, 300.0, 400.0, None),
    ]


def test_every_change_of_a_contract_is_a_version_and_the_older_stay(store: Store) -> None:
    with store.transaction():
        first = store.put_contract("c", [Contract("c", 0.0, price=100.0)], at=1.0)
        second = store.put_contract("c", [Contract("c", 0.0, price=200.0)], at=2.0)

    assert (first, second) == (1, 2)
    assert store.contracts() == {"c": (Contract("c", 0.0, price=200.0, version=2),)}
    old, new = store.contract_versions("c")
    assert (old.terms[0].price, new.terms[0].price) == (100.0, 200.0)
    assert (old.at, old.version, old.terms[0].version) == (1.0, 1, 1)


def test_the_newest_rules_are_in_force_and_the_older_stay(store: Store) -> None:
    assert store.rules_text() == ""
    with store.transaction():
        store.put_rules("a", at=1.0)
        store.put_rules("b", at=2.0)

    assert store.rules_text() == "b"
    assert store.rules_versions() == [(1, 1.0, "a"), (2, 2.0, "b")]


def test_every_registry_command_raises_the_version_that_ingest_watches(store: Store) -> None:
    versions = [store.registry_version()]
    for write in (
        lambda: store.put_terms(SITE, (OLD,)),
        lambda: store.put_contract("c", [], at=1.0),
        lambda: store.put_maintenance(Maintenance("m1", "isp", "telkom", 0.0, 1.0)),
        lambda: store.put_rules("", at=1.0),
    ):
        with store.transaction():
            write()
        versions.append(store.registry_version())

    assert versions == sorted(set(versions))


def old_database(path: Path) -> None:
    """A database as the first version of Pantau left it: a site that spoke, one that never did."""
    db = sqlite3.connect(path)
    first = resources.files("server.store") / "schema" / "001.sql"
    for statement in _statements(first.read_text()):
        db.execute(statement)
    db.execute("PRAGMA user_version = 1")
    for site, retired in (("aa-1", 0), ("aa-2", 0), ("aa-3", 1), ("aa-4", 0)):
        db.execute(
            "INSERT INTO sites VALUES (?, 'Taman \"Kota\"', 'maesa', 'telkom', 'c', 1.5, NULL,"
            " 'Asia/Makassar', 'b', 'p', ?)",
            (site, retired),
        )
    device = Device(site="aa-1")
    message = device.live(50_000.0)
    db.execute("INSERT INTO messages VALUES (1, ?)", (message.payload,))
    db.execute("INSERT INTO streams VALUES (1, 'aa-1', ?, 8, '[]', 0)", (device.stream,))
    for seq, received_at, taken_at, flags in ((7, 60_000.0, 50_000.0, 0), (8, 40_000.0, 1.0, 2)):
        db.execute(
            "INSERT INTO readings (stream_id, seq, received_at, taken_at, flags, message, place)"
            " VALUES (1, ?, ?, ?, ?, 1, 0)",
            (seq, received_at, taken_at, flags),
        )
    body = json.dumps(
        {
            "id": "i",
            "kind": "site_offline",
            "site": "aa-4",
            "district": "maesa",
            "isp": "telkom",
            "title": "t",
            "opened_at": 70_000.0,
            "detected_at": 70_030.0,
        }
    )
    db.execute(
        "INSERT INTO incidents VALUES ('i', 'aa-4', 'site_offline', 70000.0, NULL, ?)",
        (body.encode(),),
    )
    db.execute("UPDATE meta SET value = 4 WHERE key = 'registry_version'")
    db.commit()
    db.close()


def test_a_database_of_the_first_version_keeps_all_and_gets_its_dates(tmp_path: Path) -> None:
    old_database(tmp_path / "pantau.db")
    before = time.time()
    store = open_store(f"sqlite://{tmp_path}/pantau.db")

    known = store.sites()
    assert {name: site.retired for name, site in known.items()} == {
        "aa-1": False,
        "aa-2": False,
        "aa-3": True,
        "aa-4": False,
    }
    site = Site(
        "aa-1", 'Taman "Kota"', "maesa", "telkom", "c", 1.5, None, "Asia/Makassar", "b", "p"
    )
    assert known["aa-1"] == site
    assert [row.seq for _, row in store.readings("aa-1")] == [7, 8]
    assert [one.site for one in store.firing()] == ["aa-4"]

    of_site = store.terms_all()
    assert of_site["aa-1"] == (SiteTerm(site, 50_000.0),)
    assert of_site["aa-4"][0].valid_from == 70_000.0
    [unheard], [gone] = of_site["aa-2"], of_site["aa-3"]
    assert before - 1 <= unheard.valid_from <= time.time() + 1
    assert gone.valid_to is not None
    assert store.terms("aa-2") == (unheard,)
    with store.transaction():
        store.promote(time.time() + 1)
    assert store.sites() == known
    store.close()


def test_the_upgrade_is_done_once(tmp_path: Path) -> None:
    old_database(tmp_path / "pantau.db")
    open_store(f"sqlite://{tmp_path}/pantau.db").close()
    store = open_store(f"sqlite://{tmp_path}/pantau.db")

    assert len(store.terms("aa-2")) == 1
    store.close()


def test_a_site_whose_isp_changes_keeps_its_past(tmp_path: Path) -> None:
    centre = Centre(tmp_path, MINE)
    centre.enter(NEW.site, valid_from=1000.0)

    assert centre.store.terms(SITE) == (OLD, NEW)
    assert centre.store.sites()[SITE].isp == "biznet"
    centre.store.close()


def test_a_running_ingest_takes_over_a_term_to_come_when_its_time_is_there(
    tmp_path: Path,
) -> None:
    centre = Centre(tmp_path, MINE)
    centre.hears(Device().live(900.0))
    with centre.store.transaction():
        centre.store.put_terms(SITE, (OLD, NEW))
    assert centre.ingest.refresh_registry(950.0) == 0

    assert centre.ingest.refresh_registry(999.9) == 0
    assert f"state/girian/telkom/{SITE}" in centre.retained()
    assert centre.ingest.refresh_registry(1000.0) > 0
    assert f"state/girian/biznet/{SITE}" in centre.retained()
    assert f"state/girian/telkom/{SITE}" not in centre.retained()
    assert centre.ingest.refresh_registry(1010.0) == 0
    centre.store.close()
