"""Window after window: start the probes, take the echoes, make the reading.

Steps are kept in a heap by their time, because windows overlap: one is complete
2 s after its end, when the next has long begun. `step` does what is due first.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec
from msgspec import UNSET

import agent
from agent import clock, probes, schedule, tracing, traffic, window, wire
from agent.config import Config
from agent.measured import Outcome, Sample
from agent.metered import UNSLOWED, Slowing
from agent.once import COMPARING, Echoes, context, probe_names
from agent.schedule import Window


@dataclass
class _Round:
    """One window under way, and what is known of its end once that came."""

    window: Window
    config: Config
    settings_revision: int | None
    echoes: Echoes
    is_last_of_echoes: bool = False
    started: list[probes.Pending] = field(default_factory=list)
    taken_at: float = 0.0
    uptime_s: float = 0.0
    clock: wire.Clock = field(default_factory=lambda: wire.Clock(synced=False))


MakeReading = Callable[[int], wire.Reading]


class Measuring:
    """Measures for ever, one `step` at a time.

    Args:
        config: what to measure, asked at each window's beginning.
        settings_revision: asked then as well.
        slowing: asked then, too: how slow to measure, for a metered link.
        careful: measure nothing but echoes (safe mode).
        further_errors: asked for each reading; problems beside the probes' own.
        deliver: takes each finished reading as a function of its seq.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        settings_revision: Callable[[], int | None],
        careful: bool = False,
        slowing: Callable[[], Slowing] = lambda: UNSLOWED,
        further_errors: Callable[[], Mapping[str, str]],
        deliver: Callable[[MakeReading], None],
    ) -> None:
        self._config = config
        self._settings_revision = settings_revision
        self._further_errors = further_errors
        self._slowing = slowing
        self._windows = itertools.count()
        self._deliver = deliver
        self._followed = config()
        self._careful = careful
        self._names = [] if careful else probe_names(self._followed)
        self._context = context(self._followed)
        self._echoes = Echoes(self._followed)
        self._tracer = None if careful else tracing.tracer(self._followed)
        self._boot = clock.boot_id()
        self._clock = clock.ClockWatch()
        self._silences: window.Silences = {}
        self._steps: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def start(self, now_s: float) -> None:
        """Begin; the first window comes within 10 s."""
        length_s = self._followed.reading.window_s
        self._echoes.start(schedule.echo_interval_s(length_s))
        first = schedule.first_window(now_s, self._followed.site, length_s)
        self._at(first.start_s, lambda: self._prime(length_s))
        self._plan(first)

    @property
    def window_s(self) -> float:
        """The length of the window that is under way."""
        return self._followed.reading.window_s

    @property
    def next_s(self) -> float:
        """When `step` is due, CLOCK_MONOTONIC."""
        return self._steps[0][0]

    def step(self) -> None:
        """Do what is due first."""
        heapq.heappop(self._steps)[2]()

    def stop(self) -> None:
        """Send no more echoes."""
        self._echoes.stop()

    def _plan(self, following: Window) -> None:
        this = _Round(following, self._followed, self._settings_revision(), self._echoes)
        length_s = following.end_s - following.start_s
        slowing = self._slowing()
        normal_s = schedule.echo_interval_s(length_s)
        self._echoes.set_interval(slowing.echo_interval_for(normal_s, length_s))
        names = self._names
        if not slowing.has_probes(next(self._windows)):
            names = [name for name in names if name not in traffic.CROSSING]
        for due in schedule.probes_due(following, names):
            self._at(due.at_s, partial(self._start_probe, this, due.name, length_s))
        self._at(following.end_s, lambda: self._end(this))
        self._at(following.complete_s, lambda: self._complete(this))

    def _at(self, when_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._steps, (when_s, next(self._count), do))

    def _prime(self, length_s: float) -> None:
        """Let the probes that compare with their last run have one to compare with."""
        for name in () if self._careful else COMPARING:
            probes.start(name, self._context, schedule.probe_deadline_s(length_s))

    def _start_probe(self, this: _Round, name: str, length_s: float) -> None:
        context = dataclasses.replace(self._context, window_s=length_s)
        deadline_s = schedule.probe_deadline_s(length_s)
        this.started.append(probes.start(name, context, deadline_s))

    def _end(self, this: _Round) -> None:
        """Stamp the window's end, and plan the next."""
        now_s, now_wall_s = time.monotonic(), time.time()
        late_s = now_s - this.window.end_s
        this.taken_at = now_wall_s - late_s
        this.uptime_s = clock.uptime_s() - late_s
        this.clock = self._clock.observe(clock.is_synchronised(), now_s)
        self._follow(this)
        self._plan(schedule.next_window(this.window, self._followed.reading.window_s, now_s))

    def _follow(self, this: _Round) -> None:
        """Take up what settings have changed; a window ends with what it began with."""
        config = self._config()
        if config.targets != self._followed.targets:
            this.is_last_of_echoes = True
            self._echoes = Echoes(config)
            self._echoes.start(schedule.echo_interval_s(config.reading.window_s))
            self._silences = {}
        if config.access_points != self._followed.access_points and not self._careful:
            self._names = probe_names(config)
            self._context = context(config)
        self._followed = config

    def _complete(self, this: _Round) -> None:
        """Gather what the window gave, and deliver its reading."""
        start_s, end_s = this.window.start_s, this.window.end_s
        samples = this.echoes.take(start_s, end_s)
        self._silences, dead = window.silences(self._silences, samples, this.taken_at - end_s)
        outcomes = [pending.outcome() for pending in this.started]
        paths, trace_errors = self._trace(this.config, samples, outcomes)
        errors = {**this.echoes.errors(), **trace_errors, **self._further_errors()}
        if this.is_last_of_echoes:
            this.echoes.stop()

        def make(seq: int) -> wire.Reading:
            reading = window.build(
                seq=seq,
                boot=self._boot,
                agent=agent.__version__,
                taken_at=this.taken_at,
                uptime_s=this.uptime_s,
                clock=this.clock,
                window_s=round(end_s - start_s, 3),
                samples=samples,
                outcomes=outcomes,
                dead=dead,
                settings_revision=this.settings_revision,
                errors=errors,
            )
            return msgspec.structs.replace(reading, path=paths or UNSET)

        self._deliver(make)

    def _trace(
        self, config: Config, samples: list[Sample], outcomes: list[Outcome]
    ) -> tuple[list[wire.Path], dict[str, str]]:
        """Take the ways that were traced, and start what is due by the `config` of the window."""
        if self._tracer is None:
            return [], {}
        paths, error = self._tracer.take()
        by_name = {one.name: one for one in outcomes}
        ladder = window.ladder(window.ping(samples), by_name, window.ping(samples, 6))
        self._tracer.observe(ladder, tracing.targets(config), time.monotonic())
        return paths, {} if error is None else {"path": error}
