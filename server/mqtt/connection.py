"""One connection to the broker, on gmqtt."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import gmqtt  # type: ignore[import-untyped]  # gmqtt carries no types

from server.config import Mqtt
from server.mqtt import login
from server.mqtt.client import Client, Join, Will
from server.mqtt.incoming import Batch, Incoming
from server.mqtt.login import Refused
from server.mqtt.outgoing import Outgoing
from server.mqtt.queue import Choose

_VERSIONS = {"auto": (5, 4), "5": (5,), "3.1.1": (4,)}
_ANSWER_S = 10.0
"""Longest wait for a connection with its CONNACK, and for a SUBACK."""
_OTHER_VERSION_S = 3.0
"""The same while another version can still be tried: amqtt leaves MQTT 5 unanswered."""
_CLOSE_S = 2.0
_REFUSED = 0x80
"""Codes of a SUBACK from here on are refusals."""
_ENDED = {
    0x8B: "the broker is shutting down",
    0x8D: "the broker heard nothing for too long",
    0x8E: "another client logged in with our client id",
}
"""MQTT 5 section 3.14.2.1, those that tell an operator something."""

# What gmqtt has to say arrives here as Lost or Refused, in one line and once.
logging.getLogger("gmqtt").setLevel(logging.CRITICAL + 1)


class Lost(Exception):
    """The connection is gone; the text says why, as far as it is known."""


@asynccontextmanager
async def connect(
    settings: Mqtt,
    client_id: str,
    will: Will,
    topics: Sequence[str],
    *,
    at_most_once: Sequence[str] = (),
    join: Join | None = None,
    secure: ssl.SSLContext | None = None,
) -> AsyncIterator[Connection]:
    """A connection with a persistent session, subscribed to `topics` at QoS 1.

    Args:
        client_id: also the user name, where the settings have none.
        at_most_once: further topics, at QoS 0.
        join: stands between protocol and transport, as a modelled line does.
        secure: what `tls` made of these settings; None: the files are read anew.

    Left without an exception, it ends with a DISCONNECT, and the will stays
    silent. Left by an exception, a cancellation too, it is cut, and the will speaks.

    Raises:
        Refused: it did not come about.
        Lost: it was lost while subscribing.
    """
    connection = await _opened(settings, client_id, will, join, secure)
    try:
        await connection._subscribe(settings, topics, at_most_once)
        yield connection
    except BaseException:
        connection._cut(Lost("cut after an error of ours"))
        raise
    await connection._close()


async def _opened(
    settings: Mqtt,
    client_id: str,
    will: Will,
    join: Join | None,
    secure: ssl.SSLContext | None,
) -> Connection:
    """The first version of MQTT that the broker accepts."""
    *preferred, last = _VERSIONS[settings.version]
    for version in preferred:
        try:
            connection = Connection(client_id, will, join)
            return await connection._open(settings, client_id, version, _OTHER_VERSION_S, secure)
        except Refused as err:
            if not err.other_version:
                raise
    connection = Connection(client_id, will, join)
    return await connection._open(settings, client_id, last, _ANSWER_S, secure)


async def _first_of(*ends: asyncio.Future[Any], within_s: float) -> None:
    await asyncio.wait(ends, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)


class Connection:
    """One connection; `connect` makes it.

    Attributes:
        session_present: the broker had kept our session, and so its queue.
    """

    def __init__(self, client_id: str, will: Will, join: Join | None = None) -> None:
        self.session_present = False
        self._client = client = Client(client_id, will, join)
        self._in = Incoming(client)
        self._out = Outgoing(client, failed=self._finish)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[Exception] = self._loop.create_future()
        self._granted: asyncio.Future[Sequence[int]] = self._loop.create_future()

    async def next_batch(
        self, max_messages: int = 1000, gather_s: float = 0.05, choose: Choose | None = None
    ) -> Batch:
        """What has arrived, at least one message.

        Args:
            max_messages: a batch is no larger, but for what goes along with what `choose` prefers.
            gather_s: while messages keep arriving, wait this long for more.
            choose: what goes first while many wait (see `server.mqtt.queue`); None: as they came.

        Raises:
            Lost: the connection is gone, and with it what was not handed out
                (the broker delivers that again).
        """
        return await self._in.next_batch(max_messages, gather_s, choose)

    def acknowledge(self, batch: Batch) -> None:
        """Acknowledge what `batch` brought; nothing when its connection is gone."""
        self._in.acknowledge(batch)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        on_published: Callable[[], None] | None = None,
    ) -> None:
        """Publish at QoS 1, in order; queued while many others await their PUBACK.

        Args:
            topic: where to.
            payload: what; empty and retained, it clears what stands there.
            retain: the broker keeps it for later subscribers.
            on_published: called on the PUBACK; never when the connection is lost
                before, nor when the broker answers that it refuses (MQTT 5).
                What it raises, `next_batch` raises.
        """
        self._out.publish(topic, payload, retain, on_published)

    def glance(self, topics: Sequence[str]) -> None:
        """Have the broker send what stands retained on `topics`, and nothing that comes later.

        It arrives among the batches, marked as retained, before anything that is published from
        now on comes back.
        """
        self._client.subscribe([gmqtt.Subscription(topic, qos=0) for topic in topics])
        self._client.unsubscribe(list(topics))

    async def published(self) -> None:
        """Return once the broker has answered for all that was published.

        Raises:
            Lost: it no longer can.
        """
        await self._out.settled()
        self._raise_if_ended()

    # What the network brings.

    def _on_connect(self, _: object, session_present: int, _code: int, _properties: object) -> None:
        self.session_present = bool(session_present)

    def _on_subscribe(self, _: object, _mid: int, codes: Sequence[int], _props: object) -> None:
        if not self._granted.done():
            self._granted.set_result(codes)

    def _on_disconnect(self, _: object, packet: object, _error: object = None) -> None:
        """The broker's DISCONNECT, or gmqtt's own empty one once the socket is closed."""
        closed = self._client._connection._protocol.closed
        error = closed.exception() if closed.done() else None
        code = packet[0] if isinstance(packet, bytes) and packet else 0
        text = _ENDED.get(code) or (f"reason 0x{code:02x}" if code else str(error or "closed"))
        lost = Lost(f"the connection to the broker ended: {text}")
        lost.__cause__ = error
        self._finish(lost)

    def _watch(self, keepalive_s: int) -> None:
        """Cut a dead connection: gmqtt would wait until what it cannot send is sent."""
        if self._in.held:  # then it is we who do not listen
            self._client._connection._last_data_in = time.monotonic()
        silent_s = time.monotonic() - self._client._connection._last_data_in
        if silent_s >= 2 * keepalive_s:
            self._cut(Lost(f"the broker was silent for {silent_s:.0f} s"))
        elif not self._end.done():
            self._loop.call_later(keepalive_s / 2, self._watch, keepalive_s)

    # Opening, waiting, ending.

    async def _open(
        self,
        settings: Mqtt,
        client_id: str,
        version: int,
        within_s: float,
        made: ssl.SSLContext | None,
    ) -> Connection:
        host, port = login.address(settings)
        secure = made or login.tls(settings) or False
        user = settings.username or client_id  # a password without a name would not be looked at
        self._client.set_auth_credentials(user, login.password(settings))
        connecting = asyncio.ensure_future(
            self._client.connect(host, port, secure, settings.keepalive_s, version, raise_exc=False)
        )
        try:
            await _first_of(connecting, self._end, within_s=within_s)
            handler = self._client._package_handler
            if handler.has_error:
                raise login.refused(settings, client_id, handler._error._code)
            if self._client._connection_state.protocol_version != version:
                raise login.refused(settings, client_id, code=1)  # gmqtt would go on with another
            if connecting.done():
                connecting.result()
            elif self._end.done():
                raise login.unreached(
                    settings, await login.late_alert(settings) or self._end.result().__cause__
                )
            elif self._client._connection is None:
                raise login.unreached(settings, TimeoutError())
            else:
                raise login.unanswered(settings)
        except BaseException as err:
            self._cut(Lost("not opened"))
            if isinstance(err, OSError):
                raise login.unreached(settings, err) from None
            raise
        finally:
            connecting.cancel()
        self._in.opened()
        self._watch(settings.keepalive_s)
        return self

    async def _subscribe(
        self, settings: Mqtt, topics: Sequence[str], at_most_once: Sequence[str]
    ) -> None:
        wanted = [gmqtt.Subscription(topic, qos=1) for topic in topics]
        wanted += [gmqtt.Subscription(topic, qos=0) for topic in at_most_once]
        self._client.subscribe(wanted)
        await _first_of(self._granted, self._end, within_s=_ANSWER_S)
        self._raise_if_ended()
        if not self._granted.done():
            raise login.unanswered(settings)
        for topic, code in zip([*topics, *at_most_once], self._granted.result(), strict=False):
            if code >= _REFUSED:
                raise login.unsubscribed(settings, topic, code)

    def _raise_if_ended(self) -> None:
        if self._end.done():
            raise self._end.result()

    def _finish(self, end: Exception) -> None:
        if not self._end.done():
            self._end.set_result(end)
            self._in.end(end)
            self._out.end()

    def _cut(self, end: Exception) -> None:
        self._finish(end)
        if self._client._connection is not None:
            self._client._connection._transport.abort()

    async def _close(self) -> None:
        """Say goodbye, and do not wait long for a broker that is dead."""
        if not self._end.done():
            self._out.end()
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._client.disconnect()
        self._cut(Lost("closed by us"))
