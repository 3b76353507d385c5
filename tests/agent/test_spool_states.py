"""Any order of appending, releasing, closing, killing, power cuts and damage.

Beside the spool stands a plain record of what was appended. Whatever happens, a
name never stands for two readings, what is held is what was appended, what is
missing was dropped for room or lost to damage, and the bound holds.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.spool import segment
from tests.agent.spool_helper import SEGMENT, abandon, append, open_spool, payload

_SEGMENTS = 5


class SpoolMachine(RuleBasedStateMachine):
    """One spool through its life."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="pantau-spool-"))
        self.boots = 0
        self.written: dict[tuple[str, int], bytes] = {}
        self.released: dict[str, int] = {}
        self.damaged = False
        self._start()

    def _start(self) -> None:
        self.spool = open_spool(
            self.path, boot=f"{self.boots:08d}-0000-4000-8000-000000000000", segments=_SEGMENTS
        )

    @rule(size=st.integers(40, 3500))
    def append(self, size: int) -> None:
        text = str(len(self.written))
        name = append(self.spool, text, size)
        assert name not in self.written
        self.written[name] = payload(text, size)(name[1])

    @precondition(lambda self: self.written)
    @rule(share=st.floats(0, 1), data=st.data())
    def release(self, share: float, data: st.DataObject) -> None:
        # By age: their names are others each time, and so would be their order.
        stream = data.draw(st.sampled_from(list(dict.fromkeys(name for name, _ in self.written))))
        end = max(seq for name, seq in self.written if name == stream)
        through = round(share * end)
        self.spool.release(stream, through)
        self.released[stream] = max(through, self.released.get(stream, 0))

    @rule(reboot=st.booleans())
    def close_and_start(self, reboot: bool) -> None:
        self.spool.close()
        self.boots += reboot
        self._start()

    @rule(reboot=st.booleans())
    def die_and_start(self, reboot: bool) -> None:
        abandon(self.spool)
        self.boots += reboot
        self._start()

    @precondition(lambda self: self.written)
    @rule(reboot=st.booleans(), share=st.floats(0, 0.999), data=st.data())
    def die_with_a_torn_last_record(self, reboot: bool, share: float, data: st.DataObject) -> None:
        """A record that only began to reach the disk, as any bytes."""
        abandon(self.spool)
        newest = max(self.path.glob("*.seg"), default=None)
        loaded = segment.load(newest) if newest else None
        if newest and loaded and not loaded.torn and loaded.ended != "sealed":
            torn = segment.pack(loaded.last + 1, b"torn".ljust(100))
            room = max(0, loaded.size - loaded.write_at)
            part = torn[: min(room, int(share * len(torn)))]
            garbage = data.draw(st.booleans())
            with newest.open("r+b") as out:
                out.seek(loaded.write_at)
                out.write(bytes(b ^ 0x55 for b in part) if garbage else part)
        self.boots += reboot
        self._start()

    @precondition(lambda self: self.written)
    @rule(place=st.floats(0, 0.999), data=st.data())
    def die_with_a_flipped_byte(self, place: float, data: st.DataObject) -> None:
        abandon(self.spool)
        files = sorted(self.path.glob("*.seg"))
        if files:
            file = data.draw(st.sampled_from(files))
            at = int(place * file.stat().st_size)
            with file.open("r+b") as out:
                out.seek(at)
                byte = out.read(1)
                out.seek(at)
                out.write(bytes([byte[0] ^ 0x40]))
            self.damaged = True
        self.boots += 1
        self._start()

    @invariant()
    def what_is_held_is_what_was_appended(self) -> None:
        for held in self.spool.streams():
            for seq, data in self.spool.read(held.stream, 1, 10**6, 10**9):
                assert self.written[held.stream, seq] == data

    @invariant()
    def nothing_is_missing_that_was_not_dropped(self) -> None:
        if self.damaged:
            return
        held = {
            (one.stream, seq)
            for one in self.spool.streams()
            for seq, _ in self.spool.read(one.stream, 1, 10**6, 10**9)
        }
        missing = [
            (stream, seq)
            for stream, seq in self.written
            if (stream, seq) not in held and seq > self.released.get(stream, 0)
        ]
        assert len(missing) <= self.spool.dropped
        newest = max(self.written, key=list(self.written).index, default=None)
        assert newest is None or newest in held

    @invariant()
    def the_bound_holds(self) -> None:
        files = [file for file in self.path.iterdir() if file.suffix in (".seg", ".corrupt")]
        assert sum(file.stat().st_size for file in files) <= _SEGMENTS * SEGMENT

    def teardown(self) -> None:
        abandon(self.spool)
        shutil.rmtree(self.path)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
