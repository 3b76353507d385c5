"""The simulated fleet through a real broker, seen by another client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agent import wire
from server.config import Mqtt
from server.mqtt import Connection, Message, Will, connect
from server.simulate import Fleet
from server.simulate_site import Act

SITE, OTHER = "girian-07", "maesa-01"
WAIT_S = 30.0
WILL = Will("pantau/v1/server/test", b"{}")

Talk = Callable[[Fleet, Connection, "Ears"], Awaitable[None]]


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


class Ears:
    """What a client hears, in order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.heard: list[Message] = []

    async def next(self, leaf: str, site: str = SITE) -> bytes:
        """The next payload of that topic; what came before it is passed over."""
        topic = wire.site_topic(site, leaf)
        async with asyncio.timeout(WAIT_S):
            while True:
                while self.heard:
                    message = self.heard.pop(0)
                    if message.topic == topic:
                        return message.payload
                batch = await self._connection.next_batch()
                self._connection.acknowledge(batch)
                self.heard += batch.messages

    async def presence(self) -> wire.Presence:
        return wire.decode(wire.Presence, await self.next("presence"), site=SITE)

    async def seqs(self) -> list[int]:
        batch = wire.decode_readings(await self.next("readings"), site=SITE)
        return [good.reading.seq for good in batch.good]


def play(settings: Mqtt, talk: Talk) -> None:
    """Run two sites with windows of 1 s beside a client that hears all of them."""

    async def scene() -> None:
        fleet = Fleet([SITE, OTHER], settings, window_s=1.0)
        topics = [f"{wire.PREFIX}/sites/+/{leaf}" for leaf in ("presence", "readings", "replies")]
        async with connect(settings, "_test", WILL, topics) as connection:
            running = asyncio.create_task(fleet.run())
            try:
                await talk(fleet, connection, Ears(connection))
            finally:
                running.cancel()
                await asyncio.wait({running})

    asyncio.run(scene())


def test_a_site_says_its_presence_and_then_its_readings_in_order(settings: Mqtt) -> None:
    async def talk(fleet: Fleet, _: Connection, ears: Ears) -> None:
        fleet.suffer(Act.POWER_ON, [SITE])
        assert (await ears.presence()).state == "online"
        seen = [await ears.seqs(), await ears.seqs(), await ears.seqs()]
        assert seen == sorted(seen)
        assert seen[-1] == [fleet.sites[SITE].model.last_seq]

    play(settings, talk)


def test_a_cut_brings_the_will_and_its_end_a_new_session_with_the_newest_reading_first(
    settings: Mqtt,
) -> None:
    async def talk(fleet: Fleet, _: Connection, ears: Ears) -> None:
        fleet.suffer(Act.POWER_ON, [SITE])
        hello = await ears.presence()
        await ears.seqs()
        fleet.suffer(Act.CUT, [SITE])
        will = await ears.presence()
        assert (will.session, will.state, will.reason) == (hello.session, "offline", "lost")
        model = fleet.sites[SITE].model
        cut_at = model.last_seq
        async with asyncio.timeout(WAIT_S):
            while model.last_seq < cut_at + 2:
                await asyncio.sleep(0.1)
        fleet.suffer(Act.MEND, [SITE])
        again = await ears.presence()
        assert again.state == "online"
        assert again.session != hello.session
        (newest,) = await ears.seqs()
        assert newest >= cut_at + 2
        assert await ears.seqs() == list(range(1, newest))

    play(settings, talk)


def test_an_ack_releases_what_it_names(settings: Mqtt) -> None:
    async def talk(fleet: Fleet, connection: Connection, ears: Ears) -> None:
        fleet.suffer(Act.POWER_ON, [SITE])
        await ears.seqs()
        model = fleet.sites[SITE].model
        ack = wire.encode(wire.Ack(v=1, stream=model.stream, through=1))
        connection.publish(wire.site_topic(SITE, "acks"), ack, retain=True)
        async with asyncio.timeout(WAIT_S):
            while model.through != 1:
                await asyncio.sleep(0.05)

    play(settings, talk)


def test_a_site_without_power_is_silent_and_returns_with_a_new_boot(settings: Mqtt) -> None:
    async def talk(fleet: Fleet, _: Connection, ears: Ears) -> None:
        fleet.suffer(Act.POWER_ON, [SITE])
        first = await ears.presence()
        await ears.seqs()
        fleet.suffer(Act.POWER_OFF, [SITE])
        assert (await ears.presence()).reason == "lost"
        before = fleet.sites[SITE].model.last_seq
        fleet.suffer(Act.POWER_ON, [OTHER])
        await ears.next("readings", OTHER)
        await ears.next("readings", OTHER)
        assert fleet.sites[SITE].model.last_seq == before
        fleet.suffer(Act.POWER_ON, [SITE])
        back = await ears.presence()
        assert back.boot != first.boot

    play(settings, talk)


def test_the_demo_broker_sends_retained_messages_only_to_who_asked_for_them(
    settings: Mqtt,
) -> None:
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
