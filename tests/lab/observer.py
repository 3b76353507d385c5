"""An operator who watches the broker: hears everything, notes when, changes nothing.

It shares no code with the server, so that what it saw can judge the server.
"""

from __future__ import annotations

import contextlib
import json
import time
import zlib
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.lab.broker import Broker
from tests.lab.net import Namespace, inside
from tests.wait import until

_ANSWER_S = 20.0
_PREFIX = "pantau/v1/"
_MAX_BYTES = 256 * 1024


class Seen(NamedTuple):
    """One message as it arrived."""

    at: float
    """Seconds since 1970, the time of receipt."""
    topic: str
    """Without the prefix ``pantau/v1/``."""
    body: Any
    """The JSON, also where it was compressed; None where there is none, or too much."""
    retained: bool
    """It stood there before we subscribed."""


class Observer:
    """Connected and subscribed to everything while the context lasts; comes back by itself.

    Args:
        broker: whom to watch.
        namespace: where to stand; None for this machine's own network.
    """

    def __init__(self, broker: Broker, namespace: Namespace | None = None) -> None:
        self._broker, self._namespace = broker, namespace
        self._seen: list[Seen] = []
        self._subscribed = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="_ops")
        if broker.authority is not None:
            own = broker.authority.client("_ops")
            self._client.tls_set(str(broker.authority.ca), str(own.cert), str(own.key))
        self._client.reconnect_delay_set(0.1, 0.1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        place = inside(self._namespace.name) if self._namespace else contextlib.nullcontext()
        with place:  # the thread is started in there, and stays
            self._client.connect(self._broker.host, self._broker.port, keepalive=10)
            self._client.loop_start()
        until(lambda: self._subscribed, _ANSWER_S, "the operator's subscription")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # Without a circle it goes now, and closes all that it had open.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None
        if kind is not None:
            print("--- the operator saw, besides readings and acks")
            quiet = ("/readings", "/acks", "/marker")
            for seen in [s for s in self._seen if not s.topic.endswith(quiet)][-100:]:
                print(f"{seen.at:.3f} {'R' if seen.retained else ' '} {seen.topic} {seen.body}")

    # What was seen

    def seen(self, start: str, *, since: float = 0.0) -> list[Seen]:
        """All messages on topics that begin with `start`, in the order of arrival."""
        return [s for s in list(self._seen) if s.at >= since and s.topic.startswith(start)]

    def site(self, site: str, leaf: str, *, since: float = 0.0) -> list[Seen]:
        """What was said on ``sites/SITE/LEAF``."""
        return self.seen(f"sites/{site}/{leaf}", since=since)

    def alerts(self, site: str, *, since: float = 0.0) -> list[Seen]:
        """The alerts of a site, each revision once, in the order of their first arrival."""
        found: dict[tuple[str, int], Seen] = {}
        for seen in self.seen("alerts/", since=since):
            if seen.body is not None and site in seen.body["sites"]:
                found.setdefault((seen.body["id"], seen.body["revision"]), seen)
        return list(found.values())

    def states(self, site: str, *, since: float = 0.0) -> list[Seen]:
        """What stood or came on the state topic of a site."""
        return [s for s in self.seen("state/", since=since) if s.topic.endswith(f"/{site}")]

    def through(self, site: str, stream: str) -> int:
        """Up to where a stream was last acknowledged."""
        acks = [s.body["through"] for s in self.site(site, "acks") if s.body["stream"] == stream]
        return acks[-1] if acks else 0

    def live_readings(self, site: str, *, since: float = 0.0) -> list[Seen]:
        """The messages since then that carry a reading taken in the last 5 s before sending."""
        return [
            seen
            for seen in self.site(site, "readings", since=since)
            if seen.body["readings"][-1]["boot"] == seen.body["sent_boot"]
            and seen.body["sent_uptime_s"] - seen.body["readings"][-1]["uptime_s"] < 5
        ]

    # Called by paho, in its thread; an exception would end it

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(f"{_PREFIX}#", qos=1)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed += 1

    def _on_message(self, _c: object, _u: object, message: mqtt.MQTTMessage) -> None:
        topic = message.topic.removeprefix(_PREFIX)
        body = _body(bytes(message.payload))
        self._seen.append(Seen(time.time(), topic, body, message.retain))


def _body(payload: bytes) -> Any:
    with contextlib.suppress(ValueError, zlib.error, RecursionError):
        if payload[:1] == b"x":
            payload = zlib.decompressobj().decompress(payload, _MAX_BYTES + 1)
        return json.loads(payload) if len(payload) <= _MAX_BYTES else None
    return None
