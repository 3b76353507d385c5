"""gmqtt's client, as one connection of ours uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gmqtt  # type: ignore[import-untyped]  # gmqtt carries no types

_NEVER_S = 0xFFFF_FFFF
_UNACKNOWLEDGED = 20_000
"""Most messages we take in before we acknowledge (MQTT 5; else the broker's setting counts)."""
Join = Callable[[Any, Any], Any]
"""Takes asyncio's transport and its protocol, and gives what the protocol shall write to."""


class Will(NamedTuple):
    """What the broker publishes, retained and at QoS 1, when we vanish."""

    topic: str
    payload: bytes


class Client(gmqtt.Client):  # type: ignore[misc]  # untyped, so the class is Any
    """gmqtt's client for one connection, without its acknowledging and reconnecting."""

    def __init__(self, client_id: str, will: Will, join: Join | None) -> None:
        self._join = join
        super().__init__(
            client_id,
            clean_session=False,
            session_expiry_interval=_NEVER_S,
            receive_maximum=_UNACKNOWLEDGED,
            will_message=gmqtt.Message(will.topic, will.payload, qos=1, retain=True),
        )

    async def reconnect(self, delay: bool = False) -> None:
        """Nothing: the caller of `connect` decides when to try again."""

    async def _create_connection(self, *args: Any, **more: Any) -> Any:
        """Let `join` stand in between before the first byte is sent."""
        connection = await super()._create_connection(*args, **more)
        if self._join is not None:
            connection._transport = self._join(connection._transport, connection._protocol)
        return connection
