"""Large messages at the MQTT edge: slow lines, a store that takes its time, and what they cost."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from server import mqtt
from server.config import Mqtt
from tests.lab.broker import Broker
from tests.lab.pki import Authority
from tests.server.link import connected, hear, run, say

_KEEPALIVE_S = 3
_LONG_S = 4
"""Of a keepalive that a broker keeps also where it has little of the machine."""
_PART_BYTES, _PART_S = 64 << 10, 0.5
_MIB = 1 << 20


@asynccontextmanager
async def _slow_line(broker: Broker) -> AsyncIterator[Mqtt]:
    """A way to the broker that brings 64 KiB in 0.5 s, and takes at any speed."""
    ends: list[asyncio.StreamWriter] = []

    async def carry(source: asyncio.StreamReader, to: asyncio.StreamWriter, pause_s: float) -> None:
        while data := await source.read(_PART_BYTES):
            to.write(data)
            await to.drain()
            if len(data) > 1000:
                await asyncio.sleep(pause_s)  # the line is what is slow

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, away = await asyncio.open_connection(broker.host, broker.port)
        ends.extend((writer, away))
        await asyncio.gather(
            carry(reader, away, 0), carry(far, writer, _PART_S), return_exceptions=True
        )

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Mqtt(url=f"mqtt://127.0.0.1:{port}", keepalive_s=_KEEPALIVE_S)
    finally:
        for end in ends:
            end.close()
        server.close()


def test_a_message_that_takes_longer_than_the_keepalive_allows_silence_is_taken_in(
    broker: Broker,
) -> None:
    """Cut, it would be delivered anew, from the beginning, for ever: and nothing behind it."""

    async def story() -> None:
        async with _slow_line(broker) as slow, connected(slow) as connection:
            large = b"x" * _MIB  # 8 s
            await say(Mqtt(url=broker.url), large, b"behind")
            _, payloads = await hear(connection, 2)
            assert payloads == [large, b"behind"]

    run(story)


def test_a_store_that_takes_long_is_not_taken_for_a_silent_broker(broker: Broker) -> None:
    async def story() -> None:
        settings = Mqtt(url=broker.url, keepalive_s=_LONG_S)
        async with connected(settings) as connection:
            large = b"x" * (12 * _MIB)
            await say(settings, *[large] * 9, b"behind")
            while connection._in._room.is_set():
                await asyncio.sleep(0.01)
            await asyncio.sleep(3 * _LONG_S)  # nobody asks for a batch
            _, payloads = await hear(connection, 10)
            assert [len(one) for one in payloads] == [12 * _MIB] * 9 + [len(b"behind")]

    run(story)


def test_a_large_message_is_not_copied_with_each_part_of_it_that_arrives(broker: Broker) -> None:
    """16 MiB in parts of 64 KiB would be 2 GiB of copies: two seconds of CPU time for each."""

    async def story() -> None:
        settings = Mqtt(url=broker.url)
        async with connected(settings) as connection:
            protocol = connection._client._connection._protocol
            whole, looked_at = protocol._read_packet, 0

            def count(data: bytes) -> int:
                nonlocal looked_at
                looked_at += len(data)
                done: int = whole(data)
                return done

            protocol._read_packet = count
            size = 16 * _MIB
            await say(settings, b"x" * size, b"behind")
            await hear(connection, 2)
            assert size <= looked_at < 40 * size

    run(story)


def test_a_broker_that_ends_within_a_large_packet_ends_the_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    own = authority.server("IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    listening = socket.create_server(("127.0.0.1", 0))

    def broker() -> None:
        """MQTT 3.1.1, as far as it goes: half of a message, then TLS is ended in order."""
        with listening.accept()[0] as bare, context.wrap_socket(bare, server_side=True) as line:
            line.recv(4096)
            line.sendall(b"\x20\x02\x00\x00")
            subscribe = line.recv(4096)
            line.sendall(b"\x90\x03" + subscribe[2:4] + b"\x01")
            line.sendall(b"\x32\x80\x89\x7a\x00\x01a\x00\x07" + bytes(_MIB))
            with suppress(OSError):
                line.unwrap()

    async def main() -> None:
        port = listening.getsockname()[1]
        settings = Mqtt(f"mqtts://127.0.0.1:{port}", version="3.1.1", ca_file=str(authority.ca))
        async with mqtt.connect(settings, "x", mqtt.Will("w", b""), ["a"]) as link:
            with pytest.raises(mqtt.Lost):
                async with asyncio.timeout(20):
                    await link.next_batch()
            raise mqtt.Lost("as it has to be")

    thread = threading.Thread(target=broker, daemon=True)
    thread.start()
    with listening, pytest.raises(mqtt.Lost, match="as it has to be"):
        asyncio.run(main())
    thread.join(20)
