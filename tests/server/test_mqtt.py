"""The MQTT edge against a real mosquitto: acknowledging, publishing, losing, being refused."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from amqtt.broker import Broker as Amqtt

from server import mqtt
from server.config import Mqtt
from tests.lab.broker import Broker
from tests.lab.pki import Authority

WILL = mqtt.Will("test/will", b"vanished")
TOPIC = "test/in"
WITHIN_S = 30.0


@pytest.fixture(params=["5", "3.1.1"])
def settings(broker: Broker, request: pytest.FixtureRequest) -> Mqtt:
    """A plain connection, once in each version of MQTT."""
    return Mqtt(url=broker.url, version=request.param)


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
        watcher = replace(settings)
        async with mqtt.connect(watcher, "watcher", mqtt.Will("x", b""), ["test/#"]) as watching:
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


# Being refused. Each text names the place and the mend.


def secured(broker: Broker, user: str = "_ingest") -> Mqtt:
    """The login that mutual TLS asks for."""
    paths = {key: Path(value) for key, value in broker.settings(user).items() if key != "url"}
    return Mqtt(url=broker.url, **paths)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_mutual_tls_lets_us_in(tls_broker: Broker, version: str) -> None:
    async def story() -> None:
        settings = replace(secured(tls_broker), version=version)
        async with connected(settings, "pantau/v1/server/ingest") as connection:
            connection.publish("pantau/v1/server/ingest", b"online")
            assert (await hear(connection, 1))[1] == [b"online"]

    run(story)


def test_a_certificate_of_another_authority_is_refused(tls_broker: Broker, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger").client("_ingest")
    settings = replace(secured(tls_broker), cert_file=stranger.cert, key_file=stranger.key)

    async def story() -> None:
        err = await refused(settings)
        assert re.search(r"refused our certificate .*mend mqtt\.cert_file", str(err))
        assert err.permanent

    run(story)


def test_no_certificate_is_refused(tls_broker: Broker) -> None:
    settings = replace(secured(tls_broker), cert_file=None, key_file=None)

    async def story() -> None:
        err = await refused(settings)
        assert re.search(r"refused our certificate .*mend mqtt\.cert_file", str(err))
        assert err.permanent

    run(story)


def test_a_broker_of_another_authority_is_not_trusted(tls_broker: Broker, tmp_path: Path) -> None:
    settings = replace(secured(tls_broker), ca_file=Authority(tmp_path / "stranger").ca)

    async def story() -> None:
        err = await refused(settings)
        assert re.search(r"certificate is not trusted .*mend mqtt\.ca_file", str(err))
        assert err.permanent

    run(story)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("ca_file", r"mqtt\.ca_file: cannot use .*empty"),
        ("cert_file", r"mqtt\.cert_file, mqtt\.key_file: cannot use .*empty"),
        ("password_file", r"mqtt\.password_file: cannot use .*missing.*No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tls_broker: Broker, tmp_path: Path, key: str, text: str
) -> None:
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.touch()
    bad = missing if key == "password_file" else empty
    settings = replace(secured(tls_broker), username="_ingest", **{key: bad})

    async def story() -> None:
        err = await refused(settings)
        assert re.search(text, str(err))
        assert err.permanent

    run(story)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mqtt]:
    """A broker that asks for a password, and the right one."""
    users, password = tmp_path / "users", tmp_path / "password"
    users.touch(mode=0o600)
    password.write_text("secret\n")
    subprocess.run(["mosquitto_passwd", "-b", users, "_ingest", "secret"], check=True)
    extra = [f"password_file {users}", "allow_anonymous false"]
    with Broker(tmp_path / "broker", extra=extra) as broker:
        yield Mqtt(url=broker.url, username="_ingest", password_file=password)


@pytest.mark.parametrize("version", ["auto", "5", "3.1.1"])
def test_a_wrong_password_is_refused_and_the_right_one_lets_in(guarded: Mqtt, version: str) -> None:
    settings = replace(guarded, version=version)
    assert settings.password_file is not None

    async def story() -> None:
        async with connected(settings):
            pass
        assert settings.password_file is not None
        settings.password_file.write_text("guessed\n")
        err = await refused(settings)
        assert re.search(r"login refused .*mend mqtt\.username, mqtt\.password_file", str(err))
        assert err.permanent

    run(story)


def test_a_broker_that_is_not_there_is_named_with_its_port(broker: Broker) -> None:
    broker.kill9()

    async def story() -> None:
        err = await refused(Mqtt(url=broker.url))
        assert f"127.0.0.1:{broker.port}: no broker there" in str(err)
        assert not err.permanent

    run(story)


def test_plain_and_tls_confused_are_told_apart(broker: Broker, tls_broker: Broker) -> None:
    async def story() -> None:
        plain = Mqtt(url=tls_broker.url.replace("mqtts:", "mqtt:"))
        assert "does it expect mqtts://?" in str(await refused(plain))
        tls = replace(secured(tls_broker), url=broker.url.replace("mqtt:", "mqtts:"))
        assert "does it expect mqtt://?" in str(await refused(tls))

    run(story)


# Other brokers.


@asynccontextmanager
async def amqtt() -> AsyncIterator[str]:
    """An embedded amqtt, which speaks only 3.1.1; its URL."""
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listener = {"type": "tcp", "bind": "127.0.0.1:0"}
    broker = Amqtt({"listeners": {"default": listener}, "plugins": anonymous})
    await broker.start()
    try:
        port = broker._servers["default"].instance.sockets[0].getsockname()[1]
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        await broker.shutdown()


@pytest.mark.parametrize("version", ["auto", "3.1.1"])
def test_amqtt_takes_and_brings_messages_over_3_1_1(version: str) -> None:
    async def story() -> None:
        async with amqtt() as url, connected(Mqtt(url=url, version=version)) as connection:
            connection.publish(TOPIC, b"there and back")
            batches, payloads = await hear(connection, 1)
            assert payloads == [b"there and back"]
            connection.acknowledge(batches[0])
            await connection.published()

    run(story)


Answer = Callable[[bytes], bytes]
CLOSE = b"close"


@asynccontextmanager
async def scripted(answer: Answer) -> AsyncIterator[str]:
    """A peer that answers each packet as told, for what no broker here does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while packet := await reader.read(65536):
            reply = answer(packet)
            writer.write(reply.removesuffix(CLOSE))
            if reply.endswith(CLOSE):
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"


CONNECT, SUBSCRIBE, ACCEPTED = 0x10, 0x82, b"\x20\x02\x00\x00"


def test_a_broker_that_answers_no_to_version_5_is_tried_with_3_1_1() -> None:
    versions: list[int] = []

    def answer(packet: bytes) -> bytes:
        if packet[0] == CONNECT:
            versions.append(packet[packet.index(b"MQTT") + 4])
            return ACCEPTED if versions[-1] == 4 else b"\x20\x02\x00\x01" + CLOSE
        return b"\x90\x03" + packet[2:4] + b"\x01" if packet[0] == SUBSCRIBE else b""

    async def story() -> None:
        async with scripted(answer) as url:
            async with connected(Mqtt(url=url)):
                assert versions == [5, 4]
            assert "mqtt.version" in str(await refused(Mqtt(url=url, version="5")))

    run(story)


def test_a_refused_subscription_names_the_topic() -> None:
    def answer(packet: bytes) -> bytes:
        return ACCEPTED if packet[0] == CONNECT else b"\x90\x03" + packet[2:4] + b"\x80"

    async def story() -> None:
        async with scripted(answer) as url:
            err = await refused(Mqtt(url=url, version="3.1.1"))
            assert f"may not subscribe to {TOPIC} (code 128)" in str(err)
            assert err.permanent

    run(story)


def test_a_broker_that_falls_silent_is_given_up() -> None:
    def answer(packet: bytes) -> bytes:
        if packet[0] == CONNECT:
            return ACCEPTED
        return b"\x90\x03" + packet[2:4] + b"\x01" if packet[0] == SUBSCRIBE else b""

    async def story() -> None:
        async with scripted(answer) as url:
            settings = Mqtt(url=url, version="3.1.1", keepalive_s=1)
            async with connected(settings) as connection:
                assert "silent" in await lost(connection)

    run(story)


def test_a_second_client_with_our_id_is_named_as_the_reason() -> None:
    def answer(packet: bytes) -> bytes:
        return b"\x20\x03\x00\x00\x00" if packet[0] == CONNECT else b"\xe0\x01\x8e"

    async def story() -> None:
        async with scripted(answer) as url:
            with pytest.raises(mqtt.Lost, match="another client logged in with our client id"):
                async with connected(Mqtt(url=url, version="5")):
                    pass

    run(story)


def test_a_busy_broker_is_worth_another_try() -> None:
    async def story() -> None:
        async with scripted(lambda _: b"\x20\x02\x00\x03") as url:
            err = await refused(Mqtt(url=url, version="3.1.1"))
            assert "unavailable (code 3)" in str(err)
            assert not err.permanent

    run(story)
