"""Breaks the centre while a story runs, by seed, and logs what was done to whom."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.truth.centre import Centre
from bench.truth.story import OF_CENTRE as ACTS
from bench.truth.story import Event, Story
from bench.truth.storyfile import BadStory

_ONCE = ("database_locked", "disk_full")


@dataclass(frozen=True, order=True)
class Act:
    """One breakage; `at_s` counts from the begin of the chaos."""

    at_s: float
    what: str
    lasts_s: float


BURST = 15
STEP_S = 12.0
"""Breakages come in bursts, so that there is also time in which Pantau can be held to its
bounds: each breakage gives every site 2.5 windows again."""


def plan(seed: int, count: int, over_s: float) -> list[Act]:
    """`count` breakages in bursts over `over_s`; lock and full disk once each, if `count` allows.

    The kinds that kill come in random order; a third of the kills of the broker find
    ingest down.
    """
    if not count:
        return []
    chance = random.Random(f"chaos {seed}")  # noqa: S311  # repeatable, not secret
    kinds = [*ACTS[:4], *_ONCE][: min(count, len(ACTS))]
    while len(kinds) < count:
        kinds.append(chance.choice(("ingest_killed", "ingest_killed", *ACTS[1:4])))
    chance.shuffle(kinds)
    bursts = -(-count // BURST)
    step_s = min(STEP_S, over_s / count)
    acts = []
    for number, what in enumerate(kinds):
        burst, place = divmod(number, BURST)
        at_s = (burst + 0.2) * over_s / bursts if bursts > 1 else 0.0
        at_s += (place + chance.uniform(0, 0.3)) * step_s
        acts.append(Act(round(at_s, 1), what, _lasts_s(chance, step_s)))
    return acts


def _lasts_s(chance: random.Random, step_s: float) -> float:
    return round(min(chance.uniform(1, 6), step_s * 0.4), 1)


def within(story: Story, acts: list[Act]) -> Story:
    """The story with these breakages among its events; with none, without any."""
    events = [event for event in story.events if event.what not in ACTS]
    events += [Event(f"c{n:04d}", a.at_s, a.lasts_s, a.what) for n, a in enumerate(acts, 1)]
    return replace(story, events=sorted(events, key=lambda event: event.at_s))


def told(story: Story) -> list[Act]:
    """The breakages of a story, in their order.

    Raises:
        BadStory: one begins before the one before it is over.
    """
    acts = sorted(
        (Act(event.at_s, event.what, event.lasts_s or 0.0), event.id)
        for event in story.events
        if event.what in ACTS
    )
    for (one, _), (after, name) in itertools.pairwise(acts):
        if after.at_s < absences([one])[0][1]:
            raise BadStory(f"event {name}: the centre is still broken then; give it another at_s")
    return [act for act, _ in acts]


def absences(acts: list[Act]) -> list[tuple[float, float]]:
    """From when to when the centre is broken by these; killing both takes half as long again."""
    return [(act.at_s, act.at_s + 1.5 * act.lasts_s) for act in acts]


class Chaos(threading.Thread):
    """Carries out a plan; `fault` is what went wrong in doing so.

    Args:
        depth: messages in the broker's store, as it last said.
        log: one JSON object for each act: time, act, process id, queue depth.
    """

    def __init__(
        self, centre: Centre, acts: list[Act], depth: Callable[[], int | None], log: Path
    ) -> None:
        super().__init__(daemon=True)
        self.fault: BaseException | None = None
        self.done: list[dict[str, object]] = []
        self._centre, self._acts, self._depth, self._log = centre, acts, depth, log
        self._ended = threading.Event()

    def stop(self) -> None:
        """Begin nothing more, and return when all is whole again."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        began = time.monotonic()
        try:
            for act in self._acts:
                if self._ended.wait(max(0.0, began + act.at_s - time.monotonic())):
                    break
                self._do(act)
        except BaseException as err:
            self.fault = err
            raise
        finally:
            self._centre.relay.mend()

    def _do(self, act: Act) -> None:
        centre = self._centre
        if act.what == "network_cut":
            self._note(act, None)
            centre.relay.cut()
            time.sleep(act.lasts_s)
            centre.relay.mend()
        elif act.what == "database_locked":
            with centre.locked():
                self._note(act, None)
                time.sleep(act.lasts_s)
        elif act.what == "disk_full":
            if centre.own_disk:
                with centre.filled():
                    self._note(act, None)
                    time.sleep(act.lasts_s)
            centre.revive()
        else:
            self._kill(act)

    def _kill(self, act: Act) -> None:
        centre = self._centre
        if act.what != "broker_killed":
            self._note(Act(act.at_s, "ingest_killed", act.lasts_s), centre.kill_ingest())
            time.sleep(act.lasts_s)  # the queue fills
        if act.what != "ingest_killed":
            self._note(act, centre.kill_broker())
            time.sleep(act.lasts_s / 2)
        centre.revive()

    def _note(self, act: Act, pid: int | None) -> None:
        row: dict[str, object] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "what": act.what,
            "pid": pid,
            "queue_depth": self._depth(),
            "lasts_s": act.lasts_s,
        }
        self.done.append(row)
        with self._log.open("a") as log:
            log.write(json.dumps(row) + "\n")
