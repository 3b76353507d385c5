"""One showing of the demo: the house is opened, the story told, judged and shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from agent import wire
from agent.spool import SpoolError
from server.demo import story
from server.demo.house import THIS_MACHINE, House, make_folder, remove_folder
from server.demo.picture import Picture
from server.demo.processes import DemoError, shown_command, swept, tail
from server.demo.report import Name, Verdict, compare
from server.demo.show import Lines, Screen, Show, Silent
from server.demo.sites import Sites
from server.demo.view import Scene
from server.fleet.fleet import in_memory, passing_over
from server.model import Status
from server.mqtt import Lost, Refused, Will, connect

INTERRUPTED = 130
"""Exit code after a signal that came before the story's end (128 + SIGINT)."""
_READY_S = 30.0
_SETTLE_S = 20.0
"""How long the last alerts and acks may take after the story."""
_DRAW_S = 0.25
_RECONNECT_S = 0.5


def run(*, story_s: float, endless: bool, as_json: bool, keep: Path | None) -> int:
    """Run the demo.

    Args:
        story_s: length of the story in seconds.
        endless: at a terminal, go on after the story until a signal comes.
        as_json: print one JSON line at the end and nothing else.
        keep: an empty or new folder for all state; None for a temporary one.

    Returns:
        The exit code.
    """
    console = Console()
    live = console.is_terminal and not as_json
    show = Silent() if as_json else Screen(console) if live else Lines()
    try:
        folder = make_folder(keep)
        try:
            verdict = asyncio.run(_play(folder, show, story_s, endless=endless and live))
        finally:
            if keep is None:
                remove_folder(folder)
    except (DemoError, SpoolError) as err:
        print(f"pantau demo: {err}", file=sys.stderr)
        return 1
    return _conclude(verdict, as_json=as_json)


async def _play(folder: Path, show: Show, story_s: float, *, endless: bool) -> Verdict | None:
    """The verdict, None when a signal came before it."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(passing_over(stop))
    house = House(folder)
    demo = None
    try:
        show.note("Starting a broker, ingest, an agent and the sites")
        await _first(house.open(), stop.wait())
        if not stop.is_set():
            async with swept(in_memory()) as spools:
                demo = Demo(house, spools, show, story_s, endless=endless)
                await _first(demo.play(), stop.wait(), house.mishap())
    finally:
        stop.set()
        await house.close()
    return demo.verdict if demo else None


class Demo:
    """One showing: the fleet, the watching client, and the story.

    Args:
        house: where broker, ingest and agent live.
        spools: an empty folder for those of the fleet.
        show: tells what happens.
        story_s: length of the story in seconds.
        endless: go on after it.

    Attributes:
        verdict: whether all came as promised; None before the story's end.
    """

    def __init__(
        self, house: House, spools: Path, show: Show, story_s: float, *, endless: bool
    ) -> None:
        self.verdict: Verdict | None = None
        self._house = house
        self._show = show
        self._story_s = story_s
        self._endless = endless
        registry = house.sites()
        simulated = [site for site in registry if site.id != THIS_MACHINE]
        self._picture = Picture(registry, watched=THIS_MACHINE)
        self._beats = story.write(simulated, story_s)
        self._sites = Sites(simulated, house.settings, spools)
        self._simulated = [site.id for site in simulated]
        self._ingest_ready = asyncio.Event()
        self._began_at: float | None = None
        self._online_after_s: float | None = None

    async def play(self) -> None:
        """Tell the story and judge it; when endless, go on until cancelled."""
        with self._show:
            await _first(self._tell(), self._sites.run(), self._watch(), self._draw())

    async def _tell(self) -> None:
        try:
            await asyncio.wait_for(self._ingest_ready.wait(), _READY_S)
        except TimeoutError:
            log = tail(self._house.log_of("ingest"))
            raise DemoError(f"ingest did not come online within {_READY_S:g} s: {log}") from None
        await self._house.start_agent()
        self._began_at = time.time()
        for beat in self._beats:
            await asyncio.sleep(self._began_at + beat.at_s - time.time())
            self._sites.act(beat)
            self._show.beat(beat)
        await asyncio.sleep(self._began_at + self._story_s - time.time())
        self.verdict = await self._judge()
        if self._endless:
            await asyncio.Event().wait()

    async def _judge(self) -> Verdict:
        """The verdict, once nothing is missing any more or time is up."""
        made = self._sites.journal()
        give_up_at = time.monotonic() + _SETTLE_S
        while True:
            verdict = self._verdict(made)
            if not verdict.failures() or time.monotonic() > give_up_at:
                return verdict
            await asyncio.sleep(1.0)

    def _verdict(self, made: Mapping[str, Mapping[Name, bytes]]) -> Verdict:
        outcomes, surprises = self._outcomes()
        return Verdict(
            story_s=self._story_s,
            online_after_s=self._online_after_s,
            picture=self._picture,
            outcomes=outcomes,
            surprises=surprises,
            ledger=compare(made, self._sites.released, self._house.stored),
        )

    def _outcomes(self) -> tuple[list[story.Outcome], list[str]]:
        return story.judge(self._beats, self._picture, began_at=self._began_at or math.inf)

    async def _watch(self) -> None:
        """Listen as an operator would."""
        offline = wire.server_topic("demo"), msgspec.json.encode({"v": 1, "state": "offline"})
        topics = [
            f"{wire.PREFIX}/state/#",
            f"{wire.PREFIX}/alerts/#",
            wire.site_topic(THIS_MACHINE, "readings"),
            wire.server_topic("ingest"),
        ]
        while True:
            with contextlib.suppress(Lost, Refused):
                async with connect(
                    self._house.settings, "_demo", Will(*offline), topics
                ) as connection:
                    while True:
                        batch = await connection.next_batch()
                        for message in batch.messages:
                            self._hear(message.topic, message.payload)
                        connection.acknowledge(batch)
            await asyncio.sleep(_RECONNECT_S)

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic == wire.server_topic("ingest") and b'"online"' in payload:
            self._ingest_ready.set()
        if alert := self._picture.hear(time.time(), topic, payload):
            self._show.alert(alert)
        if self._began_at and self._online_after_s is None and self._all_online():
            self._online_after_s = round(time.time() - self._began_at, 1)

    def _all_online(self) -> bool:
        return all(self._picture.status(site) is Status.ONLINE for site in self._simulated)

    async def _draw(self) -> None:
        while True:
            self._show.draw(self._scene())
            await asyncio.sleep(_DRAW_S)

    def _scene(self) -> Scene:
        now = time.time()
        return Scene(
            now=now,
            elapsed_s=now - self._began_at if self._began_at else -1.0,
            story_s=self._story_s,
            picture=self._picture,
            beats=self._beats,
            outcomes={one.beat.name: one for one in self._outcomes()[0]},
            verdict=self.verdict.headline() if self.verdict else None,
            try_next=f"{shown_command('pantau')} status --config {self._house.server_toml}",
            timezone=self._picture.sites[THIS_MACHINE].timezone,
        )


async def _first(*ways: Coroutine[Any, Any, object]) -> None:
    """Return, or raise, as the first of several ways does; the others are cancelled."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _conclude(verdict: Verdict | None, *, as_json: bool) -> int:
    """Print what came of it; the exit code."""
    if verdict is None:
        text = "interrupted before the story's end"
        if as_json:
            print(json.dumps({"ok": False, "failures": [text]}))
        else:
            print(f"The demo was {text}.")
        return INTERRUPTED
    if as_json:
        print(msgspec.json.encode(verdict.as_json()).decode())
    else:
        print("\n".join(verdict.summary()))
    return 1 if verdict.failures() else 0
