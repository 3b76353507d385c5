"""The runner: it alone times and judges; a probe returns a value or raises."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from agent import wire
from agent.probes import PROBES, Context, ProbeError, Runner
from agent.probes.runner import Probe
from tests.wait import until

FINE = wire.Dns(ok=True, time_ms=1.0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hanging probe waits for; opened at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def run(probe: Probe, deadline_s: float = 5.0) -> tuple[object, str | None]:
    outcome = Runner({"dns": probe}).run("dns", Context(), deadline_s)
    return outcome.value, outcome.error


def raising(err: Exception) -> Probe:
    def probe(_: Context) -> None:
        raise err

    return probe


def test_the_once_a_window_probes_are_these() -> None:
    assert set(PROBES) == {
        *("access_points", "clients", "dns", "filter", "host", "link", "ntp"),
        *("walk", "web", "wifi"),
    }


def test_a_value_is_the_outcome() -> None:
    assert run(lambda _: FINE) == (FINE, None)


def test_nothing_to_measure_is_no_error() -> None:
    assert run(lambda _: None) == (None, None)


def test_the_probe_is_told_its_deadline() -> None:
    seen: list[float] = []
    run(lambda context: seen.append(context.deadline_s), deadline_s=1.5)
    assert seen == [1.5]


@pytest.mark.parametrize(
    ("err", "text"),
    [
        (ProbeError("192.0.2.53 answers REFUSED"), "192.0.2.53 answers REFUSED"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (PermissionError(13, "Permission denied", "/sys/x"), "/sys/x: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (TimeoutError(), "timeout after 5.0 s"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (RuntimeError("x" * 1000), "RuntimeError: " + "x" * 186),
    ],
)
def test_a_failure_is_one_clear_line(err: Exception, text: str) -> None:
    assert run(raising(err)) == (None, text)


def test_a_failure_may_bring_what_was_measured_all_the_same() -> None:
    refused = wire.Dns(ok=False, time_ms=2.0)
    assert run(raising(ProbeError("no", refused))) == (refused, "no")


def test_a_probe_that_hangs_is_abandoned_at_its_deadline(gate: threading.Event) -> None:
    runner = Runner({"dns": lambda _: gate.wait() and None})
    outcome = runner.run("dns", Context(), 0.2)
    assert (outcome.value, outcome.error) == (None, "timeout after 0.2 s")
    assert outcome.took_s >= 0.2
    assert not gate.is_set()


def test_a_probe_that_still_hangs_is_not_started_again(gate: threading.Event) -> None:
    starts: list[int] = []

    def probe(_: Context) -> wire.Dns:
        starts.append(1)
        gate.wait()
        return FINE

    runner = Runner({"dns": probe})
    runner.run("dns", Context(), 0.1)
    again = runner.run("dns", Context(), 0.1)
    assert again.error is not None
    assert again.error.startswith("still hangs since ")
    assert len(starts) == 1


def test_a_probe_that_hung_is_started_again_once_it_has_ended(gate: threading.Event) -> None:
    def probe(_: Context) -> wire.Dns:
        gate.wait()
        return FINE

    runner = Runner({"dns": probe})
    first = runner.start("dns", Context(), 0.1)
    assert first.outcome().error == "timeout after 0.1 s"
    gate.set()
    until(lambda: first.done, 10, "the first run to end")
    assert runner.run("dns", Context(), 5.0).value == FINE


def test_one_hanging_probe_does_not_hold_up_another(gate: threading.Event) -> None:
    runner = Runner({"web": lambda _: gate.wait() and None, "dns": lambda _: FINE})
    hanging = runner.start("web", Context(), 0.2)
    assert runner.run("dns", Context(), 5.0).value == FINE
    assert hanging.outcome().error == "timeout after 0.2 s"
