"""What people say of an incident: kept by commands, taken notice of by ingest, shown again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server.model import Note
from server.notes import said
from tests.server.centre import Centre
from tests.server.made import MINE, Device
from tests.server.test_cli import Run, configured


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    """One site, offline and back; then offline again."""
    made = Centre(tmp_path, MINE)
    device = Device()
    made.hears(device.live(1000.0))
    made.waits(1151.0)
    made.hears(device.live(1300.0))
    made.waits(1500.0)
    return made


@pytest.fixture
def run(centre: Centre, tmp_path: Path) -> Run:
    """Commands beside the ingest of `centre`."""
    assert centre.store is not None
    return configured(tmp_path)


def ids(run: Run) -> list[str]:
    return [one["id"] for one in run("incidents", "--json").objects]


def test_an_incident_is_shown_by_a_short_id_with_every_revision(run: Run) -> None:
    first, second = ids(run)
    assert first[:8] != second[:8]
    shown = run("incidents", "show", first[:8])

    assert shown.code == 0
    assert f"id           {first}" in shown.out
    assert "opened       1970-01-01 08:16:40 WITA (the last sign of life before)" in shown.out
    [body] = run("incidents", "show", first, "--json").objects
    assert [one["revision"] for one in body["changes"]] == [1, 2]
    assert "resolved" in body["changes"][1]["changed"]
    listed = run("incidents").out.splitlines()
    assert [line.split()[0] for line in listed[1:]] == [first[:8], second[:8]]


def test_what_is_said_becomes_a_revision_of_the_alert_that_ingest_publishes(
    run: Run, centre: Centre
) -> None:
    _, firing = ids(run)
    assert run("incidents", "ack", firing[:8], "--who", "rini").code == 0
    ticket = ("incidents", "ticket", firing[:8], "INC-7", "--who", "rini")
    assert run(*ticket, "--responded", "2026-11-22 15:10").code == 0
    assert run(*ticket, "--restored", "2026-11-22T09:45:00Z").code == 0
    assert run("incidents", "dispute", firing[:8], "the line was up", "--who", "isp").code == 0
    assert centre.ingest.refresh_registry(1600.0) > 0
    assert centre.ingest.refresh_registry(1601.0) == 0

    alert = centre.retained()[f"alerts/girian/telkom/{firing}"]
    assert alert["acknowledged"]["by"] == "rini"
    assert alert["ticket"]["reference"] == "INC-7"
    assert alert["ticket"]["responded_at"] == "2026-11-22T07:10:00.000Z"
    assert alert["ticket"]["restored_at"] == "2026-11-22T09:45:00.000Z"
    assert alert["disputed"]["text"] == "the line was up"
    assert (alert["status"], alert["revision"]) == ("firing", 2)

    assert run("incidents", "settle", firing[:8], "they agree", "--who", "rini").code == 0
    centre.ingest.refresh_registry(1610.0)
    alert = centre.retained()[f"alerts/girian/telkom/{firing}"]
    assert (alert["disputed"], alert["revision"]) == (None, 3)
    [body] = run("incidents", "show", firing[:8], "--json").objects
    assert [one["kind"] for one in body["notes"]] == [
        *("ack", "ticket", "ticket", "dispute", "settled"),
    ]


def test_a_word_on_an_old_incident_does_not_end_the_one_that_fires(
    run: Run, centre: Centre
) -> None:
    old, firing = ids(run)
    centre.ingest.refresh_registry(1600.0)  # the old one is looked at again
    run("incidents", "note", old, "the landlord had cut the power", "--who", "rini")
    assert centre.ingest.refresh_registry(1600.0) == 0  # a note alone changes no alert
    run("incidents", "ack", old, "--who", "rini")
    centre.ingest.refresh_registry(1610.0)

    assert [one.id for one in centre.store.firing()] == [firing]
    assert f"alerts/girian/telkom/{firing}" in centre.standing()


@pytest.mark.parametrize(
    ("words", "code", "fault"),
    [
        (("show", "nothing"), 1, "no incident 'nothing'; see 'pantau incidents'"),
        (("show", ""), 1, "no incident ''"),
        (("note", "ID", " "), 2, "TEXT: is empty"),
        (("settle", "ID", "over"), 1, "is not disputed"),
        (("ticket", "ID", "INC", "--restored", "soon"), 2, "--restored: 'soon' is no time"),
    ],
)
def test_what_cannot_be_said_is_refused_and_not_kept(
    run: Run, words: tuple[str, ...], code: int, fault: str
) -> None:
    firing = ids(run)[1]
    ran = run("incidents", *(firing if word == "ID" else word for word in words))

    assert (ran.code, ran.out) == (code, "")
    assert fault in ran.err
    assert len(ran.err.splitlines()) == 1
    assert run("incidents", "show", firing, "--json").objects[0]["notes"] == []


def test_an_id_that_begins_two_incidents_is_refused(run: Run, centre: Centre) -> None:
    [one, *_] = centre.store.incidents()
    with centre.store.transaction():
        for name in ("same-1", "same-2"):
            centre.store.put_incident(replace(one, id=name), 1.0)

    assert "more than one incident begins with 'same'" in run("incidents", "show", "same").err


def test_the_last_word_of_each_kind_counts_and_another_reference_is_another_ticket() -> None:
    def ticket(at: float, text: str, responded_at: float | None = None) -> Note:
        return Note("i", at, "rini", "ticket", text, responded_at)

    assert said([ticket(1, "A", 5.0), ticket(2, "A")]).ticket == ticket(2, "A", 5.0)
    assert said([ticket(1, "A", 5.0), ticket(2, "B")]).ticket == ticket(2, "B")
    acks = [Note("i", 1, "rini", "ack"), Note("i", 2, "budi", "ack")]
    assert said(acks).acknowledged == acks[1]
    assert said([]) == said([Note("i", 1, "rini", "note", "hm")])
