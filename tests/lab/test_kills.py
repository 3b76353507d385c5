"""``kill -9`` of every part while readings are under way: in the end, exactly the same readings.

Each agent begins with a backlog in its spool, so that there is something to lose at every
moment. The order and the moments are drawn from a seed, which is printed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import wire
from agent.spool import held
from tests.lab import garbage
from tests.lab.city import Agent, City
from tests.lab.journal import Readings, assert_settles, fill, of_agent, of_server, tear
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.lab.pki import Authority
from tests.wait import until

SITES = ("maesa-0001", "girian-0002")
BACKLOG = 2000
"""For each round of kills; it drains at 400 readings a second and agent."""
PARTS = ("ingest", "agent", "broker")


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_parts_are_killed_while_backlogs_drain_and_nothing_is_lost_or_doubled(
    tmp_path: Path, authority: Authority, rounds: int
) -> None:
    rng = _seeded()
    with (
        City(tmp_path / "city", authority, SITES) as city,
        Observer(city.broker) as observer,
    ):
        for agent in city.agents.values():
            fill(agent, rounds * BACKLOG)
            agent.start()
        order = [part for _ in range(rounds) for part in rng.sample(PARTS, len(PARTS))]
        for part in order:
            _wait_for_progress(observer, city.agents, rng.randint(50, 400), rounds * BACKLOG)
            print(f"killing {part}")
            _kill_and_start(city, part, rng)
        for agent in city.agents.values():
            readings = until(
                lambda a=agent: _beyond(
                    rounds * BACKLOG, assert_settles(city, observer, a, within_s=120)
                ),
                120,
                f"{agent.site} to measure after it was killed",
            )
            assert len({stream for stream, _ in readings}) == 1, "a kill -9 tore a stream"


def _beyond(count: int, readings: Readings) -> Readings | None:
    """The readings, once there are more than these: the first window may begin 10 s late."""
    return readings if len(readings) > count else None


def _seeded() -> random.Random:
    seed = time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)  # noqa: S311  # when to kill is no secret


def _wait_for_progress(
    observer: Observer, agents: dict[str, Agent], count: int, backlog: int
) -> None:
    """Until `count` more readings are acknowledged, while there are more to come."""
    waiting = [
        (agent.site, stream)
        for agent in agents.values()
        for stream in {stream for stream, _, _ in held(agent.spool)}
        if observer.through(agent.site, stream) < backlog
    ]
    assert waiting, "the backlogs are over: this would kill idle parts"

    def through() -> int:
        return sum(observer.through(site, stream) for site, stream in waiting)

    before = through()
    until(lambda: through() >= before + count, 60, f"{count} more acknowledged readings")


def _kill_and_start(city: City, part: str, rng: random.Random) -> None:
    agent = city.agents[rng.choice(SITES)]
    kill: Callable[[], None]
    kill, start = {
        "ingest": (city.ingest.kill9, city.ingest.start),
        "agent": (agent.kill9, agent.start),
        "broker": (city.broker.kill9, city.broker.start),
    }[part]
    kill()
    back_at = time.monotonic() + rng.uniform(0, 1)
    until(lambda: time.monotonic() >= back_at, 5, "the part to be away for a moment")
    start()


def test_mosquitto_is_killed_while_ingest_is_down_and_its_queue_is_not_empty(
    tmp_path: Path, authority: Authority
) -> None:
    backlog = 1000
    with (
        City(tmp_path / "city", authority, SITES[:1]) as city,
        Observer(city.broker) as observer,
    ):
        (agent,) = city.agents.values()
        city.ingest.kill9()
        fill(agent, backlog)
        agent.start()
        until(
            lambda: len(_heard(observer, agent.site)) >= backlog,
            60,
            "the queue to hold the backlog",
        )
        assert not observer.site(agent.site, "acks"), "somebody acknowledged: no queue, no test"
        city.broker.kill9()
        city.broker.start()
        city.ingest.start()
        assert len(assert_settles(city, observer, agent)) > backlog


def _heard(observer: Observer, site: str) -> set[tuple[str, int]]:
    """Which readings of a site went through the broker."""
    messages = [seen.body for seen in observer.site(site, "readings")]
    return {(body["stream"], reading["seq"]) for body in messages for reading in body["readings"]}


def test_a_seq_that_the_server_has_and_a_torn_spool_has_lost_is_never_used_again(
    tmp_path: Path, authority: Authority
) -> None:
    """A power cut tears the last record, though its reading was sent and stored before.

    The same cut took the broker's memory and, for a while, ingest: no ack can tell the agent
    in time what the server has.
    """
    with (
        City(tmp_path / "city", authority, SITES[:1]) as city,
        Observer(city.broker) as observer,
    ):
        (agent,) = city.agents.values()
        agent.start()
        until(lambda: len(observer.site(agent.site, "acks")) >= 3, 30, "three acks")
        _kill_at_rest(agent, observer)
        before = of_agent(agent)
        tear(agent)
        city.ingest.kill9()
        city.broker.kill9()
        city.broker.forget()
        city.broker.start()
        agent.start()
        until(lambda: len(_names(agent)) > len(before), 30, "two readings that nobody stores")
        *_, (stream, seq, _) = held(agent.spool)
        city.ingest.start()
        until(lambda: observer.through(agent.site, stream) >= seq, 60, "the ack of these two")
        agent.kill9()
        after, stored = of_agent(agent), of_server(city, agent.site)
        twice = [name for name in before.keys() & after.keys() if before[name] != after[name]]
        assert not twice, f"these stand for two readings: {twice}"
        assert (stream, seq) in stored
        taken = {**after, **before}
        assert all(stored[name] == taken[name] for name in stored)
        assert before.keys() & stored.keys() - after.keys(), "the torn reading was not stored"
        assert not list(city.rows("quarantine"))


def _kill_at_rest(agent: Agent, observer: Observer) -> None:
    """Kill it while the server has all that it holds."""

    def rests() -> bool:
        os.kill(agent.pid, signal.SIGSTOP)
        stream, seq, _ = list(held(agent.spool))[-1]
        if observer.through(agent.site, stream) >= seq:
            return True
        os.kill(agent.pid, signal.SIGCONT)
        return False

    until(rests, 30, "a moment in which all is stored")
    agent.kill9()


def _names(agent: Agent) -> set[tuple[str, int]]:
    """Which readings an agent holds."""
    return {(stream, seq) for stream, seq, _ in held(agent.spool)}


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["ingest", "agent"])
def test_a_part_is_killed_again_and_again_without_a_pause(
    tmp_path: Path, authority: Authority, victim: str
) -> None:
    """The same part, eight times in a row, at moments that have nothing to do with its work."""
    rng = _seeded()
    with (
        City(tmp_path / "city", authority, SITES[:1]) as city,
        Observer(city.broker) as observer,
    ):
        (agent,) = city.agents.values()
        fill(agent, BACKLOG)
        agent.start()
        until(lambda: observer.site(agent.site, "acks"), 30, "the first ack")
        service = {"ingest": city.ingest, "agent": agent}[victim]
        for _ in range(8):
            service.kill9()
            service.start()
            alive_until = time.monotonic() + rng.uniform(0.2, 1.5)
            until(lambda end=alive_until: time.monotonic() >= end, 5, "the next kill")
        readings = assert_settles(city, observer, agent)
        assert len(readings) >= BACKLOG


def test_what_ingest_holds_and_has_not_committed_is_delivered_again_after_its_death(
    tmp_path: Path, authority: Authority
) -> None:
    """The database is locked, so that ingest holds readings which it cannot commit.

    Whoever sent them is gone and sends nothing again: only the broker still has them.
    """
    site = garbage.SITE
    with (
        City(tmp_path / "city", authority, [], also=[site]) as city,
        contextlib.closing(sqlite3.connect(city.database, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with Peer(city.broker, site) as sender:
            for seq in range(1, 51):
                payload = garbage.message(garbage.reading(seq))
                sender.publish(wire.site_topic(site, "readings"), payload)
        city.ingest.wait_for("locked", "trying again", within_s=60)
        city.ingest.kill9()
        other.execute("ROLLBACK")
        city.ingest.start()
        city.at_work()
        with Observer(city.broker) as observer, Peer(city.broker, site) as sender:
            last = garbage.message(garbage.reading(1), stream=_LAST)
            sender.publish(wire.site_topic(site, "readings"), last)
            until(lambda: observer.through(site, _LAST), 30, "a reading behind all others")
        stored = {seq for stream, seq in of_server(city, site) if stream == garbage.STREAM}
        assert stored == set(range(1, 51))


_LAST = "33333333-3333-4333-8333-333333333333"
