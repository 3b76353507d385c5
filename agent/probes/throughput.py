"""Throughput: a test in a helper process, and echoes to its server before and meanwhile.

It takes half a minute and fills the link, so it is none of the probes of each window.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import psutil
from msgspec import UNSET, UnsetType

from agent import wire
from agent.probes.icmp import Prober
from agent.probes.runner import ProbeError
from agent.schedule import ECHO_TIMEOUT_S

_IDLE_S = 2.0
_ECHO_INTERVAL_S = 0.1
_SLACK_S = 40
_LOOK_S = 0.2
"""How often the bytes are looked at: at 100 Mbit/s a limit is passed by 2.5 MB at most."""

_busy_until_s = -math.inf


@dataclass(frozen=True)
class Test:
    """What to run: `seconds` in each direction, and ended when `max_bytes` have passed."""

    method: str
    server: str | None
    seconds: int
    max_bytes: int | None = None


class TestError(ProbeError):
    """A test that gave nothing; `bytes` passed the interfaces meanwhile."""

    def __init__(self, text: str, count_bytes: int) -> None:
        super().__init__(text)
        self.bytes = count_bytes


def throughput(test: Test) -> wire.Throughput:
    """Run a test to its end.

    Raises:
        TestError: it gave nothing, or was killed: it hung, or took too many bytes.
    """
    global _busy_until_s  # of the process, as its interfaces are
    _busy_until_s = math.inf
    try:
        return _measure(test)
    finally:
        _busy_until_s = time.monotonic()


def ran_since(at_s: float) -> bool:
    """Whether a test ran at some time since `at_s` (CLOCK_MONOTONIC), or runs now."""
    return _busy_until_s >= at_s


def _measure(test: Test) -> wire.Throughput:
    echoes = _prober(test)
    begun_s = time.monotonic()
    try:
        if echoes is not None:
            echoes.start()
            time.sleep(_IDLE_S)
        started_s = time.monotonic()
        result = _run(test)
        ended_s = time.monotonic()
        idle: float | UnsetType = UNSET
        loaded: float | UnsetType = UNSET
        if echoes is not None:
            time.sleep(ECHO_TIMEOUT_S)
            idle = _median_ms(echoes, begun_s, started_s)
            loaded = _median_ms(echoes, started_s, ended_s)
    finally:
        if echoes is not None:
            echoes.stop()
    return wire.Throughput(
        method=test.method,
        server=test.server or result.server or UNSET,
        down_mbps=result.down_mbps,
        up_mbps=result.up_mbps,
        bytes=result.bytes,
        latency_ms=idle,
        latency_loaded_ms=loaded,
    )


def _prober(test: Test) -> Prober | None:
    """Echoes to the test's server; none where it is not known, or they are not permitted."""
    host = host_of(test)
    if host is None:
        return None
    try:
        return Prober({"world": (host,)}, interval_s=_ECHO_INTERVAL_S)
    except ProbeError:
        return None


def host_of(test: Test) -> str | None:
    """The machine that a test is against, as far as that is known before it."""
    if test.server is None:
        return None
    return urlsplit(test.server).hostname if "://" in test.server else test.server.split(":")[0]


def _median_ms(echoes: Prober, start_s: float, end_s: float) -> float | UnsetType:
    rtt_ms = [s.rtt_ms for s in echoes.take(start_s, end_s) if s.rtt_ms is not None]
    return round(statistics.median_low(rtt_ms), 3) if rtt_ms else UNSET


def _run(test: Test) -> Told:
    asked = {"method": test.method, "server": test.server, "seconds": test.seconds}
    command = [sys.executable, "-m", "agent.helpers.throughput", json.dumps(asked)]
    passed = _Passed()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as helper:
        try:
            out = _watched(helper, test, passed)
            return parse(out)
        except ProbeError as err:
            raise TestError(str(err), passed.bytes()) from None
        finally:
            # what it started, too; all of it has ended in an orderly test
            with contextlib.suppress(ProcessLookupError):
                os.killpg(helper.pid, signal.SIGKILL)


def _watched(helper: subprocess.Popen[bytes], test: Test, passed: _Passed) -> bytes:
    """What the helper says, unless its time or its bytes are over."""
    deadline_s = 2 * test.seconds + _SLACK_S
    end_s = time.monotonic() + deadline_s
    while True:
        try:
            return helper.communicate(timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() > end_s:
                raise ProbeError(f"the test hung and was killed after {deadline_s} s") from None
            if test.max_bytes is not None and passed.bytes() > test.max_bytes:
                raise ProbeError(
                    f"ended before its time: more than {test.max_bytes / 1e6:.1f} MB passed"
                ) from None


class _Passed:
    """Bytes through all interfaces but loopback; never too few, since others' count as well."""

    def __init__(self) -> None:
        self._before = _counted()

    def bytes(self) -> int:
        now = _counted()
        return sum(max(0, count - self._before.get(name, 0)) for name, count in now.items())


def _counted() -> dict[str, int]:
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    return {name: c.bytes_recv + c.bytes_sent for name, c in counters.items() if name != "lo"}


class Told(msgspec.Struct):
    """What the helper says: figures, or why there are none."""

    down_mbps: float = 0.0
    up_mbps: float = 0.0
    bytes: int = 0
    server: str = ""
    error: str | None = None


def parse(out: bytes) -> Told:
    """The helper's result.

    Raises:
        ProbeError: it says why there is none, or said nothing.
    """
    try:
        result = msgspec.json.decode(out, type=Told)
    except msgspec.MsgspecError:
        raise ProbeError("the test's process ended without a result") from None
    if result.error is not None:
        raise ProbeError(result.error)
    return result
