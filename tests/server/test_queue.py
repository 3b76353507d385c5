"""In which order is handed out what arrived, while more waits than is taken at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.mqtt import Message, Turn
from server.mqtt.queue import (
    BATCH_BYTES,
    BEFORE_BYTES,
    LOOKED_AT,
    MOST_BEFORE,
    WAITING_AT_ONCE,
    Queue,
)

NOBODY = ""


def arrives(queue: Queue, whose: str, kind: str, count: int = 1) -> list[int]:
    """Messages of somebody: `live` goes first, `late` may wait; gives their numbers."""
    return [queue.put(1, Message(f"{whose}/{kind}", b"12", False, 0.0)) for _ in range(count)]


def choose(message: Message) -> Turn:
    whose, _, kind = message.topic.partition("/")
    return Turn(whose, kind == "live")


def taken(queue: Queue, most: int = 500, *, choosing: bool = True) -> list[int]:
    return [one.number for one in queue.take(most, choose if choosing else None)]


@pytest.fixture
def full() -> Queue:
    """A backlog of others waits."""
    queue = Queue()
    for number in range(4 * WAITING_AT_ONCE):
        arrives(queue, f"other-{number}", "late")
    return queue


def test_what_goes_first_overtakes_what_may_wait(full: Queue) -> None:
    live = arrives(full, "a", "live") + arrives(full, "b", "live")

    assert taken(full) == [*live, *range(1, WAITING_AT_ONCE + 1)]


def test_it_takes_along_what_came_before_it_of_the_same_site(full: Queue) -> None:
    late = arrives(full, "a", "late", 3)
    arrives(full, "b", "late")
    live = arrives(full, "a", "live")
    after = arrives(full, "a", "late")

    first = taken(full)

    assert first[:4] == [*late, *live]
    assert after[0] not in first


def test_who_has_much_waiting_waits_behind_it(full: Queue) -> None:
    arrives(full, "a", "late", MOST_BEFORE)
    live = arrives(full, "a", "live")

    assert live[0] not in taken(full)


def test_who_has_something_large_waiting_waits_behind_it(full: Queue) -> None:
    full.put(1, Message("a/late", bytes(BEFORE_BYTES + 1), False, 0.0))
    live = arrives(full, "a", "live")

    assert live[0] not in taken(full)


def test_without_a_chooser_all_goes_as_it_came_also_what_waited_before(full: Queue) -> None:
    live = arrives(full, "a", "live")
    taken(full)
    count = len(full)
    arrives(full, "b", "live")

    rest = taken(full, 10_000, choosing=False)

    assert rest == [*range(WAITING_AT_ONCE + 1, live[0]), live[0] + 1]
    assert len(rest) == count + 1
    assert (len(full), full.payload_bytes) == (0, 0)


def test_a_marker_comes_when_all_before_it_has_gone_however_much_goes_first(full: Queue) -> None:
    (marker,) = arrives(full, NOBODY, "marker")
    seen: list[int] = []
    for turn in range(6):
        for number in range(600):
            arrives(full, f"live-{turn}-{number}", "live")
        seen += taken(full)

    assert set(range(1, marker)) <= set(seen[: seen.index(marker)])


def test_who_sends_much_keeps_nobody_waiting(full: Queue) -> None:
    flood = arrives(full, "a", "live", 90)
    live = arrives(full, "b", "live")

    first = taken(full)

    assert first[: MOST_BEFORE + 1] == [*flood[:MOST_BEFORE], *live]
    assert set(flood[MOST_BEFORE:]).isdisjoint(first)


def test_a_batch_has_so_many_bytes_and_not_many_more(full: Queue) -> None:
    large = [full.put(1, Message("a/live", b"x" * (BATCH_BYTES // 2), False, 0.0)) for _ in "123"]

    assert taken(full) == [*large[:2], 1], "one that waited goes all the same"
    assert taken(full)[:2] == [large[2], 2]


def test_a_few_are_handed_out_as_they_came() -> None:
    queue = Queue()
    numbers = arrives(queue, "a", "late") + arrives(queue, "b", "live")

    assert taken(queue) == numbers


def test_a_flood_is_looked_at_in_parts() -> None:
    queue = Queue()
    for number in range(LOOKED_AT):
        arrives(queue, f"s{number}", "late")
    live = arrives(queue, "a", "live")

    assert live[0] not in taken(queue)
    assert taken(queue)[0] == live[0]


whose = st.sampled_from(["a", "b", "c", NOBODY])
arrivals = st.lists(st.tuples(whose, st.sampled_from(["live", "late"])), max_size=400)


@given(
    st.lists(st.tuples(arrivals, st.integers(WAITING_AT_ONCE + 1, 500), st.booleans()), max_size=8)
)
def test_nothing_is_lost_or_doubled_and_nobody_overtakes_himself(
    turns: list[tuple[list[tuple[str, str]], int, bool]],
) -> None:
    queue, came, went = Queue(), dict[str, list[int]](), list[int]()
    for arriving, most, choosing in turns:
        for name, kind in arriving:
            kind = "marker" if name == NOBODY else kind
            came.setdefault(name, []).extend(arrives(queue, name, kind))
        waited = len(queue)
        part = taken(queue, most, choosing=choosing)
        assert bool(part) == bool(waited)
        assert len(part) <= most + MOST_BEFORE
        went += part
    while queue:
        went += taken(queue)
    place = {number: at for at, number in enumerate(went)}

    assert len(place) == len(went) == sum(map(len, came.values()))
    assert queue.payload_bytes == 0
    for numbers in came.values():
        assert sorted(numbers, key=place.__getitem__) == numbers
    for marker in came.get(NOBODY, []):
        assert all(place[number] < place[marker] for number in range(1, marker))
