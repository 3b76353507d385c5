"""The MQTT edge as its tests use it: one connection, and another client that speaks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from server import mqtt
from server.config import Mqtt
from tests.lab.broker import Broker

WILL = mqtt.Will("test/will", b"vanished")
TOPIC = "test/in"
WITHIN_S = 30.0


class Vanished(Exception):
    """Raised in a story to leave a connection without a goodbye."""


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run one test's story, which must not hang."""
    asyncio.run(asyncio.wait_for(story(), 2 * WITHIN_S))


@asynccontextmanager
async def connected(settings: Mqtt, *topics: str) -> AsyncIterator[mqtt.Connection]:
    """The connection under test: its client id is the server's."""
    async with mqtt.connect(settings, "_ingest", WILL, topics or (TOPIC,)) as connection:
        yield connection


async def say(settings: Mqtt, *payloads: bytes, retain: bool = False, topic: str = TOPIC) -> None:
    """Publish by another client, and return once the broker has all."""
    will = mqtt.Will("test/teller", b"")
    async with mqtt.connect(settings, "teller", will, ["test/nothing"]) as teller:
        for payload in payloads:
            teller.publish(topic, payload, retain=retain)
        await teller.published()


async def hear(connection: mqtt.Connection, count: int) -> tuple[list[mqtt.Batch], list[bytes]]:
    """The next `count` messages."""
    batches: list[mqtt.Batch] = []
    while sum(len(batch.messages) for batch in batches) < count:
        async with asyncio.timeout(WITHIN_S):
            batches.append(await connection.next_batch())
    return batches, [message.payload for batch in batches for message in batch.messages]


async def lost(connection: mqtt.Connection) -> str:
    """Why the connection ended."""
    with pytest.raises(mqtt.Lost) as caught:
        await hear(connection, 1)
    return str(caught.value)


@asynccontextmanager
async def vanishing(settings: Mqtt) -> AsyncIterator[mqtt.Connection]:
    """The connection under test, left without a goodbye."""
    with suppress(Vanished):
        async with connected(settings) as connection:
            yield connection
            raise Vanished


async def refused(settings: Mqtt, *topics: str) -> mqtt.Refused:
    """Why no connection came about: one line."""
    with pytest.raises(mqtt.Refused) as caught:
        async with connected(settings, *topics):
            pass
    assert "\n" not in str(caught.value)
    return caught.value


def secured(broker: Broker, user: str = "_ingest") -> Mqtt:
    """The login that mutual TLS asks for."""
    paths = {key: Path(value) for key, value in broker.settings(user).items() if key != "url"}
    return Mqtt(url=broker.url, **paths)
