"""Plays a story on real agents: `pantau-agent run` in network namespaces. Needs root.

    python -m bench.truth.realsites --broker 127.0.0.1:1883 --story story.toml \\
        --journal journal-real.jsonl --minutes 60 --window-s 30

Of the story it plays the sites of `[fleet] real` and what strikes them, from `[fleet] begins_at`
(RFC 3339) or `start_after_s` after its own start on. It ends after the minutes or by SIGTERM, and
leaves nothing behind, even where it is killed. Then the journal holds each reading that the agents
made, as their own spools tell it. `realcore` says what the way to the broker changes.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import os
import shutil
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.truth.realagent import AGENT, RealSite, Timing
from bench.truth.realcore import Core
from bench.truth.realdeeds import CLOCK, POINT, POINT_OFF, SLOW, Deeds, point_of
from bench.truth.realjournal import Journal
from bench.truth.realnet import MOST_SITES, Net, Place
from bench.truth.story import BadStory, Event, from_toml, sites_of

NAME = "bench.truth.realsites"
_COMMANDS = ("ip", "nft", "setpriv", "sysctl", "unshare")
_LOOK_S = 1.0
_CALM_S = (1.5, 0.5)
"""An agent ends so long after a reading and before the next, so that none is under way."""


class Refused(Exception):
    """It cannot begin; the text is one line."""


@dataclass(frozen=True)
class Plan:
    """What is to be played: the rows of the real sites, and what strikes which of them."""

    rows: list[dict[str, str]]
    events: list[tuple[Event, list[str]]]
    start_after_s: float
    begins_at: float | None


def plan(text: str, rows: list[dict[str, str]]) -> Plan:
    """Of a story file what befalls its real sites. Pure.

    Raises:
        Refused: no real sites, unknown ones, or too many.
        BadStory: the story cannot be played by anybody.
    """
    story = from_toml(text, rows)
    fleet = tomllib.loads(text).get("fleet", {})
    real = fleet.get("real", [])
    if not real:
        raise Refused('no site is real: name some, [fleet] real = ["sim-0001"]')
    known = {row["site"]: row for row in rows}
    if strangers := [site for site in real if site not in known]:
        raise Refused(f"[fleet] real names {strangers[0]!r}, which the registry does not have")
    if len(real) > MOST_SITES:
        raise Refused(f"[fleet] real names {len(real)} sites; {MOST_SITES} at most")
    begins_at = fleet.get("begins_at")
    return Plan(
        [known[site] for site in dict.fromkeys(real)],
        [
            (event, struck)
            for event in story.events
            if (struck := [site for site in sites_of(event, rows) if site in set(real)])
        ],
        story.start_after_s,
        None if begins_at is None else datetime.fromisoformat(str(begins_at)).timestamp(),
    )


class Player:
    """Real sites, and the events of a plan as they become due.

    Args:
        over: set when it is to end.
    """

    def __init__(
        self, given: Plan, timing: Timing, broker: tuple[str, int], journal: Journal,
        over: threading.Event,
    ) -> None:  # fmt: skip
        self._plan = given
        self._timing = timing
        self._journal = journal
        self._over = over
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.net = Net([row["isp"] for row in given.rows])
        self._core: Core | None = None
        self.sites: dict[str, RealSite] = {}
        self._broker = broker
        self.faults: list[str] = []

    def play(self) -> None:
        """All of it; everything is removed when this returns."""
        begun_at = time.time()
        try:
            self._core = Core(self.net.core.name, self._broker)
            self._build()
            begins_at = self._plan.begins_at or begun_at + self._plan.start_after_s
            self._schedule(begins_at)
            ends = time.monotonic() + self._timing.minutes * 60
            while not self._over.is_set() and time.monotonic() < ends:
                self._step()
            self._end()
        finally:
            for site in self.sites.values():
                site.kill()
            self._journal.read(self.sites.values())
            if self._core is not None:
                self._core.close()
            self.net.close()

    def _build(self) -> None:
        struck = [(e, site) for e, sites in self._plan.events for site in sites]
        for number, row in enumerate(self._plan.rows, 1):
            name = row["site"]
            mine = [event for event, site in struck if site == name]
            points = {POINT, *(point_of(event) for event in mine if event.what == POINT_OFF)}
            slow = any(event.what == SLOW for event in mine)
            place = Place(self.net, number, row["isp"], points, slow=slow)
            self.sites[name] = RealSite(
                name,
                self._journal.folder / name,
                place,
                self.net.isp_address[row["isp"]],
                self._timing,
                clock_shifts=any(event.what == CLOCK for event in mine),
            )
            self.sites[name].boot()
            self.sites[name].start()
            if self._over.is_set():
                return

    def _schedule(self, begins_at: float) -> None:
        deeds = Deeds(self.net, self._journal)
        for number, (event, names) in enumerate(self._plan.events):
            struck = [self.sites[name] for name in names if name in self.sites]
            begin = begins_at + event.at_s
            self._due.append((begin, number, lambda e=event, s=struck: deeds.begin(e, s)))  # type: ignore[misc]  # bound now
            if event.lasts_s is not None:
                end = begin + event.lasts_s
                self._due.append((end, number, lambda e=event, s=struck: deeds.end(e, s)))  # type: ignore[misc]  # bound now
        heapq.heapify(self._due)
        self._deeds = deeds

    def _step(self) -> None:
        """Do what is due, or wait a while."""
        now = time.time()
        if self._due and self._due[0][0] <= now:
            _, _, deed = heapq.heappop(self._due)
            deed()
            return
        wait_s = self._due[0][0] - now if self._due else _LOOK_S
        self._over.wait(min(_LOOK_S, wait_s))
        for name in self._deeds.died(self.sites.values()):
            self.faults.append(f"{name}: its agent ended by itself, see its agent.log")

    def _end(self) -> None:
        """Stop each agent while it rests, and write down what its spool holds."""
        left = [site for site in self.sites.values() if site.running]
        for site in [site for site in left if self._deeds.hangs(site)]:
            site.kill()
            left.remove(site)
        stopping = list(left)
        window_s = self._timing.window_s
        give_up = time.monotonic() + 2 * window_s + 10
        while left:
            for site in list(left):
                calm = _CALM_S[0] <= site.rested_s() <= max(_CALM_S[0] + 1, window_s - _CALM_S[1])
                if calm or time.monotonic() > give_up:
                    site.tell_to_stop()
                    left.remove(site)
            time.sleep(0.05)
        for site in stopping:
            site.ended()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play until the minutes are over or somebody ends it; 2: it did not begin."""
    parser = argparse.ArgumentParser(
        prog=NAME, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--broker", required=True, metavar="HOST:PORT")
    parser.add_argument("--story", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--window-s", type=float, default=10.0)
    parser.add_argument("--keepalive-s", type=float, default=15.0)
    args = parser.parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    try:
        _look_around(os.geteuid())
        given, broker = _read(args.story), _broker(args.broker)
        journal = Journal(args.journal)
    except (Refused, BadStory, OSError) as err:
        print(f"{NAME}: {err}", file=sys.stderr)
        return 2
    timing = Timing(args.window_s, args.keepalive_s, args.minutes)
    player = Player(given, timing, broker, journal, over)
    try:
        with journal:
            player.play()
    except (AssertionError, OSError, RuntimeError) as err:  # a command of the lab failed
        player.faults.append(str(err))
    for line in (*player.faults, *_costs(player.sites.values())):
        print(f"{NAME}: {line}")
    return 1 if player.faults else 0


def _look_around(euid: int) -> None:
    if euid:
        raise Refused("needs root, for network namespaces and nft")
    for command in _COMMANDS:
        if shutil.which(command) is None:
            raise Refused(f"needs the command {command}")
    if not AGENT.exists():
        raise Refused(f"{AGENT} is not there: make install")


def _read(story: Path) -> Plan:
    text = story.read_text()
    try:
        name = tomllib.loads(text)["fleet"]["sites"]
    except tomllib.TOMLDecodeError as err:
        raise BadStory(f"the story is no TOML: {err}") from None
    except (KeyError, TypeError):
        raise BadStory('the story lacks [fleet] sites = "sites.csv"') from None
    with (story.parent / name).open() as file:
        return plan(text, list(csv.DictReader(file)))


def _broker(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise Refused(f"--broker {text}: HOST:PORT is wanted")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError as err:
        raise Refused(f"no broker at {text}: {err.strerror or err}") from None
    return host, int(port)


def _costs(sites: Any) -> list[str]:
    costs = [site.cost for site in sites if site.cost.lived_s]
    if not costs:
        return []
    minutes = sum(cost.lived_s for cost in costs) / 60
    cpu_s = sum(cost.cpu_s for cost in costs)
    peak = max(cost.peak_rss_mib for cost in costs)
    each = f"{cpu_s / minutes:.3f} CPU-s a minute each, peak RSS {peak:.1f} MiB at most"
    return [f"{len(costs)} agents: {each}"]


if __name__ == "__main__":
    sys.exit(main())
