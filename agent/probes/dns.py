"""Name resolution: the same questions to one resolver, and to another one beside it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from agent import wire
from agent.probes.dns_client import Heard, ask, shown
from agent.probes.runner import Context, ProbeError


def dns(context: Context) -> wire.Dns | None:
    """Asks for the IPv4 address of every name at once; the first good answer decides.

    Raises:
        ProbeError: no resolver, or one that says no to every name, refuses, or is silent;
            all but the first with what was measured all the same.
    """
    if not context.names:
        return None
    end_s = time.monotonic() + context.deadline_s
    other = _Other(context, end_s)
    try:
        section = _of(context, end_s)
    except ProbeError as err:
        if not isinstance(err.value, wire.Dns):
            raise
        raise ProbeError(str(err), replace(err.value, compared=other.result())) from None
    return replace(section, compared=other.result())


def _of(context: Context, end_s: float) -> wire.Dns:
    """What the resolver makes of the names."""
    try:
        heard = ask(context.resolver, context.names, end_s, until_good=True)
    except OSError as err:
        failed = wire.Dns(ok=False, outcome="unreachable")
        raise ProbeError(err.strerror or str(err), failed) from None
    if heard and heard[-1].answer.outcome == "answer":
        return wire.Dns(ok=True, time_ms=heard[-1].time_ms, outcome="answer")
    resolver = shown(context.resolver)
    told = [f"{resolver} answers {one.answer.refusal} for {one.name}" for one in heard]
    if len(heard) < len(context.names):
        told = told or [f"timeout after {context.deadline_s:.1f} s"]
    raise ProbeError("; ".join(told), _without_good(heard))


def _without_good(heard: list[Heard]) -> wire.Dns:
    if not heard:
        return wire.Dns(ok=False, outcome="timeout")
    return wire.Dns(ok=False, time_ms=heard[-1].time_ms, outcome=heard[0].answer.outcome)


@dataclass
class _Other:
    """The resolver to compare with, asked at the same time; nothing where there is none."""

    context: Context
    end_s: float
    _found: wire.Dns | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._ask, name="dns-compared", daemon=True)
        if self.context.compare_with is not None:
            self._thread.start()

    def _ask(self) -> None:
        try:
            heard = ask(self.context.compare_with, self.context.names, self.end_s, until_good=True)
        except (OSError, ProbeError):
            self._found = wire.Dns(ok=False, outcome="unreachable")
            return
        good = heard and heard[-1].answer.outcome == "answer"
        self._found = (
            wire.Dns(ok=True, time_ms=heard[-1].time_ms, outcome="answer")
            if good
            else _without_good(heard)
        )

    def result(self) -> wire.ComparedDns | UnsetType:
        """What it made of the names; waits for it until the end."""
        if self.context.compare_with is None:
            return UNSET
        self._thread.join(max(0.0, self.end_s - time.monotonic()) + 0.01)
        found = self._found or wire.Dns(ok=False, outcome="timeout")
        return wire.ComparedDns(
            resolver=self.context.compare_with,
            ok=found.ok is True,
            outcome=found.outcome,
            time_ms=found.time_ms,
        )
