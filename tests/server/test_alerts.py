"""The outbox on a connection: in order, until acknowledged, and what should stand behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.alerts import Publisher
from tests.server.centre import Centre, home
from tests.server.made import SITE, Device


class Line:
    """A connection that remembers what it carried; the test is the broker."""

    def __init__(self) -> None:
        self.carried: list[tuple[str, bytes, bool]] = []
        self._acks: list[Callable[[], None]] = []

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        on_published: Callable[[], None] | None = None,
    ) -> None:
        self.carried.append((topic, payload, retain))
        if on_published is not None:
            self._acks.append(on_published)

    def acknowledge(self, count: int) -> None:
        """PUBACK for so many letters, oldest first."""
        for ack in self._acks[:count]:
            ack()
        del self._acks[:count]

    def stands(self) -> dict[str, bytes]:
        """What a broker would retain."""
        retained = {topic: payload for topic, payload, retain in self.carried if retain}
        return {topic: payload for topic, payload in retained.items() if payload}


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return home(tmp_path)


def connect(centre: Centre) -> tuple[Line, Publisher]:
    line = Line()
    publisher = Publisher(line, centre.ingest)
    publisher.begin()
    publisher.send()
    return line, publisher


def test_a_connection_begins_with_the_letters_in_order_and_ends_with_what_stands(
    centre: Centre,
) -> None:
    centre.hears(Device().live(1000))
    centre.waits(1150)
    letters = [(one.topic, one.payload, True) for one in centre.store.outbox(0)]
    line, _ = connect(centre)

    assert line.carried[: len(letters)] == letters
    assert line.carried[len(letters) :] == [(*one, True) for one in centre.ingest.standing()]


def test_what_stood_is_published_before_anything_newer(centre: Centre) -> None:
    """Or a resolved alert would stand firing again."""
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    line, publisher = connect(centre)
    centre.hears(device.live(1400))
    publisher.load()
    publisher.send()

    resolved = centre.store.outbox(0)[-2]
    assert line.stands()[resolved.topic] == resolved.payload
    assert b'"resolved"' in resolved.payload


def test_a_letter_is_posted_once_the_broker_has_acknowledged_it(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    line, publisher = connect(centre)
    assert publisher.take_posted() == []
    line.acknowledge(1)

    [first, second] = centre.store.outbox(0)
    assert publisher.take_posted() == [first.id]
    assert publisher.take_posted() == []
    line.acknowledge(1)
    assert publisher.take_posted() == [second.id]


def test_loading_again_repeats_nothing(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    line, publisher = connect(centre)
    before = len(line.carried)
    publisher.load()
    publisher.send()

    assert len(line.carried) == before


def test_what_was_not_acknowledged_is_published_again_on_the_next_connection(
    centre: Centre,
) -> None:
    centre.hears(Device().live(1000))
    line, publisher = connect(centre)
    line.acknowledge(1)
    centre.ingest.tick(1001, 1001, publisher.take_posted())
    again, _ = connect(centre)

    assert again.carried[0] == line.carried[1]


def test_a_letter_that_clears_a_topic_is_retained_and_empty(centre: Centre) -> None:
    centre.hears(Device().live(1000))
    with centre.store.transaction():
        centre.store.post(f"pantau/v1/state/girian/telkom/{SITE}", b"")
    line, _ = connect(centre)

    assert (f"pantau/v1/state/girian/telkom/{SITE}", b"", True) in line.carried


def test_what_stands_and_should_not_is_cleared_and_all_else_is_left(centre: Centre) -> None:
    device = Device()
    centre.hears(device.live(1000))
    centre.waits(1150)
    centre.hears(device.live(1400))  # resolved, and still retained for its time
    line, publisher = connect(centre)
    right = line.stands().keys()
    assert any("/alerts/" in topic for topic in right)
    before = centre.store.outbox(0)[-1].id
    stale = ["pantau/v1/alerts/maesa/telkom/unknown", f"pantau/v1/state/elsewhere/telkom/{SITE}"]

    assert centre.ingest.sweep([*right, *stale]) == len(stale)
    publisher.load()
    publisher.send()
    cleared = [(one.topic, one.payload, one.retain) for one in centre.store.outbox(before)]
    assert cleared == [(topic, b"", True) for topic in stale]
    assert line.stands().keys() == right
    assert centre.ingest.sweep(sorted(right)) == 0
