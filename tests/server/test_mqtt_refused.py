"""Being refused by a broker, and other brokers than mosquitto.

Each refusal is one line that names the place and the mend.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from amqtt.broker import Broker as Amqtt

from server import mqtt
from server.config import Mqtt
from tests.lab.broker import SHIPPED, Broker
from tests.lab.pki import Authority
from tests.server.link import TOPIC, connected, hear, lost, refused, run, secured


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
    extra = [f"password_file {users}", "allow_anonymous false", f"acl_file {SHIPPED / 'acl'}"]
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


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_without_a_user_name_the_password_logs_in_our_client_id_as_the_acl_knows_it(
    guarded: Mqtt, version: str
) -> None:
    settings = replace(guarded, username=None, version=version)
    marker = "pantau/v1/server/ingest/marker"

    async def story() -> None:
        async with connected(settings, marker, "pantau/v1/sites/+/readings") as connection:
            connection.publish("pantau/v1/sites/bitung-0123/readings", b"only a device may")
            connection.publish(marker, b"only _ingest may")
            assert (await hear(connection, 1))[1] == [b"only _ingest may"]

    run(story)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_without_passwords_lets_a_name_in(broker: Broker, version: str) -> None:
    async def story() -> None:
        async with connected(Mqtt(url=broker.url, version=version)) as connection:
            connection.publish(TOPIC, b"there and back")
            assert (await hear(connection, 1))[1] == [b"there and back"]

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
