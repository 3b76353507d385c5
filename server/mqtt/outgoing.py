"""What we publish: a queue, and a window of messages that await their PUBACK."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import gmqtt  # type: ignore[import-untyped]  # gmqtt carries no types
from gmqtt.mqtt.package import PublishPacket  # type: ignore[import-untyped]  # the same

_WINDOW = 200
"""Most messages that await their PUBACK, unless the broker allows fewer."""
_REFUSED = 0x80
"""Reason codes of MQTT 5 from here on are refusals."""

_log = logging.getLogger(__name__)


class _Sent(NamedTuple):
    message: gmqtt.Message
    on_published: Callable[[], None] | None


class Outgoing:
    """The publishing half of a connection.

    Args:
        client: gmqtt's client, whose PUBACKs come here from now on.
        failed: told of the exception that an `on_published` raised.
    """

    def __init__(self, client: Any, failed: Callable[[Exception], None]) -> None:
        self._client = client
        client._package_handler._handle_puback_packet = self._on_puback
        self._failed = failed
        self._queue: deque[_Sent] = deque()
        self._in_flight: dict[int, _Sent] = {}
        self._flush_due = False
        self._ended = False
        self._settled = asyncio.Event()
        self._settled.set()

    def publish(
        self, topic: str, payload: bytes, retain: bool, on_published: Callable[[], None] | None
    ) -> None:
        """Queue a message; it is sent, with all that were queued with it, when the loop turns."""
        message = gmqtt.Message(topic, payload, qos=1, retain=retain)
        self._queue.append(_Sent(message, on_published))
        self._settled.clear()
        self._flush_soon()

    async def settled(self) -> None:
        """Return once every message was answered, or none will be any more."""
        await self._settled.wait()

    def end(self) -> None:
        """The connection is gone: send nothing more."""
        self._ended = True
        self._settled.set()

    def _on_puback(self, _cmd: int, packet: bytes) -> None:
        """Take a PUBACK: packet id, and on MQTT 5 perhaps a reason (section 3.4)."""
        mid = int.from_bytes(packet[:2], "big")
        self._client._package_handler.id_generator.free_id(mid)
        sent = self._in_flight.pop(mid, None)
        if sent is None:
            return
        if len(packet) > 2 and packet[2] >= _REFUSED:
            topic = sent.message.topic.decode()
            _log.warning("the broker refused to publish %s (reason 0x%02x)", topic, packet[2])
        elif sent.on_published is not None:
            try:
                sent.on_published()
            except Exception as err:  # gmqtt would swallow it
                self._failed(err)
        if self._queue:
            self._flush_soon()
        elif not self._in_flight:
            self._settled.set()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send what the window allows, in one write."""
        self._flush_due = False
        if self._ended:
            return
        protocol = self._client._connection._protocol
        # gmqtt has one packet id fewer than the broker's Receive Maximum (MQTT 5).
        window = min(_WINDOW, self._client._package_handler.id_generator._max - 1)
        packets = []
        while self._queue and len(self._in_flight) < window:
            sent = self._queue.popleft()
            mid, packet = PublishPacket.build_package(sent.message, protocol)
            self._in_flight[mid] = sent
            packets.append(packet)
        if packets:
            protocol.write_data(b"".join(packets))
