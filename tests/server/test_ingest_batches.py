"""One batch is one transaction; what comes twice changes nothing; what is broken stands aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import wire
from server import health, intake, seqset
from server.store import Store, StoreError
from tests.server.centre import Centre, home
from tests.server.made import OTHER, SITE, Device, Message, identity, presence, says


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return home(tmp_path)


def content(centre: Centre) -> tuple[object, ...]:
    """All that a batch may change."""
    store = centre.store
    return (
        *(centre.rows(site) for site in (SITE, OTHER)),
        list(store.streams()),
        store.healths(),
        centre.incidents(),
        store.outbox(0),
        list(store.quarantined()),
    )


def with_reading(device: Device, at: float, raw: bytes) -> Message:
    """A message whose last reading is `raw`."""
    seq = msgspec.json.decode(raw).get("seq", 0)
    device.spool[seq] = raw
    return device.message(at, *sorted(device.spool))


def test_a_batch_is_stored_and_accounted_for(centre: Centre) -> None:
    device = Device()
    for at in (1000, 1060, 1120):
        device.reading(at)
    taken = centre.hears(device.message(1121, 1, 2, 3))

    assert centre.rows(SITE) == [
        (device.stream, (1, seq, 1121, 940.0 + 60 * seq, 0, device.spool[seq])) for seq in (1, 2, 3)
    ]
    [progress] = taken.progress.values()
    assert progress == (SITE, device.stream, 3, None, True)


def test_the_bytes_that_were_sent_are_the_bytes_that_are_stored(centre: Centre) -> None:
    device = Device()
    odd = b'{ "new_field": [1,2],  "seq" : 1 ,' + wire.encode(device.reading(1000))[1:]
    odd = odd.replace(b'"seq":1,', b"", 1)
    centre.hears(with_reading(device, 1000, odd))

    assert centre.rows(SITE)[0][1].body == odd


def test_a_second_delivery_changes_nothing_but_the_time(centre: Centre) -> None:
    device = Device()
    first = device.live(1000)
    centre.hears(first)
    before = content(centre)

    centre.hears(first._replace(received_at=1500.0))
    assert content(centre) == before


def test_a_second_delivery_within_one_batch_changes_nothing(centre: Centre) -> None:
    device = Device()
    first = device.live(1000)
    centre.hears(first, first)

    assert centre.seqs(SITE) == [1]


def test_a_batch_that_is_delivered_again_after_a_crash_makes_no_second_alert(
    centre: Centre,
) -> None:
    device = Device()
    batch = [device.live(1000 + 60 * n, ladder={"world": "fail"}) for n in range(4)]
    centre.hears(*batch)
    before = content(centre)
    centre.restart()

    centre.hears(*batch)
    assert content(centre) == before
    assert [incident.revision for incident in centre.incidents()] == [1]


def test_presences_that_come_again_with_all_after_them_leave_the_site_as_it_was(
    centre: Centre,
) -> None:
    """What overtook others is not yet confirmed to the broker when they are lost with us."""
    device = Device()
    messages = [
        says(presence("online", "first"), 1000.0),
        device.live(1001.0),
        says(presence("offline", "first", reason="lost"), 1010.0),
        says(presence("online", "second"), 1012.0),
        device.live(1061.0),
        says(presence("online", "third"), 1065.0),
    ]
    centre.hears(*messages)
    state = centre.ingest._memory.healths[SITE]
    centre.restart()
    again = [one._replace(received_at=1070.0) for one in messages]
    centre.hears(*again, caught_up=False)
    centre.ingest.absent(1066.0, 1070.5, "killed")
    after = centre.ingest._memory.healths[SITE]

    assert (after.session, after.status, after.seen) == (state.session, state.status, state.seen)
    assert after.confirm_at is None
    centre.hears(device.live(1121.0))
    centre.waits(1121.0 + 60.0)
    assert centre.incidents() == []


def test_the_same_name_with_other_content_is_set_aside_and_the_first_stays(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    first = device.spool[1]
    device.spool[1] = first.replace(b'"world":"ok"', b'"world":"fail"')
    centre.hears(device.message(1001, 1))

    assert [row.body for _, row in centre.rows(SITE)] == [first]
    assert centre.reasons() == ["seq 1 is already stored with other content"]


def test_the_same_content_in_other_words_is_a_second_delivery(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    told = dict(reversed(msgspec.json.decode(device.spool[1]).items()))
    device.spool[1] = msgspec.json.format(msgspec.json.encode(told))
    centre.hears(device.message(1001, 1))

    assert centre.reasons() == []


def test_one_bad_reading_in_a_good_batch_stands_aside_alone_and_is_accounted_for(
    centre: Centre,
) -> None:
    device = Device()
    for at in (1000, 1060, 1120):
        device.reading(at)
    bad = device.spool[2] = device.spool[2].replace(b'"window_s":60.0', b'"window_s":-1')
    taken = centre.hears(device.message(1121, 1, 2, 3))

    assert centre.seqs(SITE) == [1, 3]
    assert [progress.through for progress in taken.progress.values()] == [3]
    [aside] = centre.store.quarantined()
    assert "window_s" in aside.reason
    assert (aside.head, aside.size) == (bad, len(bad))


def test_a_lone_surrogate_spoils_its_own_reading_and_no_other(centre: Centre) -> None:
    device = Device()
    device.reading(1000, errors={"name": "Pasar \U0001f4e1"})
    device.reading(1060)
    device.spool[2] = device.spool[2].replace(b"boot-1", b"boot-\\ud800")
    payload = wire.plain(device.envelope(1061, 1, 2)).replace(
        "\U0001f4e1".encode(), b"\\ud83d\\udce1"
    )
    centre.hears(Message(wire.site_topic(SITE, "readings"), payload, False, 1061.0))

    [(_, row)] = centre.rows(SITE)
    assert row.body == device.spool[1].replace("\U0001f4e1".encode(), b"\\ud83d\\udce1")
    assert centre.reasons() == ["lone surrogate"]


def test_a_bad_reading_without_a_seq_leaves_a_hole(centre: Centre) -> None:
    device = Device()
    device.reading(1000)
    device.reading(1060)
    device.spool[1] = b'{"seq":"one"}'
    taken = centre.hears(device.message(1061, 1, 2))

    [progress] = taken.progress.values()
    assert (progress.through, progress.gap) == (0, (1, 1))


@pytest.mark.parametrize(
    "broken",
    [
        {"v": 2},
        {"stream": "none"},
        {"oldest": 0},
        {"readings": []},
        {"sent_uptime_s": -1},
        {"site": OTHER},
    ],
)
def test_an_invalid_envelope_sets_the_whole_message_aside(
    centre: Centre, broken: dict[str, Any]
) -> None:
    device = Device()
    good = device.live(1000)
    told = {**msgspec.json.decode(wire.plain(good.payload)), **broken}
    bad = good._replace(payload=msgspec.json.encode(told))
    taken = centre.hears(bad)

    assert centre.rows(SITE) == []
    assert list(centre.store.streams()) == []
    assert taken.progress == {}
    [aside] = centre.store.quarantined()
    assert (aside.topic, aside.head) == (bad.topic, bad.payload)


def test_a_site_cannot_speak_for_another(centre: Centre) -> None:
    foreign = Device(site=OTHER).live(1000)
    centre.hears(foreign._replace(topic=wire.site_topic(SITE, "readings")))

    assert centre.rows(OTHER) == centre.rows(SITE) == []
    assert centre.reasons() == [f"speaks for '{OTHER}' on the topic of '{SITE}'"]


def test_what_is_broken_does_not_keep_the_rest_of_its_batch(centre: Centre) -> None:
    device = Device()
    topic = wire.site_topic(SITE, "presence")
    centre.hears(
        device.live(1000),
        Message(topic, b"{", False, 1001.0),
        Message(topic, b"", False, 1001.0),
        Message("pantau/v1/sites/UPPER/readings", b"{}", False, 1001.0),
        Message(wire.site_topic(SITE, "letters"), b"{}", False, 1001.0),
        Message(wire.site_topic(SITE, "replies"), b"[]", False, 1001.0),
        device.live(1060),
    )

    assert centre.seqs(SITE) == [1, 2]
    assert [one.topic for one in centre.store.quarantined()] == [
        topic,
        "pantau/v1/sites/UPPER/readings",
        wire.site_topic(SITE, "letters"),
        wire.site_topic(SITE, "replies"),
    ]


@pytest.mark.parametrize("whose", [{"v": 1, "site": SITE}, {}])
def test_an_echo_is_asked_back_for(centre: Centre, whose: dict[str, object]) -> None:
    reply = json.dumps({**whose, "id": identity("echo"), "echo": True}).encode()
    topic = wire.site_topic(SITE, "replies")

    taken = centre.hears(Message(topic, reply, False, 1000.0))
    assert taken.echoes == [(SITE, identity("echo"))]
    assert not [*centre.store.quarantined()]


def test_each_stream_has_its_own_through_and_the_newest_is_told(centre: Centre) -> None:
    old, new = Device(), Device(stream=identity("another"))
    centre.hears(old.live(1000), old.live(1060))
    taken = centre.hears(new.live(1120), old.message(1121, 2))

    assert [(one.stream, one.through, one.newest) for one in taken.progress.values()] == [
        (new.stream, 1, True),
        (old.stream, 2, False),
    ]


def test_what_the_agent_no_longer_holds_is_known_lost_and_counted(centre: Centre) -> None:
    device = Device()
    for n in range(6):
        device.reading(1000 + n)
    centre.hears(device.message(1010, 1))
    taken = centre.hears(device.message(1011, 6, oldest=5))

    [progress] = taken.progress.values()
    assert (progress.through, progress.gap) == (4, (5, 5))
    assert [row.lost for row in centre.store.streams()] == [3]


def test_what_was_given_up_and_yet_comes_is_stored_and_not_lost(centre: Centre) -> None:
    device = Device()
    for n in range(6):
        device.reading(1000 + n)
    centre.hears(device.message(1010, 6, oldest=6))
    centre.hears(device.message(1011, 3), device.message(1012, 3))

    assert centre.seqs(SITE) == [3, 6]
    assert [row.lost for row in centre.store.streams()] == [4]


def test_ingest_remembers_the_streams_in_use_and_knows_all(centre: Centre) -> None:
    devices = [Device(stream=identity(f"stream {n}")) for n in range(20)]
    for one in devices:
        centre.hears(one.live(1000.0), one.live(1060.0))
    assert 0 < len(centre.ingest._memory.streams[SITE]) < 5

    centre.hears(*(one.message(1061, 1, 2) for one in devices))
    taken = centre.hears(*(one.live(1120.0) for one in devices))
    assert [one.through for one in taken.progress.values()] == [3] * 20
    assert len(centre.rows(SITE)) == 60
    assert centre.reasons() == []


def test_a_shuffled_backlog_is_stored_and_accounted_for_though_only_some_ranges_are_kept(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seqset, "MOST_RANGES", 6)
    monkeypatch.setattr(intake, "PAGE", 9)
    looked_up: list[int] = []
    seqs_above = type(centre.store).seqs_above

    def counted(store: Store, stream_id: int, seq: int, most: int) -> list[int]:
        found = seqs_above(store, stream_id, seq, most)
        looked_up.extend(found)
        return found

    monkeypatch.setattr(type(centre.store), "seqs_above", counted)
    device, count = Device(), 200
    for n in range(count):
        device.reading(1000 + n)
    order = [77 * n % count + 1 for n in range(count)]  # each once, far apart
    for done, seq in enumerate(order, 1):
        taken = centre.hears(device.message(3000.0 + done, seq))
        [progress] = taken.progress.values()
        missing = sorted(set(range(1, count + 2)) - set(order[:done]))
        assert progress.through == missing[0] - 1
        beyond = [one for one in order[:done] if one > missing[0]]
        assert progress.gap == ((missing[0], min(beyond) - 1) if beyond else None)
        [row] = centre.store.streams()
        assert len(row.seqs.beyond) <= 6
        if done % 40 == 0:
            centre.restart()

    assert (len(centre.rows(SITE)), centre.reasons()) == (count, [])
    assert len(looked_up) < 10 * count


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """One with twenty readings, of whose stream two ranges are kept."""
    monkeypatch.setattr(seqset, "MOST_RANGES", 2)
    device = Device()
    for n in range(20):
        device.reading(1000 + n)
    return device


def test_what_lies_above_the_ranges_that_are_kept_has_its_one_name_too(
    centre: Centre, device: Device
) -> None:
    evens = range(2, 21, 2)
    centre.hears(device.message(2000, *evens))
    centre.hears(device.message(2001, *evens))
    assert (centre.seqs(SITE), centre.reasons()) == ([*evens], [])

    other = device.spool[20].replace(b"0.1.0", b"0.2.0")
    mine, device.spool[20] = device.spool[20], other
    centre.hears(device.message(2002, 20))
    assert centre.reasons() == ["seq 20 is already stored with other content"]
    device.spool[20], device.spool[19] = mine, b'{"seq":19}'  # no reading at all
    centre.hears(device.message(2003, 19))
    centre.hears(device.message(2004, *range(1, 18, 2)))
    [row] = centre.store.streams()
    assert row.seqs.gap() == (19, 19)  # what was none has to come again where it counts
    centre.hears(device.message(2005, 19))
    assert centre.through(SITE) == {device.stream: 20}


def test_what_is_given_up_above_the_ranges_that_are_kept_counts_as_lost_unless_it_is_stored(
    centre: Centre, device: Device
) -> None:
    taken = centre.hears(
        device.message(2000, *range(2, 17, 2)), device.message(2001, 20, oldest=15)
    )

    [progress] = taken.progress.values()
    assert (progress.through, progress.gap) == (14, (15, 15))
    assert [row.lost for row in centre.store.streams()] == [7]
    centre.hears(device.message(2002, 1), device.message(2003, 15, 17, 18, 19))
    assert [(row.seqs.through, row.lost) for row in centre.store.streams()] == [(20, 6)]


def test_a_stream_that_has_more_ranges_than_are_kept_is_filled_all_the_same(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    for n in range(40):
        device.reading(1000 + n)
    centre.hears(device.message(2000, *range(2, 41, 2)))
    monkeypatch.setattr(seqset, "MOST_RANGES", 10)  # as of a version before there was a bound
    centre.hears(*(device.message(2001 + n, n) for n in range(1, 41)))

    assert [row.seqs.through for row in centre.store.streams()] == [40]
    assert (len(centre.rows(SITE)), centre.reasons()) == (40, [])


class Breaking:
    """Makes the store fail, or our own code, at a chosen moment of a transaction."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, centre: Centre, err: Exception) -> None:
        self._patch = monkeypatch
        self._centre = centre
        self._err = err

    def at(self, name: str) -> None:
        def fail(*_: object, **__: object) -> None:
            raise self._err

        self._patch.setattr(self._centre.store, name, fail)

    def mend(self) -> None:
        self._patch.undo()


@pytest.mark.parametrize("step", ["add_stream", "add_readings", "put_streams", "put_healths"])
def test_a_store_that_fails_in_the_middle_leaves_nothing_and_the_retry_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (tmp_path / "whole").mkdir()
    whole, failing = home(tmp_path / "whole"), home(tmp_path)
    device = Device()
    batch = [device.live(1000), says(presence("online", "one"), 1001.0), device.live(1060)]
    whole.hears(*batch)
    before = content(failing)
    breaking = Breaking(monkeypatch, failing, StoreError("disk full"))

    breaking.at(step)
    with pytest.raises(StoreError, match="disk full"):
        failing.hears(*batch)
    assert content(failing) == before

    breaking.mend()
    failing.hears(*batch)
    assert content(failing) == content(whole)


def test_a_commit_that_fails_leaves_nothing_in_memory_either(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    message = device.live(1000)
    run = centre.store._run  # type: ignore[attr-defined]  # the last step of a real transaction

    def fail(sql: str, *rest: object) -> object:
        if sql == "COMMIT":
            raise StoreError("disk full")
        return run(sql, *rest)

    monkeypatch.setattr(centre.store, "_run", fail)
    with pytest.raises(StoreError):
        centre.hears(message)
    monkeypatch.undo()

    assert centre.rows(SITE) == []
    centre.hears(message)
    assert centre.seqs(SITE) == [1]


def test_a_message_on_which_our_code_fails_stands_aside_alone(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    observe = health.observe

    def fails_on_one(state: health.Health, *rest: Any) -> health.Step:
        if state.site == OTHER:
            raise KeyError("a fault of ours")
        return observe(state, *rest)

    monkeypatch.setattr(health, "observe", fails_on_one)
    mine, other = Device(), Device(site=OTHER)
    batch = [mine.live(1000), other.live(1000), mine.live(1060)]
    taken = centre.hears(*batch)

    assert centre.seqs(SITE) == [1, 2]
    assert centre.rows(OTHER) == []
    assert centre.reasons() == ["internal error, see log"]
    assert [progress.through for progress in taken.progress.values()] == [2]
    assert f"sites/{OTHER}/readings could not be handled" in caplog.text

    monkeypatch.undo()
    centre.hears(batch[1])
    assert centre.seqs(OTHER) == [1]


def test_readings_whose_uptimes_lead_beyond_all_dates_are_stored_and_stall_nothing(
    centre: Centre,
) -> None:
    device = Device(synced=False)
    for at in (1000, 1060):
        far = msgspec.structs.replace(device.reading(at, ladder={"world": "fail"}), uptime_s=1e300)
        device.spool[device.seq] = wire.encode(far)
        centre.hears(device.message(at + 1, device.seq))
    late = device.message(1062, 1, 2)
    centre.hears(late)

    assert centre.seqs(SITE) == [1, 2]
    assert centre.reasons() == []


@pytest.mark.parametrize("value", ["1e999", "9" * 5000])
def test_a_number_that_nobody_can_hold_in_an_unknown_field_makes_another_reading(
    centre: Centre, value: str
) -> None:
    device = Device()
    device.reading(1000)
    first = device.spool[1]
    centre.hears(device.message(1001, 1))
    device.spool[1] = first[:-1] + b',"new":' + value.encode() + b"}"
    centre.hears(device.message(1002, 1))
    centre.hears(device.message(1003, 1))

    assert [row.body for _, row in centre.rows(SITE)] == [first]
    assert centre.reasons() == ["seq 1 is already stored with other content"] * 2
