"""Plays a story of `bench/truth` with the demo's simulated sites, in one process.

Of the story's events it knows those in `PLAYED`; others it leaves unplayed, and the judge
says so. A cut closes the site's connection at once, so that its will comes sooner than the
keepalive of a real one would let it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from server.config import Mqtt
from server.simulate import SimulatedSite
from server.simulate_site import Act, SiteModel

PLAYED = {
    "cable_cut": (Act.CUT, Act.MEND),
    "isp_down": (Act.CUT, Act.MEND),
    "backhaul_down": (Act.CUT, Act.MEND),
    "power_off": (Act.POWER_OFF, Act.POWER_ON),
    "district_power_down": (Act.POWER_OFF, Act.POWER_ON),
    "link_lossy": (Act.LOSE, Act.HEAL),
}


class Model(SiteModel):
    """A site that writes down what it measured."""

    def __init__(self, site: str, journal: TextIO, *, window_s: float) -> None:
        super().__init__(site, window_s=window_s)
        self._journal_file = journal

    def take_reading(self, now: float) -> None:
        """Measure, and write that down first."""
        row = {"site": self.site, "stream": self.stream, "seq": self.last_seq + 1}
        row |= {"from": _iso(now - self.window_s), "to": _iso(now)}
        self._journal_file.write(json.dumps(row) + "\n")
        super().take_reading(now)


class Site(SimulatedSite):
    """A simulated site whose agent may be killed and started again in the same boot."""

    def kill(self) -> None:
        """The agent is gone, the device lives."""
        self.model.powered = False
        self.suffer(Act.POWER_OFF)

    def start_again(self) -> None:
        """The agent is back, with a grid of windows of its own."""
        boot, booted_at = self.model.boot, self.model.booted_at
        self.suffer(Act.POWER_ON)
        self.model.boot, self.model.booted_at = boot, booted_at


async def _happen(event: dict[str, Any], sites: list[Site], begins: float, log: TextIO) -> None:
    await asyncio.sleep(max(0.0, begins + event["at_s"] - time.time()))
    killed = event["what"] == "agent_killed"
    for site in sites:
        site.kill() if killed else site.suffer(PLAYED[event["what"]][0])
    _note(log, event, "begin")
    if "lasts_s" not in event:
        return
    await asyncio.sleep(event["lasts_s"])
    for site in sites:
        site.start_again() if killed else site.suffer(PLAYED[event["what"]][1])
    _note(log, event, "end")


def _note(log: TextIO, event: dict[str, Any], edge: str) -> None:
    log.write(json.dumps({"event": event["id"], "edge": edge, "at": _iso(time.time())}) + "\n")


async def play(args: argparse.Namespace) -> None:
    """Bring the sites up, then let the story happen."""
    story = tomllib.loads(args.story.read_text())
    with (args.story.parent / story["fleet"]["sites"]).open() as file:
        rows = list(csv.DictReader(file))
    settings = Mqtt(url=f"mqtt://{args.broker}")
    with args.journal.open("w", buffering=1) as log:
        sites = {
            row["site"]: Site(Model(row["site"], log, window_s=args.window_s), settings)
            for row in rows
        }
        begins = time.time() + story["start_after_s"]
        async with asyncio.TaskGroup() as tasks:
            for site in sites.values():
                site.suffer(Act.POWER_ON)
                tasks.create_task(site.run())
            for event in story.get("event", []):
                if event["what"] not in {*PLAYED, "agent_killed"}:
                    continue
                by = next(n for n in ("site", "isp", "backhaul", "power_area") if n in event)
                struck = [sites[row["site"]] for row in rows if row[by] == event[by]]
                tasks.create_task(_happen(event, struck, begins, log))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def main() -> None:
    """Play until the minutes are over."""
    parser = argparse.ArgumentParser(prog="bench.models", description=__doc__)
    parser.add_argument("--broker", required=True, metavar="HOST:PORT")
    parser.add_argument("--story", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--window-s", type=float, default=10.0)
    args = parser.parse_args()
    with contextlib.suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(play(args), args.minutes * 60))


if __name__ == "__main__":
    main()
