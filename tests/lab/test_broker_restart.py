"""The broker goes and comes back: nobody is called offline for it, and nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.city import City
from tests.lab.crowd import Crowd
from tests.lab.journal import assert_settles, fill, tear
from tests.lab.observer import Observer, Seen
from tests.lab.pki import Authority
from tests.wait import until

REAL = ("maesa-0001", "girian-0002")
LIGHT = tuple(f"light-{number:04}" for number in range(40))
LATE, GONE, HOLED = LIGHT[:8], LIGHT[8], LIGHT[9]
EVERYONE = (*REAL, *LIGHT)
WINDOW_S, CONFIRM_S, LATE_S = 6, 3, 10.0
PATIENCE_S = 2.5 * WINDOW_S
ASK_AGAIN_S = 30.0


def _reached(observer: Observer, sites: Sequence[str], since: float, within_s: float) -> None:
    """Wait until a live reading of each site has gone through the broker."""
    for site in sites:
        until(
            lambda site=site: observer.live_readings(site, since=since),
            within_s,
            f"a live reading of {site}",
        )


def _offline(observer: Observer, since: float) -> list[Seen]:
    """Every verdict of offline since then."""
    states = observer.seen("state/", since=since)
    return [s for s in states if s.body and s.body["status"] == "offline" and not s.retained]


def _absences(city: City) -> list[tuple[float, float]]:
    """When the server says that it was blind."""
    with contextlib.closing(sqlite3.connect(city.database)) as database:
        return database.execute("SELECT from_at, to_at FROM absences ORDER BY from_at").fetchall()


def test_nobody_goes_offline_when_the_broker_restarts_or_is_killed(tmp_path: Path) -> None:
    """Forty-two sites; eight need 10 s to return, which is longer than the confirmation.

    One never returns: it alone is offline, once its 2.5 windows from caught-up are over.
    """
    health = {"offline_confirm_s": CONFIRM_S, "silence_windows": 2.5}
    with (
        City(tmp_path / "city", None, REAL, also=LIGHT, health=health) as city,
        Observer(city.broker) as observer,
        contextlib.ExitStack() as stack,
    ):
        for agent in city.agents.values():
            agent.tables["reading"]["window_s"] = WINDOW_S
            agent.start()
        crowd = Crowd(city.broker, LIGHT, window_s=WINDOW_S, late=LATE, late_s=LATE_S, gone=[GONE])
        crowd.skip(HOLED, 3)  # before it sends anything
        stack.enter_context(crowd)
        _reached(observer, EVERYONE, 0, 60)
        until(lambda: observer.site(HOLED, "acks"), 30, "the ack of the site with a hole")
        back = [site for site in EVERYONE if site != GONE]

        gone_at = _interrupt(city, observer, back, city.broker.stop)
        until(lambda: _offline(observer, gone_at), 3 * PATIENCE_S, "the site that never returned")
        assert {s.topic.rpartition("/")[2] for s in _offline(observer, gone_at)} == {GONE}
        assert {a.body["sites"][0] for a in _alerts(observer)} == {GONE}
        blind_from, blind_to = _absences(city)[-1]
        assert _offline(observer, gone_at)[0].at - blind_to >= PATIENCE_S - 0.5
        assert blind_from <= gone_at <= blind_to

        killed_at = _interrupt(city, observer, back, city.broker.kill9)
        told = {s.topic.rpartition("/")[2] for s in _offline(observer, killed_at)}
        assert told <= {GONE}, "what stands is told again on each connection, and nothing else"
        assert {a.body["sites"][0] for a in _alerts(observer)} == {GONE}
        blind_from, blind_to = _absences(city)[-1]
        assert blind_from <= killed_at <= blind_to
        _assert_asked_once_in_30_s(observer)


def _interrupt(
    city: City, observer: Observer, back: Sequence[str], end: Callable[[], None]
) -> float:
    """Interrupt the broker, wait until all are back and every rash verdict would be out."""
    before = len(city.ingest.lines("caught up after"))
    end()
    at = time.time()
    city.broker.start()
    until(lambda: len(city.ingest.lines("caught up after")) > before, 30, "ingest to catch up")
    _reached(observer, back, at + LATE_S / 2, 60)
    rash_at = at + LATE_S + CONFIRM_S + 2
    until(lambda: time.time() > rash_at, 60, "the time for a false alert")
    return at


def _alerts(observer: Observer) -> list[Seen]:
    return [s for s in observer.seen("alerts/") if s.body is not None]


def _assert_asked_once_in_30_s(observer: Observer) -> None:
    asked = [s for s in observer.site(HOLED, "commands") if s.body["do"] == "resend"]
    assert [s.body["args"]["from"] for s in asked] == [1] * len(asked)
    assert [s.body["args"]["to"] for s in asked] == [3] * len(asked)
    assert asked, "nobody asked for seq 1 to 3"
    for earlier, later in itertools.pairwise(asked):
        assert later.at - earlier.at > ASK_AGAIN_S - 1


def test_what_a_broker_took_and_forgot_is_asked_for_once_or_sent_again(
    tmp_path: Path, authority: Authority
) -> None:
    """Ingest was away, the agent's readings were taken by the broker, the broker forgot them.

    Most of them are of a stream that a power cut had ended: nothing newer shows their absence.
    """
    backlog = 30
    with (
        City(tmp_path / "city", authority, REAL[:1]) as city,
        Observer(city.broker) as observer,
    ):
        (agent,) = city.agents.values()
        fill(agent, 5)
        agent.start()
        assert_settles(city, observer, agent)
        city.ingest.kill9()
        away_at = time.time()
        agent.stop()
        fill(agent, backlog)
        tear(agent)
        agent.start()
        until(lambda: _taken(observer, agent.site, away_at) > backlog, 60, "the broker to take")
        city.broker.kill9()
        city.broker.forget()
        city.broker.start()
        forgot_at = time.time()
        until(
            lambda: len(observer.live_readings(agent.site, since=forgot_at)) > 4,
            60,
            "the agent to be back for longer than it needs to send its backlog",
        )
        city.ingest.start()
        assert len({stream for stream, _ in assert_settles(city, observer, agent)}) == 2
        asked = [s for s in observer.site(agent.site, "commands") if s.body["do"] == "resend"]
        ranges = [(s.body["args"]["from"], s.body["args"]["to"]) for s in asked]
        assert asked, "the server did not have to ask, so this showed nothing"
        assert len(ranges) == len(set(ranges)), ranges


def _taken(observer: Observer, site: str, since: float) -> int:
    """How many readings the broker has taken of a site."""
    return sum(len(s.body["readings"]) for s in observer.site(site, "readings", since=since))
