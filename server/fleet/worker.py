"""A share of the fleet in one process: lets the story happen to its sites, keeps the journal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import wire
from agent.spool import SpoolError
from server.config import Mqtt
from server.fleet.backlog import fill
from server.fleet.fleet import Fleet, passing_over
from server.fleet.story import Event
from server.fleet.tube import tube_time

_TELL_S = 1.0


@dataclass(frozen=True)
class Share:
    """What one process plays.

    Attributes:
        sites: id and access points of each.
        events: those that strike one of them.
        begins: story time 0, seconds since 1970; `ends` is the end of the play.
        spools_stay: the spools are somebody's; else they go at the end.
        certificates: a folder with SITE.crt and SITE.key of each; None: none.
        starts_over_s: the sites are switched on one after another over this long.
        backlog_s: each begins with the readings of so long a time that nobody has.
    """

    sites: tuple[tuple[str, tuple[str, ...]], ...]
    events: tuple[Event, ...]
    settings: Mqtt
    window_s: float
    begins: float
    ends: float
    spools: Path
    spools_stay: bool
    journal: Path | None
    certificates: Path | None
    starts_over_s: float = 0.0
    backlog_s: float = 0.0


class Journal:
    """JSON lines, appended whole, so that several processes may write to one file."""

    def __init__(self, file: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = None if file is None else os.open(file, flags, 0o644)
        self.made = 0

    def write(self, row: dict[str, Any]) -> None:
        """Append one object."""
        if self._file is not None:
            os.write(self._file, json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def reading(self, site: str, stream: str, seq: int, begin: float, end: float) -> None:
        """Note a reading that was made."""
        self.made += 1
        if self._file is not None:
            span = {"from": wire.iso(begin), "to": wire.iso(end)}
            self.write({"site": site, "stream": stream, "seq": seq, **span})


class Play:
    """One share under way."""

    def __init__(self, share: Share, tell: Any) -> None:
        self._share = share
        self._tell = tell
        self.journal = Journal(share.journal)
        points = dict(share.sites)
        self.fleet = Fleet(
            points,
            share.settings,
            window_s=share.window_s,
            spools=share.spools,
            made=self.journal.reading,
            certificates=share.certificates,
            # With a backlog its device has run for long, and only the agent waits.
            running=points if share.backlog_s else (),
        )

    async def run(self) -> None:
        """Play to the end, or until SIGTERM."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.set_exception_handler(passing_over(stop))
        if self._share.backlog_s:
            for site in self.fleet.sites.values():
                fill(site.box, self._share.backlog_s, tube_time(), time.time())
                await asyncio.sleep(0)  # hears SIGTERM
                if stop.is_set():
                    return
            self._tell({"filled": True})
        # These end with the play alone, or by a fault; the story's own tasks end by and by.
        lasting: list[asyncio.Task[Any]] = [
            asyncio.create_task(self.fleet.run()),
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._report()),
        ]
        passing = [asyncio.create_task(self._happen(event)) for event in self._share.events]
        passing.append(asyncio.create_task(self._start()))
        for task in passing:
            task.add_done_callback(lambda one: stop.set() if _faults([one]) else None)
        gc.freeze()
        left_s = max(0.0, self._share.ends - time.time())
        done, _ = await asyncio.wait(lasting, timeout=left_s, return_when="FIRST_COMPLETED")
        stop.set()
        for task in (*lasting, *passing):
            task.cancel()
        await asyncio.gather(*lasting, *passing, return_exceptions=True)
        for fault in _faults([*done, *passing]):
            raise fault

    async def _start(self) -> None:
        """Switch the devices on, evenly over the time that it may take."""
        sites = self.fleet.sites
        step_s = self._share.starts_over_s / max(1, len(sites))
        for site in sites:
            self.fleet.switch_on([site])
            await asyncio.sleep(step_s)

    async def _happen(self, event: Event) -> None:
        at = self._share.begins + event.at_s
        await asyncio.sleep(max(0.0, at - time.time()))
        self.fleet.begin(event)
        self._note(event, "begin")
        if event.lasts_s is None:
            return
        await asyncio.sleep(max(0.0, at + event.lasts_s - time.time()))
        self.fleet.end(event)
        self._note(event, "end")

    def _note(self, event: Event, edge: str) -> None:
        self.journal.write({"event": event.id, "edge": edge, "at": wire.iso(time.time())})

    async def _report(self) -> None:
        """Tell how it stands, and put away what ended connections left behind.

        Each leaves some 40 objects that hold each other: gmqtt's, the tube's, and the frames of
        what was raised. Collections as rare as `work` sets them, for the sake of speed, would
        let them lie for ever: 10 kB for each.
        """
        tidied = 0
        loop = asyncio.get_running_loop()
        wakes_s = loop.time() + _TELL_S
        while True:
            await asyncio.sleep(max(0.0, wakes_s - loop.time()))
            late_s = loop.time() - wakes_s
            wakes_s = loop.time() + _TELL_S
            if self.fleet.attempts - tidied >= len(self.fleet.sites):
                tidied = self.fleet.attempts
                gc.collect()
            told = {
                "connected": self.fleet.connected,
                "made": self.journal.made,
                "unreleased": self.fleet.unreleased,
                "late_s": late_s,
            }
            try:
                self._tell(told)
            except OSError:
                return  # who started us is gone


def _faults(tasks: Iterable[asyncio.Task[Any]]) -> list[BaseException]:
    ended = (task.exception() for task in tasks if task.done() and not task.cancelled())
    return [fault for fault in ended if fault is not None]


def work(share: Share, tell: Any) -> None:
    """Play one share in this process.

    Args:
        tell: takes what is to be shown, a dict.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when it is over
    gc.set_threshold(50_000, 50, 50)
    try:
        asyncio.run(Play(share, tell).run())
    except SpoolError as err:
        raise SystemExit(f"pantau: {err}") from None
    finally:
        parent = multiprocessing.parent_process()
        if not share.spools_stay and parent is not None and not parent.is_alive():
            _clear(share)


def _clear(share: Share) -> None:
    """Who started us was killed, so nobody else puts the spools away."""
    for site, _ in share.sites:
        shutil.rmtree(share.spools / site, ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty: others still play
        share.spools.rmdir()


def shares(events: Iterable[Event], sites: set[str]) -> tuple[Event, ...]:
    """The events that strike one of these sites."""
    return tuple(event for event in events if not sites.isdisjoint(event.sites))
