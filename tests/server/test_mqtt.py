"""The MQTT edge against a real mosquitto: taking in, acknowledging, publishing, losing."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from server import mqtt
from server.config import Mqtt
from server.mqtt.queue import WAITING_AT_ONCE
from tests.lab.broker import Broker
from tests.server.link import TOPIC, WILL, connected, hear, lost, run, say, secured, vanishing


@pytest.fixture(params=["5", "3.1.1"])
def settings(broker: Broker, request: pytest.FixtureRequest) -> Mqtt:
    """A plain connection, once in each version of MQTT."""
    return Mqtt(url=broker.url, version=request.param)


# A glance at what stands.


def test_a_glance_brings_what_stands_before_what_comes_back_and_nothing_later(
    settings: Mqtt,
) -> None:
    async def story() -> None:
        topics = [f"test/stands/{number}" for number in range(30)]
        for topic in topics:
            await say(settings, b"old", retain=True, topic=topic)
        async with connected(settings) as connection:
            connection.glance(["test/stands/#"])
            connection.publish(TOPIC, b"marker")
            await connection.published()
            await say(settings, b"new", topic=topics[0], retain=True)
            await say(settings, b"end")
            batches, payloads = await hear(connection, len(topics) + 2)
            messages = [message for batch in batches for message in batch.messages]
            assert payloads == [b"old"] * len(topics) + [b"marker", b"end"]
            assert {one.topic for one in messages[: len(topics)]} == set(topics)
            assert all(one.retain for one in messages[: len(topics)])
        for topic in topics:
            await say(settings, b"", retain=True, topic=topic)

    run(story)


# Receiving and acknowledging.


def test_what_was_not_acknowledged_is_delivered_again_in_order(settings: Mqtt) -> None:
    async def story() -> None:
        async with vanishing(settings) as connection:
            await say(settings, b"1", b"2", b"3")
            assert (await hear(connection, 3))[1] == [b"1", b"2", b"3"]
        async with connected(settings) as connection:
            assert connection.session_present
            batches, payloads = await hear(connection, 3)
            assert payloads == [b"1", b"2", b"3"]
            for batch in batches:
                connection.acknowledge(batch)

    run(story)


def test_what_was_acknowledged_is_not_delivered_again(settings: Mqtt) -> None:
    async def story() -> None:
        async with connected(settings) as connection:
            assert not connection.session_present
            await say(settings, b"1", b"2")
            for batch in (await hear(connection, 2))[0]:
                connection.acknowledge(batch)
        await say(settings, b"3")
        async with connected(settings) as connection:
            assert (await hear(connection, 1))[1] == [b"3"]

    run(story)


def test_an_acknowledgement_on_a_later_connection_is_dropped(settings: Mqtt) -> None:
    async def story() -> None:
        async with vanishing(settings) as connection:
            await say(settings, b"1", b"2")
            old, _ = await hear(connection, 2)
        async with vanishing(settings) as connection:
            await hear(connection, 2)
            for batch in old:
                connection.acknowledge(batch)
        async with connected(settings) as connection:
            assert (await hear(connection, 2))[1] == [b"1", b"2"]

    run(story)


def test_acknowledgements_keep_the_order_of_arrival(tmp_path: Path) -> None:
    async def story(settings: Mqtt) -> None:
        async with connected(settings) as connection:
            await say(settings, *[b"%d" % number for number in range(50)])
            batches, _ = await hear(connection, 50)
            for batch in batches:
                connection.acknowledge(batch)
            connection.publish("test/after", b"")
            await connection.published()

    with Broker(tmp_path, extra=["log_type debug"]) as broker:
        run(lambda: story(Mqtt(url=broker.url)))
        ids = re.findall(r"Received PUBACK from _ingest \(Mid: (\d+)", broker.log.read_text())
    assert len(ids) == 50
    assert ids == sorted(ids, key=int)


def test_who_overtook_is_acknowledged_once_those_before_him_are(settings: Mqtt) -> None:
    """PUBACKs go in the order of arrival: so what overtook is delivered again with the others."""
    count = 2 * WAITING_AT_ONCE
    backlog = [b"%d" % number for number in range(count)]

    def choose(message: mqtt.Message) -> mqtt.Turn:
        return mqtt.Turn(message.payload.decode(), first=message.payload == b"live")

    async def story() -> None:
        async with vanishing(settings) as connection:
            await say(settings, *backlog, b"live")
            while len(connection._in._queue) <= count:
                await asyncio.sleep(0.01)
            batch = await connection.next_batch(choose=choose)
            payloads = [one.payload for one in batch.messages]
            assert payloads == [b"live", *backlog[:WAITING_AT_ONCE]]
            connection.acknowledge(batch)
            connection.publish("test/after", b"")
            await connection.published()
        async with connected(settings) as connection:
            batches, payloads = await hear(connection, count - WAITING_AT_ONCE + 1)
            assert payloads == [*backlog[WAITING_AT_ONCE:], b"live"]
            for batch in batches:
                connection.acknowledge(batch)
            await say(settings, b"end")
            assert (await hear(connection, 1))[1] == [b"end"]

    run(story)


def test_a_batch_is_no_larger_than_asked_for(settings: Mqtt) -> None:
    async def story() -> None:
        async with connected(settings) as connection:
            await say(settings, *[b"%d" % number for number in range(25)])
            sizes = []
            while sum(sizes) < 25:
                batch = await connection.next_batch(max_messages=10)
                sizes.append(len(batch.messages))
            assert max(sizes) <= 10

    run(story)


def test_retained_messages_are_told_from_live_ones(settings: Mqtt) -> None:
    async def story() -> None:
        await say(settings, b"stood there", retain=True)
        async with connected(settings) as connection:
            batches, _ = await hear(connection, 1)
            await say(settings, b"live", retain=True)
            batches += (await hear(connection, 1))[0]
            messages = [message for batch in batches for message in batch.messages]
            assert [(m.payload, m.retain) for m in messages] == [
                (b"stood there", True),
                (b"live", False),
            ]

    run(story)


def test_a_message_of_ten_megabytes_passes_and_those_behind_it_too(settings: Mqtt) -> None:
    async def story() -> None:
        async with connected(settings) as connection:
            await say(settings, b"x" * 10_000_000, b"behind")
            _, payloads = await hear(connection, 2)
            assert [len(payload) for payload in payloads] == [10_000_000, 6]

    run(story)


def test_a_batch_is_bounded_while_large_messages_wait(settings: Mqtt) -> None:
    async def story() -> None:
        async with connected(settings) as connection:
            await say(settings, *[b"x" * 5_000_000] * 20)
            batches, payloads = await hear(connection, 20)
            assert len(payloads) == 20
            sizes = [sum(len(m.payload) for m in batch.messages) for batch in batches]
            assert max(sizes) <= 40_000_000, "32 MiB and what was being read"

    run(story)


def test_messages_at_qos_0_arrive_and_need_no_acknowledgement(settings: Mqtt) -> None:
    async def story() -> None:
        async with connected(settings) as connection:
            port = settings.url.rpartition(":")[2]
            tell = ["mosquitto_pub", "-p", port, "-t", TOPIC, "-q", "0", "-m", "unsure"]
            await asyncio.to_thread(subprocess.run, tell, check=True)
            batches, payloads = await hear(connection, 1)
            assert payloads == [b"unsure"]
            connection.acknowledge(batches[0])
            await say(settings, b"sure")
            assert (await hear(connection, 1))[1] == [b"sure"]

    run(story)


def test_every_property_that_a_device_may_attach_is_read_over(broker: Broker) -> None:
    async def story() -> None:
        async with connected(Mqtt(url=broker.url)) as connection:
            tell = ["mosquitto_pub", "-p", str(broker.port), "-V", "5", "-q", "1", "-t", TOPIC]
            for name, value in {
                "payload-format-indicator": "1",
                "message-expiry-interval": "60",
                "content-type": "text/plain",
                "response-topic": "somewhere",
                "correlation-data": "\N{SNOWMAN}",
            }.items():
                tell += ["-D", "publish", name, value]
            tell += ["-D", "publish", "user-property", "key", "value", "-m", "adorned"]
            await asyncio.to_thread(subprocess.run, tell, check=True)
            assert (await hear(connection, 1))[1] == [b"adorned"]

    run(story)


# Publishing.


def test_five_thousand_messages_are_published_in_order_and_each_is_confirmed(
    settings: Mqtt,
) -> None:
    async def story() -> None:
        expected = [b"%d" % number for number in range(5000)]
        confirmed: list[bytes] = []
        async with connected(settings) as connection:
            for payload in expected:
                connection.publish(
                    TOPIC, payload, on_published=lambda p=payload: confirmed.append(p)
                )
            heard: list[bytes] = []
            while len(heard) < 5000:
                batches, payloads = await hear(connection, 1)
                heard += payloads
                for batch in batches:
                    connection.acknowledge(batch)
            await connection.published()
        assert heard == expected
        assert confirmed == expected

    run(story)


def test_a_broker_that_takes_two_at_a_time_gets_all_in_the_end(tmp_path: Path) -> None:
    async def story(settings: Mqtt) -> None:
        async with connected(settings) as connection:
            for number in range(100):
                connection.publish("test/out", b"%d" % number)
            await connection.published()

    with Broker(tmp_path, extra=["max_inflight_messages 2"]) as broker:
        run(lambda: story(Mqtt(url=broker.url, version="5")))


def test_a_refused_publish_is_logged_and_not_confirmed(
    tls_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        confirmed: list[str] = []
        async with connected(secured(tls_broker)) as connection:
            for topic in ("forbidden/topic", "pantau/v1/server/ingest"):
                connection.publish(topic, b"", on_published=lambda t=topic: confirmed.append(t))
            await connection.published()
        assert confirmed == ["pantau/v1/server/ingest"]

    run(story)
    assert "refused to publish forbidden/topic (reason 0x87)" in caplog.text


def test_a_mistake_in_a_confirmation_surfaces_at_the_next_batch(settings: Mqtt) -> None:
    def mistaken() -> None:
        raise ZeroDivisionError

    async def story() -> None:
        async with connected(settings) as connection:
            connection.publish("test/out", b"", on_published=mistaken)
            with pytest.raises(ZeroDivisionError):
                await hear(connection, 1)

    run(story)


# Ending.


def test_the_will_speaks_after_an_error_and_not_after_a_goodbye(settings: Mqtt) -> None:
    async def story() -> None:
        async with mqtt.connect(settings, "watcher", mqtt.Will("x", b""), ["test/#"]) as watching:
            async with connected(settings):
                pass
            await say(settings, b"after the goodbye", topic="test/said")
            assert (await hear(watching, 1))[1] == [b"after the goodbye"]
            async with vanishing(settings):
                pass
            batches, payloads = await hear(watching, 1)
            assert payloads == [WILL.payload]
            assert batches[0].messages[0].topic == WILL.topic

    run(story)


def test_a_killed_broker_is_noticed_by_who_waits(settings: Mqtt, broker: Broker) -> None:
    async def story() -> None:
        async with connected(settings) as connection:
            waiting = asyncio.ensure_future(lost(connection))
            await asyncio.sleep(0)
            broker.kill9()
            assert "ended" in await waiting
            with pytest.raises(mqtt.Lost):
                await connection.published()

    run(story)
