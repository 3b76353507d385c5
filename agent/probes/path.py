"""The way to a target, traced when a rung first fails, once a day, and on command.

Tracing takes seconds and, with scapy, much memory: `agent.helpers.trace` does it in a process
of its own, and its result stands in the reading of the window in which it is there. No window
waits for it.

Rules
 1. A rung that fails and did not fail in the window before is traced; of several the lowest.
 2. The same rung is not traced for a failure again within 10 minutes.
 3. The ways to `domestic` and `world` are traced every ``every_s``, first in the first window.
 4. One trace at a time. What is due meanwhile, and still is when that has ended, comes then.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET

from agent import wire
from agent.probes import ending
from agent.probes.runner import ProbeError

Why = Literal["failure", "daily", "command"]
AGAIN_S = 600.0
DEADLINE_S = 60.0
"""For one target; 30 silent hops take less."""


class Goal(NamedTuple):
    """Whom to trace, and for which rung."""

    target: str
    rung: wire.Rung | None = None


class Due(NamedTuple):
    """Rungs to trace now, and why."""

    rungs: tuple[wire.Rung, ...]
    why: Why


class PathWatch:
    """Decides when to trace (rules 1 to 3). Pure: times come as arguments."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._failing: set[wire.Rung] = set()
        self._traced_s: dict[wire.Rung, float] = {}
        self._daily_s: float | None = None

    def due(self, ladder: wire.Ladder, now_s: float) -> Due | None:
        """What to trace after a window with this `ladder`; forgets nothing until `observe`."""
        new = self._failing_in(ladder) - self._failing
        for rung in wire.RUNGS:
            if rung in new and now_s >= self._traced_s.get(rung, -AGAIN_S) + AGAIN_S:
                return Due((rung,), "failure")
        if self._daily_s is None or now_s >= self._daily_s + self._every_s:
            return Due(("domestic", "world"), "daily")
        return None

    def observe(self, ladder: wire.Ladder, started: Due | None, now_s: float) -> None:
        """Takes note of a window, and of what was started after it.

        What a window did not measure is as it was: it has not recovered.
        """
        absent = {rung for rung in wire.RUNGS if getattr(ladder, rung) not in ("ok", "fail")}
        self._failing = self._failing_in(ladder) | (self._failing & absent)
        if started is None:
            return
        if started.why == "daily":
            self._daily_s = now_s
        else:
            self._traced_s |= dict.fromkeys(started.rungs, now_s)

    @staticmethod
    def _failing_in(ladder: wire.Ladder) -> set[wire.Rung]:
        """Without carrier, which no packet can say anything about."""
        return {rung for rung in wire.RUNGS[1:] if getattr(ladder, rung) == "fail"}


class Tracer:
    """Traces beside the windows.

    Args:
        every_s: how often without a failure.
        foreign_prefixes: where hops lie abroad.
    """

    def __init__(self, every_s: float, foreign_prefixes: Sequence[str]) -> None:
        self._watch = PathWatch(every_s)
        self._foreign = tuple(foreign_prefixes)
        self._lock = threading.Lock()
        self._found: list[wire.Path] = []
        self._error: str | None = None
        self._thread: threading.Thread | None = None

    def observe(self, ladder: wire.Ladder, targets: Mapping[wire.Rung, str], now_s: float) -> None:
        """After each window: starts what is due, and returns at once.

        Args:
            ladder: of the window that has ended.
            targets: whom to trace for a rung; one that is not there is not traced.
            now_s: CLOCK_MONOTONIC.
        """
        if self._thread is not None and self._thread.is_alive():
            return  # rule 4: what is new stays new
        due = self._watch.due(ladder, now_s)
        self._watch.observe(ladder, due, now_s)
        if due is None:
            return
        goals = [Goal(targets[rung], rung) for rung in due.rungs if rung in targets]
        if goals:
            arguments = (goals, due.why)
            self._thread = threading.Thread(
                target=self._run, args=arguments, name="trace", daemon=True
            )
            self._thread.start()

    def _run(self, goals: list[Goal], why: Why) -> None:
        try:
            found, error = trace(goals, why, self._foreign)
        except ProbeError as err:
            found, error = [], str(err)
        except Exception as err:  # must be seen in the readings
            found, error = [], f"{type(err).__name__}: {err}"
        with self._lock:
            self._found += found
            self._error = error

    def take(self) -> tuple[list[wire.Path], str | None]:
        """The ways that were traced since the last call, and what went wrong."""
        with self._lock:
            found, error = self._found, self._error
            self._found, self._error = [], None
        return found, error


def trace(
    goals: Sequence[Goal], why: Why, foreign_prefixes: Sequence[str]
) -> tuple[list[wire.Path], str | None]:
    """Traces the goals one after another in a helper process; takes seconds.

    Returns:
        The ways, and one line on those that could not be traced.

    Raises:
        ProbeError: no helper can be started.
    """
    at = wire.iso(time.time())
    request = json.dumps({"targets": [goal.target for goal in goals]})
    helper = ending.start([sys.executable, "-m", "agent.helpers.trace", request])
    try:
        output, complaint = helper.communicate(timeout=DEADLINE_S * len(goals))
    except subprocess.TimeoutExpired:
        output, complaint = ending.kill(helper)[0], b"it hung and was killed"
    lines = output.splitlines()
    found: list[wire.Path] = []
    errors: list[str] = []
    for goal, line in zip(goals, lines, strict=False):
        try:
            found.append(path(line, goal, why, at, foreign_prefixes))
        except ProbeError as err:
            errors.append(str(err))
    if len(lines) < len(goals):
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        errors.append(f"the trace helper ended early: {last or 'no word'}")
    return found, "; ".join(errors) or None


class _Hop(msgspec.Struct):
    ttl: int
    address: str | msgspec.UnsetType = UNSET
    rtt_ms: float | msgspec.UnsetType = UNSET


class _Line(msgspec.Struct):
    """One line of the helper."""

    address: str = ""
    reached: bool = False
    hops: list[_Hop] = []
    error: str | None = None


def path(line: bytes, goal: Goal, why: Why, at: str, foreign_prefixes: Sequence[str]) -> wire.Path:
    """One way from what the helper said of it.

    Raises:
        ProbeError: it says that it could not trace, or makes no sense.
    """
    try:
        told = msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError as err:
        raise ProbeError(f"the trace helper talks nonsense of {goal.target}: {err}") from None
    if told.error is not None:
        raise ProbeError(told.error)
    foreign = [ipaddress.ip_network(prefix) for prefix in foreign_prefixes]
    hops = [
        wire.Hop(
            ttl=hop.ttl,
            address=hop.address,
            rtt_ms=hop.rtt_ms,
            foreign=_within(hop.address, foreign) if foreign and hop.address else UNSET,
        )
        for hop in told.hops
    ]
    answered = [hop.ttl for hop in hops if hop.address]
    return wire.Path(
        target=goal.target,
        at=at,
        why=why,
        reached=told.reached,
        hops=hops,
        rung=goal.rung or UNSET,
        address=told.address,
        stops_at=max(answered) if answered else UNSET,
        foreign_hop=any(hop.foreign is True for hop in hops) if foreign else UNSET,
    )


def _within(
    address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> bool:
    given = ipaddress.ip_address(address)
    return any(given in network for network in networks)
