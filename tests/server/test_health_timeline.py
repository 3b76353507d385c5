"""The worked timeline of docs/health.md, line by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from server.events import Opened, Resolved
from server.model import Kind
from tests.server.made import Story

PAGE = Path(__file__).parents[2] / "docs" / "health.md"
START = 10_000.0
LOSSY: dict[str, Any] = {"ping": {"domestic": {"sent": 60, "loss_ratio": 0.12}}}
CLEAN: dict[str, Any] = {"ping": {"domestic": {"sent": 60, "loss_ratio": 0.0}}}


class Line(NamedTuple):
    at: float
    does: str
    status: str


def timeline() -> list[Line]:
    rows = re.findall(r"^\| (\d+) \| ([\w ,]+) \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    return [Line(START + int(at), does, status) for at, does, status in rows]


class Told(Story):
    """A site that does what a line of the page says."""

    def does(self, at: float, what: str) -> None:
        word, *rest = re.split(r"[ ,]+", what)
        match word:
            case "online":
                self.online(at, rest[0])
            case "lost" | "upgrade":
                self.offline(at, rest[0], word)
            case "reading" | "lossy" | "late":
                for taken_at in rest:
                    seq = int(taken_at) // 60 - 1
                    self.device.seq = seq
                    window = LOSSY if word == "lossy" else CLEAN
                    self.reads(at, taken_at=START + int(taken_at), **window)
            case "absence":
                self.absent(at)
            case _:
                assert word == "nothing"


def test_the_worked_timeline_is_what_happens() -> None:
    lines = timeline()
    assert len(lines) == 22
    story = Told()
    for line in lines:
        story.waits(line.at - 0.001)
        story.does(line.at, line.does)
        story.waits(line.at)
        assert (line, story.status) == (line, line.status)

    told = [event for event in story.told if isinstance(event, Opened | Resolved)]
    assert [
        (type(event), event.kind, [at - START for at in event if isinstance(at, float)])
        for event in told
    ] == [
        (Opened, Kind.SITE_OFFLINE, [120, 161]),
        (Resolved, Kind.SITE_OFFLINE, [401]),
        (Opened, Kind.SITE_DEGRADED, [360, 540]),
        (Resolved, Kind.SITE_DEGRADED, [880]),
        (Opened, Kind.SITE_OFFLINE, [720, 880]),
    ]
    resolved = told[1]
    assert isinstance(resolved, Resolved)
    assert resolved.cause is not None
    assert resolved.cause.verdict == "link"
