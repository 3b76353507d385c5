"""Plays one story against real parts, and judges what came of it."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.truth import books
from bench.truth.acks import AckWatch
from bench.truth.centre import PANTAU, Centre
from bench.truth.chaos import Act, Chaos, absences, told
from bench.truth.ending import Watch
from bench.truth.listener import Listener
from bench.truth.score import Score, availability, score
from bench.truth.story import Story
from bench.truth.storyfile import to_csv, to_toml
from bench.truth.truth import Expected, as_json, down_s, expect, unseen
from tests.lab.process import Service

SETTLE_S = 90.0
"""After the last event: an agent may wait 60 s for its next connection, then comes its backlog."""
_STORED_WITHIN_S = 120.0


@dataclass
class Outcome:
    """A judged run; `real` is the score of what struck real agents alone, `score` that of all."""

    score: Score
    real: Score | None
    book_faults: list[str]
    readings: int
    chaos: list[dict[str, object]]
    status: dict[str, Any]
    played_wall: dict[str, tuple[float, float | None]]

    @property
    def faults(self) -> list[str]:
        """Empty: the run has not failed."""
        return [*self.book_faults, *self.score.faults]


REAL = (sys.executable, "-m", "bench.truth.realsites")


def play(
    folder: Path,
    story: Story,
    simulator: Sequence[str] = (str(PANTAU), "simulate"),
    *,
    minutes: float,
    window_s: float,
    pantau: Path = PANTAU,
    settle_s: float = SETTLE_S,
    stored_within_s: float = _STORED_WITHIN_S,
) -> Outcome:
    """Play and judge.

    Args:
        folder: story, truth, journal, logs and database go here.
        simulator: the command that plays a story; ``--registry --story --config --journal
            --minutes --window-s`` are added.
        pantau: the command that is judged.
        settle_s: how long it may take after the last event until all is told,
        stored_within_s: and then, until all is stored.
        minutes: the story's length.
    """
    acts = told(story)
    (folder / "sites.csv").write_text(to_csv(story.sites))
    expected = expect(story, window_s, absences(acts), minutes * 60)
    (folder / "truth.json").write_text(json.dumps(as_json(expected), indent=1))
    with Centre(folder, pantau) as centre, contextlib.ExitStack() as ends:
        centre.pantau("sites", "import", str(folder / "sites.csv"))
        listener = Listener(centre.broker.port, folder / "alerts.jsonl")
        ends.callback(listener.close)
        centre.ingest.start()
        if not listener.ingest_online.wait(60):
            raise RuntimeError(f"ingest did not come online\n{centre.ingest}")
        acks = AckWatch(centre.broker.port, centre.database)
        ends.callback(acks.close)
        begins = time.time() + story.start_after_s
        (folder / "story.toml").write_text(to_toml(story, "sites.csv", _iso(begins)))
        players = [_simulator(folder, centre, simulator, minutes, window_s)]
        if story.real:
            players.append(_real_sites(folder, centre, minutes, window_s))
        for player in players:
            player.start()
            ends.callback(player.discard)
        outcome = _played(
            *(folder, centre, listener, players, expected, story, begins, minutes, acts),
            window_s=window_s,
            settle_s=settle_s,
            stored_within_s=stored_within_s,
        )
        outcome.book_faults += acks.faults()
        return outcome


def _simulator(
    folder: Path, centre: Centre, command: Sequence[str], minutes: float, window_s: float
) -> Service:
    arguments = [
        *("--registry", str(folder / "sites.csv"), "--story", str(folder / "story.toml")),
        *("--config", str(centre.at_broker), "--journal", str(folder / "journal.jsonl")),
        *("--minutes", str(minutes + 30), "--window-s", str(window_s)),
    ]
    return Service("simulator", [*command, *arguments], folder / "simulator.log")


def _real_sites(folder: Path, centre: Centre, minutes: float, window_s: float) -> Service:
    arguments = [
        *("--broker", f"127.0.0.1:{centre.broker.port}"),
        *("--story", str(folder / "story.toml"), "--journal", str(folder / "journal-real.jsonl")),
        *("--minutes", str(minutes + 30), "--window-s", str(window_s)),
    ]
    return Service("real agents", [*REAL, *arguments], folder / "real.log")


def _played(
    folder: Path,
    centre: Centre,
    listener: Listener,
    players: list[Service],
    expected: list[Expected],
    story: Story,
    begins: float,
    minutes: float,
    acts: list[Act],
    *,
    window_s: float,
    settle_s: float,
    stored_within_s: float,
) -> Outcome:
    _pass_s(begins - time.time(), players)
    chaos = Chaos(centre, acts, lambda: listener.queue_depth, folder / "chaos.jsonl")
    chaos.start()
    _pass_s(begins + minutes * 60 - time.time(), players)
    chaos.stop()
    if chaos.fault:
        raise RuntimeError("the chaos could not be carried out") from chaos.fault
    _pass_s(settle_s, players)
    watch = Watch(
        window_s,
        ends=time.time(),
        absences=[(begins + at_s, begins + to_s) for at_s, to_s in absences(acts)],
    )
    heard = list(listener.heard)  # what comes later may be beyond the ledger as it is read now
    ledger = centre.ledger()
    status = json.loads(centre.pantau("status", "--json"))
    played = _journal(folder).played
    ends = time.time()
    reported_s = _reported(centre, begins, ends)
    for player in players[1:]:  # real agents tell what they made once they have ended
        player.stop()
    faults, made = _readings(folder, centre, expected, stored_within_s)
    result = score(expected, played, heard, ledger, watch)
    _availability(result, expected, played, reported_s, begins, ends)
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=1))
    real = set(story.real)
    apart = [one for one in expected if real and set(one.sites) <= real]
    of_real = score(apart, played, heard, ledger, watch) if apart else None
    if of_real is not None:  # what others' events explain is not false
        of_real.false = [line for line in result.false if any(site in line for site in real)]
    return Outcome(
        result,
        of_real,
        [*faults, *books.alerts(heard, ledger)],
        made,
        chaos.done,
        status,
        played,
    )


def _pass_s(seconds: float, players: list[Service]) -> None:
    """Let the story's own time pass, as long as all who play it do."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for player in players:
            if not player.running:
                raise RuntimeError(f"the players of the story ended early\n{player}")
        time.sleep(min(0.2, max(0.0, until_s - time.monotonic())))


def _journal(folder: Path) -> books.Journal:
    lines: list[str] = []
    for file in folder.glob("journal*.jsonl"):
        text = file.read_text()
        lines += text[: text.rfind("\n") + 1].splitlines()
    return books.Journal(lines)


def _readings(
    folder: Path, centre: Centre, expected: list[Expected], within_s: float
) -> tuple[list[str], int]:
    """What is wrong with the readings made up to now, once they had time to arrive."""
    made = _journal(folder).made
    waiting = {site for one in expected if one.to_s is None for site in one.sites}
    end = time.monotonic() + within_s
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


def _reported(centre: Centre, began: float, ends: float) -> dict[str, float]:
    """The seconds of down in the report, charged or not, by site."""
    text = centre.pantau(
        *("report", "availability", "--json", "--by", "site", "--zone", "WIB"),
        *("--from", _iso(began), "--to", _iso(ends)),
    )
    return {
        row["site"]: 60 * (row["down_min"] + row["excluded_min"])
        for row in json.loads(text)["rows"]
    }


def _availability(
    result: Score,
    expected: list[Expected],
    played: dict[str, tuple[float, float | None]],
    reported_s: dict[str, float],
    began: float,
    ends: float,
) -> None:
    really = [
        replace(one, from_s=played[one.event][0], to_s=played[one.event][1])
        for one in expected
        if one.event in played
    ]
    gone = unseen(really, {line.partition(" ")[0] for line in result.hidden})
    result.unseen_s = sum(down_s(gone, began, ends).values())
    seen = [one for one in really if one not in gone]
    result.availability_error_s = availability(seen, reported_s, began, ends)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record(outcome: Outcome, **about: object) -> str:
    """The result with its raw samples."""
    return json.dumps({"about": about, **asdict(outcome)}, indent=1)
