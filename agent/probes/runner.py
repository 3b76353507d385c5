"""How every once-a-window probe is run: under a deadline, timed and judged here alone.

A probe measures and returns a section, returns None when there is nothing to measure, or
raises. It never logs, never times itself out of the window, never returns a bool.

Rules for a run that hangs
 1. At its deadline it is abandoned: its window goes on without it, with a timeout.
 2. A thread cannot be ended from outside, so the probe is not started again until the run has
    ended. That is told in each window.
 3. After ten minutes the run is given up, and the probe is started beside it: a lost answer
    does not silence a probe for years.
 4. Of each probe three runs may hang in the whole process, whoever started them; beyond that
    none is started.
What a probe starts as a process is ended by `agent.probes.ending`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from agent.hotspot import Hotspot
from agent.measured import Outcome, Section

_MAX_ERROR_CHARS = 200
_GIVE_UP_S = 600.0
_MOST_HANGING = 3
_GRACE_S = 0.25
"""A probe that ends at its deadline can still say what it saw until then."""


class FilterRules(NamedTuple):
    """What a filter must let through, what it must stop, and where it then leads."""

    must_resolve: tuple[str, ...]
    must_be_filtered: tuple[str, ...]
    pages: tuple[str, ...]
    every_s: float


@dataclass(frozen=True, slots=True)
class Context:
    """What the probes need to know.

    ``names``, ``resolver`` (none: the system's) and ``compare_with`` are for dns, ``filter``
    for filter, ``url`` for web, ``time_servers`` for ntp, ``hotspot`` for clients, access_points,
    wifi and walk, ``disk_path`` lies on the file system that host reports. Left empty, the
    probe has nothing to measure. ``deadline_s`` is set by the runner.
    """

    window_s: float = 60.0
    names: tuple[str, ...] = ()
    resolver: str | None = None
    compare_with: str | None = None
    filter: FilterRules | None = None
    url: str | None = None
    time_servers: tuple[str, ...] = ()
    hotspot: Hotspot = field(default_factory=Hotspot)
    disk_path: str = "/"
    deadline_s: float = 2.0


class ProbeError(Exception):
    """A measurement that failed; the text is one clear line.

    ``value`` is what could be measured all the same (an answer that says no, and its time).
    """

    def __init__(self, text: str, value: Section | None = None) -> None:
        super().__init__(text)
        self.value = value


Probe = Callable[[Context], Section | None]


@dataclass(slots=True)
class Pending:
    """One run of a probe that was started."""

    name: str
    deadline_s: float
    started_s: float
    _done: threading.Event = field(default_factory=threading.Event)
    _outcome: Outcome | None = None

    def outcome(self) -> Outcome:
        """What came of it; waits until its deadline, and a moment for it to tell of that."""
        end_s = self.started_s + self.deadline_s + _GRACE_S
        self._done.wait(max(0.0, end_s - time.monotonic()))
        took_s = time.monotonic() - self.started_s
        return self._outcome or Outcome(self.name, None, _timeout(self.deadline_s), took_s)

    def finish(self, value: Section | None, error: str | None) -> None:
        """Sets what `outcome` tells."""
        self._outcome = Outcome(self.name, value, error, time.monotonic() - self.started_s)
        self._done.set()

    @property
    def done(self) -> bool:
        """Whether it has ended, in time or not."""
        return self._done.is_set()


class Hanging:
    """The runs of this process that did not end at their deadline, by probe (rule 4)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, list[Pending]] = {}

    def note(self, run: Pending) -> None:
        """A run that begins."""
        with self._lock:
            self._runs.setdefault(run.name, []).append(run)

    def count(self, name: str, now_s: float) -> int:
        """How many runs of a probe hang."""
        with self._lock:
            runs = self._runs[name] = [one for one in self._runs.get(name, ()) if not one.done]
        return sum(now_s > one.started_s + one.deadline_s + _GRACE_S for one in runs)


_hanging = Hanging()


class Runner:
    """Runs probes, each in a thread of its own, at most one run of each at a time.

    Args:
        probes: by name.
        give_up_s: how long a run that hangs keeps the next from being started.
    """

    def __init__(self, probes: Mapping[str, Probe], give_up_s: float = _GIVE_UP_S) -> None:
        self._probes = probes
        self._give_up_s = give_up_s
        self._latest: dict[str, Pending] = {}

    def start(self, name: str, context: Context, deadline_s: float) -> Pending:
        """Starts a probe and returns at once.

        A probe that hangs may not be started again (rules 2 and 4): that is its outcome.
        """
        now_s = time.monotonic()
        pending = Pending(name, deadline_s, now_s)
        refusal = self._refusal(name, now_s)
        if refusal is not None:
            pending.finish(None, refusal)
            return pending
        self._latest[name] = pending
        _hanging.note(pending)
        context = replace(context, deadline_s=deadline_s)
        threading.Thread(
            target=_run, args=(self._probes[name], context, pending), name=name, daemon=True
        ).start()
        return pending

    def _refusal(self, name: str, now_s: float) -> str | None:
        """Why a probe is not to be started now."""
        before = self._latest.get(name)
        if before is not None and not before.done:
            stood_s = now_s - before.started_s
            if stood_s < self._give_up_s:
                return f"still hangs since {stood_s:.1f} s"
        count = _hanging.count(name, now_s)
        if count >= _MOST_HANGING:
            return f"{count} runs of it still hang; only a restart ends them"
        return None

    def run(self, name: str, context: Context, deadline_s: float) -> Outcome:
        """Runs a probe to its end, or to the deadline.

        Args:
            name: one of the probes.
            context: what it needs to know.
            deadline_s: after this it is abandoned, and the outcome is a timeout.
        """
        return self.start(name, context, deadline_s).outcome()


def _run(probe: Probe, context: Context, pending: Pending) -> None:
    try:
        value = probe(context)
    except ProbeError as err:
        pending.finish(err.value, _line(str(err)))
    except Exception as err:  # whatever it is, it is this probe's failure and no other's
        pending.finish(None, _reason(err, context.deadline_s))
    else:
        pending.finish(value, None)


def _timeout(deadline_s: float) -> str:
    return f"timeout after {deadline_s:.1f} s"


def _reason(err: Exception, deadline_s: float) -> str:
    if isinstance(err, TimeoutError):
        return _timeout(deadline_s)
    if isinstance(err, OSError) and err.strerror:
        place = f"{err.filename}: " if err.filename else ""
        return _line(f"{place}{err.strerror}")
    return _line(f"{type(err).__name__}: {err}")


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_ERROR_CHARS]
