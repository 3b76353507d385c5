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
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.truth.realagent import AGENT, RealSite, Timing
from bench.truth.realcore import Core
from bench.truth.realdeeds import CLOCK, POINT, POINT_OFF, SLOW, Deeds, point_of
from bench.truth.realjournal import Journal
from bench.truth.realnet import Net, Place
from bench.truth.realplan import Plan, Refused, read
from bench.truth.storyfile import BadStory

NAME = "bench.truth.realsites"
_COMMANDS = ("ip", "nft", "setpriv", "sysctl", "unshare")
_LOOK_S = 1.0
_CALM_S = (1.5, 0.5)
"""An agent ends so long after a reading and before the next, so that none is under way."""


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
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.net = Net([row["isp"] for row in given.rows], journal.folder / "namespaces")
        self._deeds = Deeds(self.net, journal)
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
        for event, names in self._plan.events:
            struck = [self.sites[name] for name in names if name in self.sites]
            begin_at = begins_at + event.at_s
            self._due.append((begin_at, partial(self._deeds.begin, event, struck)))
            if event.lasts_s is not None:
                self._due.append(
                    (begin_at + event.lasts_s, partial(self._deeds.end, event, struck))
                )
        self._due.sort(key=lambda due: due[0])

    def _step(self) -> None:
        """Do what is due, or wait a while."""
        now = time.time()
        if self._due and self._due[0][0] <= now:
            _, deed = self._due.pop(0)
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
    try:
        _look_around(os.geteuid())
        given, broker = read(args.story), _broker(args.broker)
        journal = Journal(args.journal)
    except (Refused, BadStory, OSError) as err:
        print(f"{NAME}: {err}", file=sys.stderr)
        return 2
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
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
