"""What arrives: gathered into batches, and acknowledged a batch at a time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any

from gmqtt.mqtt.constants import MQTTCommands  # type: ignore[import-untyped]  # it has no types
from gmqtt.mqtt.package import CommandWithMidPacket  # type: ignore[import-untyped]  # the same

from server.mqtt.queue import Arrival, Choose, Message, Queue

_PAUSE_S = 0.005
"""A batch is complete when nothing arrived for this long."""
_MAX_WAITING_BYTES = 96 << 20
"""Payloads taken in but not handed out; beyond it nothing more is read."""
_LARGE_BYTES = 512 << 10
_PART_S = 0.05
"""What is read of a larger packet is handed on when nothing more came for this long."""


class Batch:
    """Messages to be acknowledged together."""

    def __init__(self, source: Incoming, arrived: list[Arrival]) -> None:
        self.messages = [one.message for one in arrived]
        self._numbers = [one.number for one in arrived if one.mid is not None]
        self._source = source


class Incoming:
    """The receiving half of a connection.

    Args:
        client: gmqtt's client, whose messages come here from now on.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        client._package_handler._handle_qos_1_publish_packet = self._take
        client.on_message = self._take_qos_0
        self._loop = asyncio.get_running_loop()
        self._queue = Queue()
        self._unacknowledged: deque[tuple[int, int]] = deque()  # number, packet id; as they came
        self._done: set[int] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._wanted = 1
        self._enough = asyncio.Event()
        self._ended: Exception | None = None

    @property
    def held(self) -> bool:
        """Whether we read nothing just now, because too much waits to be handed out."""
        return not self._room.is_set()

    def opened(self) -> None:
        """The connection stands: from now on read only while there is room.

        gmqtt's reading loop is held, not the transport, which its stream reader
        pauses and resumes by itself. The loop copies what it has of a packet with each
        read, so of a large one it is given ever more at a time. And it takes whole packets
        alone for signs of life; a large one over a slow line would never arrive.
        """
        connection = self._client._connection
        read = connection._protocol.read
        read_at = 0.0
        unfinished_bytes = 0

        async def part(size: int) -> bytes:
            nonlocal read_at
            data: bytes = await read(size)
            read_at = connection._last_data_in = time.monotonic()
            return data

        async def read_when_room(size: int) -> bytes:
            nonlocal unfinished_bytes
            await self._room.wait()
            if connection._last_data_in != read_at:  # a packet was complete since
                unfinished_bytes = 0
            parts = [await part(size)]
            gathered_bytes = len(parts[0])
            with suppress(TimeoutError):
                # At the end of a stream nothing comes, at once and for ever.
                while parts[-1] and _LARGE_BYTES <= unfinished_bytes > gathered_bytes:
                    async with asyncio.timeout(_PART_S):
                        parts.append(await part(size))
                    gathered_bytes += len(parts[-1])
            unfinished_bytes += gathered_bytes
            return b"".join(parts)

        connection._protocol.read = read_when_room

    async def next_batch(
        self, max_messages: int, gather_s: float, choose: Choose | None = None
    ) -> Batch:
        """At least one message; see `Connection.next_batch`."""
        queue = self._queue
        while not queue:
            await self._gather(1, None)
        ends_at = self._loop.time() + (0.0 if queue.waiting else gather_s)
        while len(queue) < max_messages and self._loop.time() < ends_at:
            before = len(queue)
            await self._gather(max_messages, _PAUSE_S)
            if len(queue) == before:
                break
        self._raise_if_ended()
        batch = Batch(self, queue.take(max_messages, choose))
        if queue.payload_bytes <= _MAX_WAITING_BYTES:
            self._room.set()
        return batch

    def acknowledge(self, batch: Batch) -> None:
        """Acknowledge a batch of this connection, in one write.

        PUBACKs go in the order of arrival (MQTT 5, 4.6): what overtook others has to wait for
        them with its own.
        """
        if batch._source is not self or self._ended is not None:
            return
        self._done.update(batch._numbers)
        protocol = self._client._connection._protocol
        version = protocol.proto_ver
        pubacks = []
        while self._unacknowledged and self._unacknowledged[0][0] in self._done:
            number, mid = self._unacknowledged.popleft()
            self._done.remove(number)
            pubacks.append(
                CommandWithMidPacket.build_package(MQTTCommands.PUBACK, mid, False, 0, version)
            )
        if pubacks:
            protocol.write_data(b"".join(pubacks))

    def end(self, err: Exception) -> None:
        """The connection is gone: from now on `next_batch` raises `err`."""
        self._ended = err
        self._enough.set()

    def _take(self, mid: int | None, payload: bytes, topic: str, properties: Any) -> None:
        message = Message(topic, payload, bool(properties["retain"]), time.time())
        number = self._queue.put(mid, message)
        if mid is not None:
            self._unacknowledged.append((number, mid))
        if self._queue.payload_bytes > _MAX_WAITING_BYTES:
            self._room.clear()
        if len(self._queue) >= self._wanted:
            self._enough.set()

    def _take_qos_0(self, _: object, topic: str, payload: bytes, _qos: int, given: Any) -> None:
        self._take(None, payload, topic, given)

    async def _gather(self, wanted: int, timeout_s: float | None) -> None:
        """Return once `wanted` messages wait, or after `timeout_s`."""
        self._raise_if_ended()
        self._wanted = wanted
        self._enough.clear()
        timer = None if timeout_s is None else self._loop.call_later(timeout_s, self._enough.set)
        await self._enough.wait()
        if timer is not None:
            timer.cancel()

    def _raise_if_ended(self) -> None:
        if self._ended is not None:
            raise self._ended
