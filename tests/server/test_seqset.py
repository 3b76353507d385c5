"""Which sequence numbers are accounted for, against a plain set of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import seqset
from server.seqset import ALL, SeqSet

SEQS = st.integers(1, 30)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "forget"]), SEQS), max_size=40)


def test_an_empty_set_has_nothing_and_misses_nothing() -> None:
    assert (SeqSet().through, SeqSet().has(1), SeqSet().gap()) == (0, False, None)


def test_numbers_in_order_leave_nothing_beyond() -> None:
    assert SeqSet().add(1).add(2).add(3) == SeqSet(3)


def test_a_hole_is_named_by_its_first_and_last_missing_number() -> None:
    assert SeqSet(4).add(9).add(12).gap() == (5, 8)


def test_filling_the_hole_joins_what_lies_beyond_it() -> None:
    assert SeqSet(1).add(3).add(2) == SeqSet(3)


def test_neighbours_beyond_a_hole_become_one_range() -> None:
    assert SeqSet().add(5).add(7).add(6) == SeqSet(0, ((5, 7),))


def test_the_largest_number_there_is_can_be_held() -> None:
    assert SeqSet().add(2**63 - 1).gap() == (1, 2**63 - 2)


def test_what_is_lost_below_the_oldest_is_counted_once() -> None:
    seqs, lost = SeqSet(2).add(5).forget_below(8)

    assert (seqs, lost) == (SeqSet(7), 4)
    assert seqs.forget_below(8) == (seqs, 0)


def test_a_range_that_reaches_over_the_oldest_is_kept_whole() -> None:
    assert SeqSet(0, ((3, 9),)).forget_below(5) == (SeqSet(9), 2)


def test_of_many_ranges_the_lowest_are_kept_and_the_others_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seqset, "MOST_RANGES", 2)
    seqs = SeqSet().add(9).add(3).add(6)

    assert seqs == SeqSet(0, ((3, 3), (6, 6)), 8)
    assert seqs.add(9) is seqs
    assert not seqs.wants_more()
    seqs = seqs.add(2).add(1)
    assert (seqs, seqs.wants_more()) == (SeqSet(3, ((6, 6),), 8), True)
    assert seqs.extended([9, 10], ALL) == SeqSet(3, ((6, 6), (9, 10)))
    assert seqs.extended([9, 11, 12], ALL) == SeqSet(3, ((6, 6), (9, 9)), 10)
    assert seqs.forget_below(12) == (SeqSet(11, (), 11), 7)


@given(st.lists(SEQS, max_size=40), st.integers(1, 4))
def test_however_few_ranges_are_kept_the_first_hole_is_the_same(
    numbers: list[int], most: int
) -> None:
    whole, some, stored = SeqSet(), SeqSet(), set[int]()
    with pytest.MonkeyPatch.context() as patch:
        for seq in numbers:
            stored.add(seq)
            whole = whole.add(seq)
            patch.setattr(seqset, "MOST_RANGES", most)
            some = some.add(seq)
            while some.wants_more():
                found = sorted(one for one in stored if one > some.known_to)[:3]
                some = some.extended(found, ALL if len(found) < 3 else found[-1])
                if some.beyond:
                    break
            patch.undo()

            assert (some.through, some.gap()) == (whole.through, whole.gap())
            assert len(some.beyond) <= most
            assert all(some.has(one) == whole.has(one) for one in range(1, some.known_to + 1)[:40])


@given(STEPS)
def test_it_holds_what_a_plain_set_would_hold(steps: list[tuple[str, int]]) -> None:
    seqs, plain, lost = SeqSet(), set[int](), 0
    for step, seq in steps:
        if step == "add":
            seqs = seqs.add(seq)
            plain.add(seq)
        else:
            below = set(range(1, seq))
            seqs, newly = seqs.forget_below(seq)
            lost += newly
            assert newly == len(below - plain)
            plain |= below

        assert {one for one in range(1, 32) if seqs.has(one)} == plain
        missing = [one for one in range(1, 32) if one not in plain]
        assert seqs.through == missing[0] - 1
        beyond = [one for one in plain if one > missing[0]]
        if beyond:
            assert seqs.gap() == (missing[0], min(beyond) - 1)
        else:
            assert seqs.gap() is None
        edges = [seqs.through, *(edge for span in seqs.beyond for edge in span)]
        assert all(high - low > 1 for low, high in zip(edges[::2], edges[1::2], strict=False))


@given(st.sets(SEQS), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(numbers: set[int], shuffler: object) -> None:
    shuffled = list(numbers)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    one, other = SeqSet(), SeqSet()
    for seq in sorted(numbers):
        one = one.add(seq)
    for seq in shuffled:
        other = other.add(seq)

    assert one == other
