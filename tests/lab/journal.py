"""Exactness: what an agent holds against what the server stored, reading by reading.

The agent's own spool is the judge, told by ``pantau-agent spool``. A reading is named by
(stream, seq) and compared to its last digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent import clock, wire
from agent.spool import Spool, held
from tests.lab.city import Agent, City, spooled
from tests.lab.observer import Observer
from tests.wait import until

Readings = dict[tuple[str, int], Any]
_SERVERS_OWN = {"site", "stream", "received_at", "taken_at_corrected", "time_uncertain"}


def of_agent(agent: Agent) -> Readings:
    """All readings in an agent's spool."""
    return _by_name((row["stream"], row["seq"], row["reading"]) for row in spooled(agent))


def of_server(city: City, site: str) -> Readings:
    """All readings of a site that the server stored."""
    return _by_name(
        (row["stream"], row["seq"], {k: v for k, v in row.items() if k not in _SERVERS_OWN})
        for row in city.rows("readings", site)
    )


def _by_name(rows: Iterable[tuple[str, int, Any]]) -> Readings:
    found: Readings = {}
    for stream, seq, reading in rows:
        assert (stream, seq) not in found, f"twice: {stream} {seq}"
        assert reading["seq"] == seq
        found[stream, seq] = reading
    return found


def assert_settles(
    city: City, observer: Observer, agent: Agent, within_s: float = 120.0
) -> Readings:
    """What the server stored, after showing that it is exactly what the agent took.

    All that the agent holds now must arrive within the time; and nothing may be stored that
    does not stand in its spool, digit by digit. The agent may run on meanwhile.
    """
    spooled_now = {(stream, seq) for stream, seq, _ in held(agent.spool)}
    assert spooled_now, f"{agent.site} holds nothing, so nothing would be shown"
    *_, newest = held(agent.spool)
    until(
        lambda: observer.through(agent.site, newest[0]) >= newest[1],
        within_s,
        f"the ack of {agent.site} for {newest[:2]}",
    )
    until(lambda: spooled_now <= of_server(city, agent.site).keys(), within_s, "older streams")
    theirs, mine = of_server(city, agent.site), of_agent(agent)
    surplus = sorted(theirs.keys() - mine.keys())
    assert not surplus, f"{agent.site}: {len(surplus)} from nowhere, such as {surplus[:5]}"
    other = sorted(name for name in theirs if theirs[name] != mine[name])
    assert not other, f"{agent.site}: other content under {other[:5]}"
    assert not list(city.rows("quarantine")), "something was quarantined"
    return theirs


def fill(agent: Agent, count: int) -> None:
    """Lay a backlog into the spool of an agent that does not run, as if it had measured it."""
    window_s = agent.tables["reading"]["window_s"]
    spool = Spool(agent.spool, 16 << 20, boot=clock.boot_id())
    try:
        for left in range(count, 0, -1):
            spool.append(lambda seq, ago_s=left * window_s: _reading(seq, ago_s, window_s))
    finally:
        spool.close()


def tear(agent: Agent) -> None:
    """Let the end of what was written last never have reached the disk: a power cut.

    Of an agent that was killed this is its last reading, of one that ended in order only the
    mark that says so. Either way a new stream must begin.
    """
    segment = max(agent.spool.glob("*.seg"))
    data = segment.read_bytes()
    end = len(data.rstrip(b"\0")) - 3
    segment.write_bytes(data[:end].ljust(len(data), b"\0"))


def _reading(seq: int, ago_s: float, window_s: float) -> bytes:
    now = clock.uptime_s()
    return wire.encode(
        wire.Reading(
            seq=seq,
            boot=clock.boot_id(),
            taken_at=wire.iso(1_790_000_000 - ago_s),
            uptime_s=round(max(0.0, now - ago_s), 3),
            clock=wire.Clock(synced=False),
            window_s=window_s,
            agent="0.1.0",
            ladder=wire.Ladder(gateway="ok", world="fail", first_failure="world"),
            ping=wire.Ping(gateway=wire.Echoes(sent=11, received=11, rtt_p50_ms=seq / 7)),
        )
    )
