"""Plays one story against real parts, and judges what came of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.truth import books
from bench.truth.centre import Centre, wait_s
from bench.truth.chaos import Act, Chaos
from bench.truth.listener import Listener
from bench.truth.score import Score, availability, score
from bench.truth.story import Story, to_csv, to_toml
from bench.truth.truth import Expected, as_json, expect

SETTLE_S = 20.0
"""After the last event: looks at backlogs come 10 s after the last late reading."""
_STORED_WITHIN_S = 120.0


@dataclass
class Outcome:
    """A judged run."""

    score: Score
    book_faults: list[str]
    readings: int
    chaos: list[dict[str, object]]
    status: dict[str, Any]
    played_wall: dict[str, tuple[float, float | None]]


def play(
    folder: Path,
    story: Story,
    simulator: Sequence[str],
    *,
    minutes: float,
    window_s: float,
    acts: list[Act],
) -> Outcome:
    """Play and judge.

    Args:
        folder: story, truth, journal, logs and database go here.
        simulator: the command that plays a story; ``--broker --story --journal
            --minutes --window-s`` are added.
        minutes: the story's length.
        acts: what breaks the centre meanwhile.
    """
    (folder / "sites.csv").write_text(to_csv(story.sites))
    (folder / "story.toml").write_text(to_toml(story, "sites.csv"))
    expected = expect(story, window_s)
    (folder / "truth.json").write_text(json.dumps(as_json(expected), indent=1))
    with Centre(folder) as centre:
        centre.pantau("sites", "import", str(folder / "sites.csv"))
        listener = Listener(centre.broker.port, folder / "alerts.jsonl")
        centre.ingest.start()
        if not listener.ingest_online.wait(60):
            raise RuntimeError(f"ingest did not come online\n{centre.ingest}")
        command = [
            *(*simulator, "--broker", f"127.0.0.1:{centre.broker.port}"),
            *("--story", str(folder / "story.toml"), "--journal", str(folder / "journal.jsonl")),
            *("--minutes", str(minutes + 30), "--window-s", str(window_s)),
        ]
        with (folder / "simulator.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            return _played(folder, centre, listener, process, expected, story, minutes, acts)
        finally:
            process.kill()
            process.wait()
            listener.close()


def _played(
    folder: Path,
    centre: Centre,
    listener: Listener,
    process: subprocess.Popen[bytes],
    expected: list[Expected],
    story: Story,
    minutes: float,
    acts: list[Act],
) -> Outcome:
    wait_s(story.start_after_s, process.poll)
    began = time.time()
    chaos = Chaos(centre, acts, lambda: listener.queue_depth, folder / "chaos.jsonl")
    chaos.start()
    wait_s(minutes * 60, process.poll)
    chaos.stop()
    if chaos.fault:
        raise RuntimeError("the chaos could not be carried out") from chaos.fault
    wait_s(SETTLE_S, process.poll)
    if process.poll() is not None:
        said = (folder / "simulator.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the simulator ended early:\n{said}")
    faults, made = _readings(folder, centre, expected)
    journal = _journal(folder)
    ledger = centre.ledger()
    result = score(expected, journal.played, listener.heard, ledger)
    result.availability_error_s = _availability(centre, expected, journal, began)
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=1))
    return Outcome(
        result,
        [*faults, *books.alerts(listener.heard, ledger)],
        made,
        chaos.done,
        json.loads(centre.pantau("status", "--json")),
        journal.played,
    )


def _journal(folder: Path) -> books.Journal:
    text = (folder / "journal.jsonl").read_text()
    return books.Journal(text[: text.rfind("\n") + 1].splitlines())


def _readings(folder: Path, centre: Centre, expected: list[Expected]) -> tuple[list[str], int]:
    """What is wrong with the readings made up to now, once they had time to arrive."""
    made = _journal(folder).made
    waiting = {site for one in expected if one.to_s is None for site in one.sites}
    end = time.monotonic() + _STORED_WITHIN_S
    while True:
        kept = books.stored(centre.database)
        later = _journal(folder).made
        # What was made since is no loss yet, and not stored without being made.
        faults = books.readings(made, kept, waiting)
        faults = [line for line in faults if "never made" not in line]
        strangers = books.readings(later, kept, {name[0] for name in later})
        faults += [line for line in strangers if "never made" in line]
        if not faults or time.monotonic() > end:
            return faults, sum(made.values())
        time.sleep(1)


def _availability(
    centre: Centre, expected: list[Expected], journal: books.Journal, began: float
) -> dict[str, float]:
    ends = time.time()
    text = centre.pantau(
        *("report", "availability", "--json", "--by", "site", "--zone", "WIB"),
        *("--from", _iso(began), "--to", _iso(ends)),
    )
    said = {
        row["site"]: 60 * (row["down_min"] + row["excluded_min"])
        for row in json.loads(text)["rows"]
    }
    really = [
        replace(one, from_s=journal.played[one.event][0], to_s=journal.played[one.event][1])
        for one in expected
        if one.event in journal.played
    ]
    return availability(really, said, began, ends)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record(outcome: Outcome, **about: object) -> str:
    """The result with its raw samples."""
    return json.dumps({"about": about, **asdict(outcome)}, indent=1)
