"""A spool as it lies on the disk after a long time without a line."""

from __future__ import annotations

import msgspec

from agent import wire
from server.fleet.box import Box


def fill(box: Box, length_s: float, now_s: float, now: float) -> None:
    """Store the readings of the last `length_s` seconds, each a valid one.

    They differ in seq and times alone: what a window takes to be made would be the
    greater part of the work otherwise.
    """
    box.power_on(now_s - length_s)
    box.start_agent(now_s - length_s)
    spool, first = box.spool, box.window
    assert spool is not None
    assert first is not None
    box.finish_window(first.complete_s, now - (now_s - first.complete_s))
    stream, seq = spool.newest or ("", 0)
    template = wire.decode_reading(spool.read(stream, seq, 1, 0)[0][1]).reading
    end_s = first.end_s
    while (end_s := end_s + box.window_s) < now_s - box.window_s:
        taken = now - (now_s - end_s)
        uptime_s = box.uptime_s(end_s)
        later = msgspec.structs.replace(template, taken_at=wire.iso(taken), uptime_s=uptime_s)

        def make(seq: int, later: wire.Reading = later) -> bytes:
            return wire.encode(msgspec.structs.replace(later, seq=seq))

        seq = spool.append(make)
        box.made(stream, seq, taken - box.window_s, taken)
    spool.save()
    spool.abandon()
    box.spool = box.window = None
