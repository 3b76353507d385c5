"""The demo's own broker keeps to what the demo shows of MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent import wire
from server.config import Mqtt
from server.fleet.fleet import Fleet, in_memory
from server.fleet.story import Event
from server.mqtt import Connection, Message, Will, connect

SITE, OTHER = "girian-07", "maesa-01"
WAIT_S = 30.0
PRESENCE, READINGS = (wire.site_topic(SITE, leaf) for leaf in ("presence", "readings"))
WILL = Will("pantau/v1/server/test", b"{}")

Story = Callable[[Fleet, Connection], Awaitable[None]]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Mqtt]:
    """How to reach the demo's own broker, started as the demo starts it."""
    log = tmp_path / "broker.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "server.demo.broker"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as broker,
    ):
        assert broker.stdout is not None
        port = int(broker.stdout.readline())
        yield Mqtt(url=f"mqtt://127.0.0.1:{port}", version="3.1.1", keepalive_s=5)
        broker.terminate()
    assert broker.returncode == 0
    assert log.read_text() == ""


async def heard_until(connection: Connection, topic: str) -> list[Message]:
    """What is heard until something comes on that topic."""
    heard: list[Message] = []
    async with asyncio.timeout(WAIT_S):
        while topic not in {one.topic for one in heard}:
            batch = await connection.next_batch(max_messages=1)
            connection.acknowledge(batch)
            heard += batch.messages
    return heard


def happens(what: str) -> Event:
    return Event(what, 0.0, None, what, (SITE,))


def presences(heard: list[Message], site: str) -> list[wire.Presence]:
    topic = wire.site_topic(site, "presence")
    return [wire.decode(wire.Presence, one.payload) for one in heard if one.topic == topic]


def played(settings: Mqtt, story: Story) -> None:
    """Play two sites with windows of 1 s beside a client that hears both."""

    async def scene() -> None:
        topics = [f"{wire.PREFIX}/sites/+/{leaf}" for leaf in ("presence", "readings")]
        points = dict.fromkeys((SITE, OTHER), ("ap-1",))
        with in_memory() as spools:
            async with connect(settings, "_test", WILL, topics) as connection:
                fleet = Fleet(
                    points, settings, window_s=1.0, spools=Path(spools), made=lambda *_: None
                )
                lives = asyncio.create_task(fleet.run())
                try:
                    fleet.switch_on(fleet.sites)
                    await story(fleet, connection)
                finally:
                    lives.cancel()
                    await asyncio.wait({lives})

    asyncio.run(scene())


def test_a_site_that_is_silent_for_one_and_a_half_keepalives_is_given_up_and_another_is_not(
    settings: Mqtt,
) -> None:
    async def story(fleet: Fleet, connection: Connection) -> None:
        cut = happens("cable_cut")
        (hello,) = presences(await heard_until(connection, READINGS), SITE)
        fleet.begin(cut)
        meanwhile = await heard_until(connection, PRESENCE)
        (will,) = presences(meanwhile, SITE)
        assert (will.session, will.state, will.reason) == (hello.session, "offline", "lost")
        fleet.end(cut)
        meanwhile += (back := await heard_until(connection, PRESENCE))
        (again,) = presences(back, SITE)
        assert again.state == "online"
        assert again.session != hello.session
        assert "offline" not in {one.state for one in presences(meanwhile, OTHER)}

    played(settings, story)


def test_a_killed_agent_is_missed_at_once_and_its_next_process_speaks_in_a_new_session(
    settings: Mqtt,
) -> None:
    async def story(fleet: Fleet, connection: Connection) -> None:
        killed = happens("agent_killed")
        (hello,) = presences(await heard_until(connection, READINGS), SITE)
        fleet.begin(killed)
        (will,) = presences(await heard_until(connection, PRESENCE), SITE)
        assert (will.session, will.reason) == (hello.session, "lost")
        fleet.end(killed)
        (again,) = presences(await heard_until(connection, PRESENCE), SITE)
        assert (again.state, again.boot) == ("online", hello.boot)
        assert again.session != hello.session

    played(settings, story)


def test_an_ack_releases_what_it_names(settings: Mqtt) -> None:
    async def story(fleet: Fleet, connection: Connection) -> None:
        (*_, last) = await heard_until(connection, READINGS)
        stream = wire.decode_readings(last.payload, site=SITE).envelope.stream
        ack = wire.encode(wire.Ack(v=1, stream=stream, through=1))
        connection.publish(wire.site_topic(SITE, "acks"), ack, retain=True)
        spool = fleet.sites[SITE].box.spool
        assert spool is not None
        async with asyncio.timeout(WAIT_S):
            while spool.streams()[-1].through != 1:
                await asyncio.sleep(0.05)

    played(settings, story)


def test_retained_messages_go_only_to_who_asked_for_them(settings: Mqtt) -> None:
    async def scene() -> None:
        topic = "pantau/v1/server/retained"
        async with connect(settings, "_one", WILL, [topic]) as one:
            one.publish(topic, b"kept", retain=True)
            await one.published()
            async with connect(settings, "_two", WILL, ["pantau/v1/server/other"]) as two:
                two.publish("pantau/v1/server/other", b"mine")
                async with asyncio.timeout(WAIT_S):
                    batch = await two.next_batch()
            assert [message.topic for message in batch.messages] == ["pantau/v1/server/other"]

    asyncio.run(scene())
