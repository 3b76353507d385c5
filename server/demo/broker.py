"""The demo's own MQTT broker: amqtt in a process of its own, on a free loopback port.

It speaks MQTT 3.1.1, keeps no queue for absent sessions and does not enforce
keepalives: enough for a live show, no broker for a city. It prints its port as
its first line and serves until it is told to end.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from amqtt.broker import Broker  # type: ignore[import-untyped]  # amqtt ships no py.typed
from amqtt.session import Session  # type: ignore[import-untyped]  # the same

_CONFIG = {
    "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


class StrictBroker(Broker):  # type: ignore[misc]  # untyped base, see above
    """amqtt, with retained messages going only to those who subscribed to them.

    Version 0.12.1 sends every new session what any other session's filters
    match, and walks a dict meanwhile that other sessions change: of forty sites
    that connect at once, eight lost their connection to a RuntimeError.
    MQTT 3.1.1 (3.3.1.3) wants them sent for a session's own subscriptions.
    """

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
