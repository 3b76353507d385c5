"""The demo's own MQTT broker: amqtt in a process of its own, on a free loopback port.

It speaks MQTT 3.1.1 and keeps no queue for absent sessions: enough for a live
show, no broker for a city. It prints its port as its first line and serves until
it is told to end.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

from amqtt.broker import Broker  # type: ignore[import-untyped]  # amqtt ships no py.typed
from amqtt.session import Session  # type: ignore[import-untyped]  # the same

_CONFIG = {
    "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


_KEEPALIVES = 1.5
"""After so many without a packet a connection is given up (MQTT 3.1.1, 3.1.2.10)."""


class StrictBroker(Broker):  # type: ignore[misc]  # untyped base, see above
    """amqtt 0.12.1, made to keep to MQTT 3.1.1 in two places.

    It notices that a client was silent for too long, and does nothing: here the connection is
    closed, and the will published. And it sends every new session what any other session's
    filters match, and walks a dict meanwhile that other sessions change: of forty sites
    that connect at once, eight lost their connection to a RuntimeError. 3.3.1.3
    wants retained messages sent for a session's own subscriptions.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._given_up: set[asyncio.Task[None]] = set()

    async def _initialize_client_session(
        self, reader: Any, writer: Any, *where: Any
    ) -> tuple[Any, Session]:
        handler, session = await super()._initialize_client_session(reader, writer, *where)
        session.keep_alive *= _KEEPALIVES

        def give_up() -> None:
            closing = asyncio.create_task(writer.close())
            self._given_up.add(closing)
            closing.add_done_callback(self._given_up.discard)

        handler.handle_read_timeout = give_up
        return handler, session

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        subscribers = self._subscriptions.get(subscription[0], [])
        if any(subscriber is session for subscriber, _qos in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    broker = StrictBroker(_CONFIG)
    await broker.start()
    listener = broker._servers["default"].instance
    print(listener.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    logging.disable()  # amqtt reports the cancelling of its own loop as an error


def main() -> int:
    """Entry of ``python -m server.demo.broker``."""
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s")
    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
