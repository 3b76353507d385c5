"""The tests of throughput in the service: what they tell, keep and refuse."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from agent import config, throughput, wire
from agent.meter import Meter
from agent.probes import throughput as probe
from agent.settings import RefusedError
from tests.agent.test_meter import configured, reading
from tests.wait import until

TABLE = config.Throughput("iperf3", "192.0.2.1", 4, 1000, 5, 0, 0.7, ())
RESULT = wire.Throughput(method="iperf3", down_mbps=20.0, up_mbps=10.0, bytes=18_000_000)
MB = 1_000_000


class Measure:
    """Stands for a test of half a minute: counts, and gives what it is told to give."""

    def __init__(self, error: probe.TestError | None = None) -> None:
        self.asked: list[probe.Test] = []
        self._error = error

    def __call__(self, test: probe.Test) -> wire.Throughput:
        self.asked.append(test)
        if self._error is not None:
            raise self._error
        return RESULT


def _due(folder: Path, now_s: float) -> None:
    (folder / "throughput.json").write_text(f'{{"next_s": {now_s - 1}}}')


def test_without_a_table_nothing_runs_and_the_command_is_refused(tmp_path: Path) -> None:
    measure = Measure()
    tests = throughput.Tests(None, tmp_path, Meter(tmp_path, None), measure)
    tests.look(reading(), time.time())
    with pytest.raises(RefusedError, match=r"no \[throughput\] in the configuration"):
        tests.run_by_command({})
    assert (measure.asked, tests.take_problem()) == ([], None)


def test_a_test_that_is_due_runs_and_its_result_is_told_once(tmp_path: Path) -> None:
    now_s = time.time()
    _due(tmp_path, now_s)
    tests = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), Measure())
    tests.look(reading(), now_s)
    assert until(tests.take_result, 10, "the result") == RESULT
    assert tests.take_result() is None


def test_a_test_that_waits_says_why_in_the_next_reading(tmp_path: Path) -> None:
    now_s = time.time()
    _due(tmp_path, now_s)
    measure = Measure()
    tests = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), measure)
    busy = replace(reading(), clients=wire.Clients(source="nl80211", active=3))
    tests.look(busy, now_s)
    assert tests.take_problem() == "skipped: 3 clients are active, more than 0"
    assert measure.asked == []


def test_a_test_that_waits_writes_nothing(tmp_path: Path) -> None:
    now_s = time.time()
    _due(tmp_path, now_s)
    file = tmp_path / "throughput.json"
    text, before = file.read_text(), file.stat()
    measure = Measure()
    tests = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), measure)
    busy = replace(reading(), clients=wire.Clients(source="nl80211", active=3))
    problems = []
    for minute in range(21):
        tests.look(busy, now_s + 60 * minute)
        problems.append(tests.take_problem())

    skipped = "skipped: 3 clients are active, more than 0"
    assert [m for m, problem in enumerate(problems) if problem == skipped] == [0, 10, 20]
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    again = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), measure)
    again.look(reading(), now_s + 60 * 21)
    assert until(again.take_result, 10, "the result") == RESULT
    assert file.read_text() != text


def test_the_command_replies_with_the_result_and_what_it_took_is_kept_over_a_restart(
    tmp_path: Path,
) -> None:
    tests = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), Measure())
    assert tests.run_by_command({})["down_mbps"] == 20.0

    dear = config.Throughput("iperf3", "192.0.2.1", 4, 30, 5, 0, 0.7, ())
    measure = Measure()
    again = throughput.Tests(dear, tmp_path, Meter(tmp_path, None), measure)
    with pytest.raises(RefusedError, match=r"20 of 30 MB of this month are used; args.force"):
        again.run_by_command({})
    again.run_by_command({"force": True})
    assert [test.max_bytes for test in measure.asked] == [None]


def test_a_test_that_fails_costs_what_passed_and_is_refused_with_its_reason(
    tmp_path: Path,
) -> None:
    failing = Measure(probe.TestError("iperf3: unable to connect", 990 * MB))
    tests = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), failing)
    with pytest.raises(RefusedError, match="iperf3: unable to connect"):
        tests.run_by_command({})
    with pytest.raises(RefusedError, match="990 of 1000 MB"):
        tests.run_by_command({})


def test_a_test_that_fails_is_no_measure_of_the_next(tmp_path: Path) -> None:
    failing = Measure(probe.TestError("iperf3: unable to connect", 600 * MB))
    tests = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), failing)
    with pytest.raises(RefusedError, match="iperf3: unable to connect"):
        tests.run_by_command({})
    again = throughput.Tests(TABLE, tmp_path, Meter(tmp_path, None), Measure())
    assert again.run_by_command({})["down_mbps"] == 20.0


def test_on_a_metered_link_a_test_takes_what_there_is_to_spare_and_no_more(
    tmp_path: Path,
) -> None:
    meter = Meter(tmp_path, None)
    meter.observe(reading(), configured(tmp_path, 100), 0, time.time(), 0.0)
    measure = Measure()
    tests = throughput.Tests(TABLE, tmp_path, meter, measure)
    spare = meter.spare_bytes(by_command=True)
    assert spare is not None
    if spare >= 25 * MB:  # early in a month the least of the agent's own needs takes more
        tests.run_by_command({})
        assert measure.asked[0].max_bytes == spare
        assert meter.spare_bytes(by_command=True) == spare - int(18 * MB * 1.1)
    meter.add_test(100 * MB)
    with pytest.raises(RefusedError, match="this metered link has 0 MB to spare"):
        tests.run_by_command({"force": True})
    assert RESULT.latency_ms is UNSET
