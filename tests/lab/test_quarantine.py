"""What breaks the contract is set aside with its reason, and nobody else is kept waiting."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.lab import garbage
from tests.lab.city import City
from tests.lab.garbage import SITE, STREAM
from tests.lab.journal import of_server
from tests.lab.observer import Observer, Seen
from tests.lab.peer import Peer
from tests.lab.pki import Authority
from tests.wait import until

REAL = "maesa-0001"
FAILING_INGEST = Path(__file__).parents[1] / "faults" / "failing_ingest.py"
MOST_RSS_MIB = 300
"""Ten messages of 10 MiB wait in the broker at a time; ingest holds 96 MiB of them, and itself."""
MOST_DELAY_S = 30.0
"""Generous, for a busy machine; without garbage it is half a second."""


class Place:
    """A city with one real site, and one for whom the test speaks."""

    def __init__(self, city: City, observer: Observer, raw: Peer) -> None:
        self.city, self.observer, self.raw = city, observer, raw
        self._number = 0

    def say(self, leaf: str, payload: bytes) -> None:
        """Publish as the raw site."""
        self.raw.publish(wire.site_topic(SITE, leaf), payload)

    def settle(self) -> None:
        """Wait until all that was said is committed: a good reading, said last, is stored.

        Its stream is a new one each time, because acks tell of streams.
        """
        self._number += 1
        stream = f"00000000-0000-4000-8000-{self._number:012}"
        self.say("readings", garbage.message(garbage.reading(1), stream=stream))
        until(lambda: self.observer.through(SITE, stream) == 1, 60, "a good reading behind garbage")

    def quarantine(self, skip: int = 0) -> list[dict[str, Any]]:
        """What stands in quarantine, but for the first `skip`."""
        return list(self.city.rows("quarantine"))[skip:]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("quarantine")
    with (
        City(folder / "city", authority, [REAL], also=[SITE]) as city,
        Observer(city.broker) as observer,
        Peer(city.broker, SITE) as raw,
    ):
        city.agents[REAL].start()
        until(lambda: observer.live_readings(REAL), 30, "the first reading")
        yield Place(city, observer, raw)


def test_every_malformed_message_goes_to_quarantine_with_its_reason(place: Place) -> None:
    bad = garbage.messages()
    before = len(place.quarantine())
    for one in bad:
        place.say(one.leaf, one.payload)
    place.settle()
    rows = place.quarantine(before)
    assert len(rows) == len(bad) >= 25
    for one, row in zip(bad, rows, strict=True):
        assert row["topic"] == wire.site_topic(SITE, one.leaf), one.name
        assert row["bytes"] == len(one.payload), one.name
        assert row["reason"], one.name
        assert one.reason in row["reason"], one.name


def test_a_bad_reading_is_set_aside_alone_and_its_neighbours_are_stored(place: Place) -> None:
    before = len(place.quarantine())
    cases = garbage.bad_readings(0)
    good: set[int] = set()
    for number, name in enumerate(cases):
        seq = 10 * number + 2
        bad = garbage.bad_readings(seq)[name]
        place.say(
            "readings", garbage.message(garbage.reading(seq - 1), bad, garbage.reading(seq + 1))
        )
        good |= {seq - 1, seq + 1}
    place.settle()
    stored = {seq for stream, seq in of_server(place.city, SITE) if stream == STREAM}
    assert stored == good
    rows = place.quarantine(before)
    assert len(rows) == len(cases)
    assert all(row["reason"] and row["bytes"] < 1000 for row in rows)


def test_a_bad_reading_that_names_its_seq_holds_up_no_ack(place: Place) -> None:
    stream = "11111111-1111-4111-8111-111111111111"
    bad = garbage.bad_readings(2)["a negative count"]
    place.say(
        "readings",
        garbage.message(garbage.reading(1), bad, garbage.reading(3), stream=stream),
    )
    until(lambda: place.observer.through(SITE, stream) == 3, 30, "the ack beyond the bad reading")


def test_a_name_that_has_a_reading_never_gets_another(place: Place) -> None:
    stream = "22222222-2222-4222-8222-222222222222"
    before = len(place.quarantine())
    first = garbage.reading(1)
    for body in (first, {**first, "uptime_s": 1.0}, dict(reversed(first.items()))):
        place.say("readings", garbage.message(body, stream=stream))
    place.settle()
    stored = of_server(place.city, SITE)[stream, 1]
    assert stored == json.loads(json.dumps(first), parse_float=str)
    (row,) = place.quarantine(before)
    assert "seq 1 is already stored with other content" in row["reason"]


def test_a_cleared_presence_is_no_message(place: Place) -> None:
    before = len(place.quarantine())
    place.say("presence", b"")
    place.settle()
    assert place.quarantine(before) == []


def test_garbage_of_one_site_delays_no_other_and_fills_no_memory(place: Place) -> None:
    """More than 300 MB, which would be 13 GB unpacked; a real agent sends all the while.

    Then a stream of which every second reading is missing, so that 10,000 holes are kept.
    """
    began_at = time.time()
    heavy = [one.payload for one in garbage.messages() if len(one.payload) > 10_000_000]
    for _ in range(15):
        for payload in heavy:
            place.say("readings", payload)
    for _ in range(200):
        place.say("readings", garbage.BOMB)
    holed = "44444444-4444-4444-8444-444444444444"
    for first in range(2, 20_000, 200):
        seqs = range(first, first + 200, 2)
        place.say("readings", garbage.message(*map(garbage.reading, seqs), stream=holed))
    place.settle()
    ended_at = time.time()
    assert place.city.ingest.peak_rss_mib() < MOST_RSS_MIB
    sent = [s for s in place.observer.live_readings(REAL, since=began_at) if s.at < ended_at]
    assert sent, "the real agent sent nothing meanwhile, so nothing was shown"
    for seen in sent:
        acknowledged_at = until(lambda seen=seen: _acknowledged_at(place, seen), 60, "its ack")
        assert acknowledged_at - seen.at < MOST_DELAY_S
    first = place.observer.site(REAL, "acks", since=began_at)[0]
    assert first.at < ended_at, "it had to wait until the garbage was over"


def _acknowledged_at(place: Place, seen: Seen) -> float | None:
    """When the server acknowledged a message of the real agent."""
    stream, seq = seen.body["stream"], seen.body["readings"][-1]["seq"]
    acks = place.observer.site(REAL, "acks", since=seen.at)
    told = [a.at for a in acks if a.body["stream"] == stream and a.body["through"] >= seq]
    return told[0] if told else None


def test_a_message_on_which_our_own_code_fails_is_set_aside_and_the_stream_goes_on(
    tmp_path: Path, authority: Authority
) -> None:
    """Ingest with a handler that raises on one kind of message, alone and within a batch."""
    city = City(tmp_path / "city", authority, [], also=[SITE])
    city.ingest.command[:1] = [sys.executable, str(FAILING_INGEST)]
    with city, Observer(city.broker) as observer, Peer(city.broker, SITE) as raw:
        place = Place(city, observer, raw)
        place.say("readings", garbage.message(garbage.reading(1, boot="make the handler fail")))
        place.settle()
        city.ingest.stop()  # what follows waits at the broker, and arrives as one batch
        for seq in range(2, 40):
            boot = "make the handler fail" if seq == 20 else "b"
            place.say("readings", garbage.message(garbage.reading(seq, boot=boot)))
        city.ingest.start()
        place.settle()
        rows = place.quarantine()
        assert [row["reason"] for row in rows] == ["internal error, see log"] * 2
        stored = {seq for stream, seq in of_server(city, SITE) if stream == STREAM}
        assert stored == set(range(2, 40)) - {20}
        assert city.ingest.lines("could not be handled")
