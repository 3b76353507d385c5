"""The device at a modelled site: its power, boot, clock, spool and windows.

What it makes of a window is the agent's own code (`agent.window`), and so are the spool
and the grid of windows; modelled are the echoes and what the other probes would see.
No clock is read: `now_s` is CLOCK_MONOTONIC, `now` the true time in seconds since 1970.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from agent import schedule, window, wire
from agent.measured import AccessPoints, Links, Outcome, Sample
from agent.schedule import Window
from agent.spool import Spool
from server.fleet.link import Link

SPOOL_BYTES = 64 << 20
SEGMENT_BYTES = 64 << 10
"""Small ones: a fleet of thousands lies on one disk."""
_VERSION = version("pantau")
SETTLING_S = 1.0
"""From power to the agent's first echo."""
_BUSIEST_UTC_H = 12.5
"""Half past eight in the evening, WITA."""

Made = Callable[[str, int, float, float], None]
"""Told of each reading as soon as it is stored: stream, seq, true times of begin and end."""


@dataclass
class Box:
    """One device.

    Args:
        site: whose it is.
        folder: its spool lies here.
        window_s: seconds of one reading.
        points: names of the access points on its LAN.
        made: writes the journal.
        spool_bytes: room for its spool.
    """

    site: str
    link: Link
    folder: Path
    window_s: float
    points: tuple[str, ...]
    made: Made
    spool_bytes: int = SPOOL_BYTES
    boot: str = ""
    booted_s: float = 0.0
    spool: Spool | None = None
    window: Window | None = None
    clock_off_s: dict[str, float] = field(default_factory=dict)
    points_off: dict[str, frozenset[str]] = field(default_factory=dict)
    asleep: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"box {self.site}")  # noqa: S311  # plausible numbers
        self._silences: window.Silences = {}
        self._synced_s: float | None = None
        self._starts = 0

    def power_on(self, now_s: float) -> None:
        """A new boot begins."""
        self.boot = str(uuid.uuid4())
        self.booted_s = now_s - SETTLING_S
        self._synced_s = None
        self._starts = 0

    def start_agent(self, now_s: float) -> None:
        """A process with the spool as it lies on the disk."""
        self.spool = Spool(
            self.folder, self.spool_bytes, boot=self.boot, segment_bytes=SEGMENT_BYTES
        )
        self.window = schedule.first_window(now_s, self.site, self.window_s)
        self._silences, self.asleep = {}, []
        self._starts += 1

    def kill_agent(self) -> None:
        """The process is gone, at once."""
        if self.spool is not None:
            self.spool.abandon()
        self.spool = self.window = None

    def uptime_s(self, now_s: float) -> float:
        """Seconds since the boot."""
        return round(now_s - self.booted_s, 3)

    def clock(self, now: float) -> float:
        """What the device takes for the time."""
        return now + sum(self.clock_off_s.values())

    def finish_window(self, now_s: float, now: float) -> None:
        """Store the reading of the window that is complete, and begin the next."""
        ended = self.window
        assert ended is not None
        assert self.spool is not None
        late_s = now_s - ended.end_s
        self.window = schedule.next_window(ended, self.window_s, now_s - schedule.ECHO_TIMEOUT_S)
        samples = self._samples(ended)
        taken_at = self.clock(now - late_s)
        self._silences, dead = window.silences(self._silences, samples, taken_at - ended.end_s)
        outcomes = list(self._outcomes(ended, now))
        clock = self._clock(now_s)
        length_s = round(ended.end_s - ended.start_s, 3)

        def make(seq: int) -> bytes:
            reading = window.build(
                seq=seq,
                boot=self.boot,
                agent=_VERSION,
                taken_at=taken_at,
                uptime_s=self.uptime_s(ended.end_s),
                clock=clock,
                window_s=length_s,
                samples=samples,
                outcomes=outcomes,
                dead=dead,
            )
            return wire.encode(reading)

        self.spool.append(make)
        stream, seq = self.spool.newest or ("", 0)
        self.made(stream, seq, now - late_s - length_s, now - late_s)
        self.link.forget(ended.start_s)
        self.asleep = [one for one in self.asleep if one[1] > ended.start_s]

    def _clock(self, now_s: float) -> wire.Clock:
        if self.clock_off_s:
            self._synced_s = None
            return wire.Clock(synced=False)
        self._synced_s = now_s if self._synced_s is None else self._synced_s
        return wire.Clock(synced=True, age_s=round(now_s - self._synced_s, 3))

    def _samples(self, ended: Window) -> list[Sample]:
        step_s = schedule.echo_interval_s(ended.end_s - ended.start_s)
        samples: list[Sample] = []
        for rung in wire.ECHO_RUNGS:
            sent_s = ended.start_s + self.chance.random() * step_s
            while sent_s < ended.end_s:
                if not any(a <= sent_s < b for a, b in self.asleep):
                    rtt_ms = self.link.rtt_ms(rung, sent_s, self.chance)
                    samples.append(Sample(rung, rung, sent_s, rtt_ms))
                sent_s += step_s
        return samples

    def _outcomes(self, ended: Window, now: float) -> list[Outcome]:
        """What the probes beside the echoes would have seen in the middle of the window."""
        through = not self.link.is_cut((ended.start_s + ended.end_s) / 2)
        people = round(4 + 30 * busy(now) * self.chance.uniform(0.8, 1.2)) if through else 0
        rate = round(people * self.chance.uniform(0.1, 0.5), 2)
        link = wire.Link(up=True, speed_mbps=1000, rx_mbps=rate, tx_mbps=round(rate / 8, 2))
        off = frozenset().union(*self.points_off.values())
        points = {
            name: wire.AccessPoint(reachable=False)
            if name in off
            else wire.AccessPoint(reachable=True, rtt_ms=round(self.chance.uniform(0.4, 2), 3))
            for name in self.points
        }
        dns = wire.Dns(ok=True, time_ms=round(self.chance.uniform(8, 30), 1))
        web = wire.Web(ok=True, status=204, time_ms=round(self.chance.uniform(60, 140), 1))
        host = wire.Host(
            cpu_ratio=round(self.chance.uniform(0.02, 0.08), 3),
            memory_ratio=round(self.chance.uniform(0.35, 0.42), 3),
            temperature_c=round(self.chance.uniform(44, 56), 1),
            undervoltage=False,
            agent_restarts=self._starts - 1,
        )
        found = [
            Outcome("link", Links({"eth0": link}, "ok"), None, 0.0),
            Outcome("dns", dns if through else wire.Dns(ok=False), None, 0.0),
            Outcome("web", web if through else wire.Web(ok=False), None, 0.0),
            Outcome("clients", wire.Clients(source="simulated", associated=people), None, 0.0),
            Outcome("host", host, None, 0.0),
        ]
        if points:
            found.append(Outcome("access_points", AccessPoints(points), None, 0.0))
        return found


def busy(now: float) -> float:
    """How busy the city is, from 0 (early morning) to 1 (evening)."""
    return 0.5 + 0.5 * math.cos((now / 3600 % 24 - _BUSIEST_UTC_H) / 24 * 2 * math.pi)
