"""Three days without a link, with every kind of restart and a clock that knows no time.

The days are laid into the real spool by real writers, which keep a log of their own; then
the real agent, broker and server come together, and the log is the judge.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import clock, wire
from agent.spool import Spool
from bench.typical import Typical
from tests.agent.spool_helper import abandon
from tests.lab.city import Agent, City
from tests.lab.journal import assert_settles
from tests.lab.observer import Observer
from tests.lab.pki import Authority

pytestmark = pytest.mark.slow

SITE = "maesa-0001"
DAYS = 3
RESTARTS_A_DAY = 6
EACH = 1440 // RESTARTS_A_DAY
WINDOW_S = 60.0
_NO_CLOCK_S = 1_262_304_000.0
"""2010: where a device without a clock chip may begin."""

Log = dict[tuple[str, int], Any]


def _boot(number: int) -> str:
    return f"{number:08d}-0000-4000-8000-000000000000"


def _three_days(path: Path) -> Log:
    """Readings of three days; what ends each of their parts takes turns.

    An orderly end, a ``kill -9``, a power cut, and a power cut that tears the record that
    was being written. In the last part the clock jumps back by an hour.
    """
    log: Log = {}
    typical, boot = Typical(), 0
    for part in range(DAYS * RESTARTS_A_DAY):
        spool = Spool(path, 32 << 20, boot=_boot(boot))
        jump_s = 3600.0 if part == DAYS * RESTARTS_A_DAY - 1 else 0.0
        for _ in range(EACH):
            _log_one(spool, log, typical, _boot(boot), jump_s)
        if part % 4 == 0:
            spool.close()
        else:
            abandon(spool)
        boot += part % 4 >= 2
        if part % 4 == 3:
            _tear_the_end(path)
    return log


def _log_one(spool: Spool, log: Log, typical: Typical, boot: str, jump_s: float) -> None:
    taken_at = wire.iso(1_790_000_000 + len(log) * WINDOW_S - jump_s)

    def make(seq: int) -> bytes:
        reading = msgspec.structs.replace(typical.reading(seq), boot=boot, taken_at=taken_at)
        return wire.encode(reading)

    seq = spool.append(make)
    newest = spool.newest
    assert newest is not None
    assert newest not in log, "a name was given twice"
    log[newest] = taken_at
    assert seq == newest[1]


def _tear_the_end(path: Path) -> None:
    """As if a further record had been on its way to the disk."""
    newest = max(path.glob("*.seg"))
    with newest.open("r+b") as file:
        end = len(file.read().rstrip(b"\0"))
        file.seek(end + 64)
        file.write(b"half of a record")


def _without_a_clock(agent: Agent, count: int) -> dict[tuple[str, int], float]:
    """The readings before the agent starts, in this boot; by name when each was really taken."""
    truth: dict[tuple[str, int], float] = {}
    spool = Spool(agent.spool, 32 << 20, boot=clock.boot_id())
    boot_at = time.time() - clock.uptime_s()
    first_s = clock.uptime_s() - count - 5
    assert first_s > 0, "this machine has only just started"
    for i in range(count):

        def make(seq: int, uptime_s: float = first_s + i) -> bytes:
            return wire.encode(
                wire.Reading(
                    seq=seq,
                    boot=clock.boot_id(),
                    taken_at=wire.iso(_NO_CLOCK_S + uptime_s),
                    uptime_s=round(uptime_s, 3),
                    clock=wire.Clock(synced=False),
                    window_s=1.0,
                    agent="0.1.0",
                    ladder=wire.Ladder(gateway="ok", world="fail", first_failure="world"),
                )
            )

        spool.append(make)
        newest = spool.newest
        assert newest is not None
        truth[newest] = boot_at + first_s + i
    spool.close()
    return truth


def test_three_days_with_restarts_arrive_exactly_and_again_after_the_server_lost_them(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        City(tmp_path / "city", authority, [SITE]) as city,
        Observer(city.broker) as observer,
    ):
        agent = city.agents[SITE]
        agent.tables["spool"]["max_mb"] = 32
        log = _three_days(agent.spool)
        truth = _without_a_clock(agent, 30)
        assert len(log) == DAYS * 1440
        _stop_and_copy(city, tmp_path / "backup")
        agent.start()

        stored = assert_settles(city, observer, agent, within_s=180)

        assert {name: stored[name]["taken_at"] for name in log} == log
        _assert_times_were_put_right(city, truth)
        agent.kill9()

        _restore(city, tmp_path / "backup")
        agent.start()
        again = assert_settles(city, observer, agent, within_s=180)
        assert stored.items() <= again.items(), "what the restored server lost did not come again"


def _stop_and_copy(city: City, backup: Path) -> None:
    """A backup of the server from before the three days arrived."""
    city.ingest.stop()
    shutil.copytree(city.database.parent, backup)
    city.ingest.start()
    city.at_work()


def _restore(city: City, backup: Path) -> None:
    city.ingest.stop()
    shutil.rmtree(city.database.parent)
    shutil.copytree(backup, city.database.parent)
    city.ingest.start()
    city.at_work()


def _assert_times_were_put_right(city: City, truth: dict[tuple[str, int], float]) -> None:
    """The clock was off by years; the server knows better from ``uptime_s``."""
    for row in city.rows("readings", SITE):
        really = truth.get((row["stream"], row["seq"]))
        if really is not None:
            assert wire.epoch(row["taken_at_corrected"]) == pytest.approx(really, abs=3.0)
            assert not row["time_uncertain"]
