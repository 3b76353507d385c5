"""Whatever the order, the splits and the restarts: the same readings end in the same history."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server import intake, past, seqset
from tests.server.centre import Centre
from tests.server.made import SITE, Device, Message, identity

END = 20_000.0
VERDICTS: dict[str, dict[str, str]] = {
    "up": {"domestic": "ok", "world": "fail"},
    "down": {"domestic": "fail", "world": "fail"},
    "blind": {"carrier": "ok"},
}


@dataclass
class Life:
    """What a device went through, and every message it sent of it.

    Its uplink comes and goes, so that a reading may be sent at once, later, twice, or
    after the next boot. Delays are whole seconds, so that the best anchor is the same
    however coarsely anchors are compared.
    """

    device: Device = field(default_factory=Device)
    now: float = 1000.0
    boots: int = 1
    streams: int = 1
    oldest: int = 1
    sent: list[Message] = field(default_factory=list)

    def go_through(self, chapter: Chapter) -> None:
        """One chapter: perhaps another boot or stream, then windows, then messages."""
        if chapter.change == "boot" and self.boots < 4:  # more are not remembered
            self.boots += 1
            self.device.restart(f"boot-{self.boots}", self.now + 1.0)
            self.now += 200.0
        elif chapter.change == "stream":
            self.streams += 1
            self.oldest = 1
            self.device = Device(
                boot=self.device.boot,
                booted_at=self.device.booted_at,
                stream=identity(f"stream {self.streams}"),
            )
        self.device.synced = chapter.synced
        for verdict in chapter.verdicts:
            self.now += self.device.window_s
            self.device.reading(self.now, ladder=VERDICTS[verdict])
        if chapter.forgets and self.oldest < self.device.seq:
            self.oldest += 1
        for choice, delay_s in chapter.sends:
            self._send(choice, delay_s)

    def _send(self, choice: int, delay_s: int) -> None:
        held = [seq for seq in self.device.spool if seq >= self.oldest]
        some = random.Random(choice).sample(held, k=min(len(held), 1 + choice % 4))  # noqa: S311  # no secret
        self.now += 1.0
        arrives_at = self.now + delay_s
        self.sent.append(
            self.device.message(self.now, *some, oldest=self.oldest, received_at=arrives_at)
        )


class Chapter(NamedTuple):
    """A part of a device's life."""

    change: str
    synced: bool
    verdicts: list[str]
    forgets: bool
    sends: list[tuple[int, int]]


CHAPTERS = st.builds(
    Chapter,
    st.sampled_from(["none", "boot", "boot", "stream"]),
    st.booleans(),
    st.lists(st.sampled_from(sorted(VERDICTS)), min_size=1, max_size=3),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 40)), max_size=3),
)


@st.composite
def lives(draw: st.DrawFn) -> list[Message]:
    life = Life()
    for chapter in draw(st.lists(CHAPTERS, min_size=1, max_size=6)):
        life.go_through(chapter)
    hypothesis.assume(life.sent)
    return life.sent


def told(centre: Centre) -> dict[str, Any]:
    """All that may not depend on the order: everything but when something first came."""
    rows = [(stream, row._replace(received_at=0, stream_id=0)) for stream, row in centre.rows(SITE)]
    return {
        "readings": sorted(rows),
        "through": centre.through(SITE),
        "lost": {row.stream: row.lost for row in centre.store.streams()},
        "history": centre.spans(SITE, 900, END),
        "spans": centre.store.spans(SITE, 0, END),
        "quarantine": centre.reasons(),
    }


def deliver(folder: str, batches: list[list[Message]], restarts: list[int]) -> dict[str, Any]:
    centre = Centre(Path(folder))
    for number, batch in enumerate(batches):
        if number in restarts:
            centre.restart()
        centre.hears(*batch)
    result = told(centre)
    assert result["spans"] == past.rebuilt(centre.store, SITE)
    centre.store.close()
    return result


@settings(max_examples=150)
@given(messages=lives(), most_ranges=st.sampled_from([1, 2, 3, seqset.MOST_RANGES]), data=st.data())
def test_any_order_split_and_restart_ends_in_the_same_history(
    messages: list[Message], most_ranges: int, data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(messages), max_size=6))
    shuffled = data.draw(st.permutations([*messages, *again]))
    batches: list[list[Message]] = []
    for message in shuffled:
        if not batches or data.draw(st.booleans()):
            batches.append([])
        batches[-1].append(message)
    restarts = data.draw(st.lists(st.integers(0, len(batches)), max_size=3))

    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        in_order = deliver(one, [[message] for message in messages], [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(seqset, "MOST_RANGES", most_ranges)
            patch.setattr(intake, "PAGE", 1 + most_ranges)
            assert deliver(other, batches, restarts) == in_order
