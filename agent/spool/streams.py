"""What is held of each stream, worked out from the parts that hold it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from agent.spool.memory import Memory
from agent.spool.segment import Segment

Part = Segment | Memory


class Stream(NamedTuple):
    """What is held of one stream.

    `oldest` is the lowest seq from which on nothing is missing up to what is not
    yet released: what lies below a hole and is released counts as gone, so that
    the server need not wait for what cannot come.
    """

    stream: str
    oldest: int
    end: int
    through: int


def summarise(parts: Sequence[Part], released: dict[str, int]) -> list[Stream]:
    """The streams that `parts` hold readings of, the oldest first."""
    held = [part for part in parts if part.last >= part.first]
    return [
        _one(stream, list(its_parts), released.get(stream, 0))
        for stream, its_parts in groupby(held, key=lambda part: part.stream)
    ]


def _one(stream: str, parts: list[Part], through: int) -> Stream:
    oldest = parts[0].first
    for before, part in pairwise(parts):
        if part.first > before.last + 1 and before.last <= through:
            oldest = part.first
    return Stream(stream, oldest, parts[-1].last, through)


def unreleased(part: Part, released: dict[str, int]) -> int:
    """How many readings of `part` the server has not confirmed."""
    return max(0, part.last - max(part.first - 1, released.get(part.stream, 0)))
