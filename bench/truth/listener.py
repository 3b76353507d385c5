"""An operator at the broker: hears every alert, and keeps it with the time of its receipt."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from bench.truth.ending import Heard

_TOPICS = [("pantau/v1/alerts/#", 1), ("pantau/v1/server/ingest", 1)]
_STORED = "$SYS/broker/store/messages/count"
_RETAINED = "$SYS/broker/retained messages/count"


class Listener:
    """Subscribed with a session that lasts, so that it misses nothing while the broker is away.

    Args:
        record: every alert is written here too, one JSON object a line.
    """

    def __init__(self, port: int, record: Path) -> None:
        self.heard: list[Heard] = []
        self._counts: dict[str, int] = {}
        self.ingest_online = threading.Event()
        self._record = record.open("a")
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "_ops", clean_session=False)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=15)
        self._client.loop_start()

    @property
    def queue_depth(self) -> int | None:
        """Messages that wait at the broker for somebody, as it last said; retained ones apart."""
        if len(self._counts) < 2:
            return None
        return max(0, self._counts[_STORED] - self._counts[_RETAINED])

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
        self._record.close()

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([*_TOPICS, (_STORED, 0), (_RETAINED, 0)])

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        now = time.time()
        if message.topic in (_STORED, _RETAINED):
            self._counts[message.topic] = int(message.payload)
            return
        if not message.payload:
            return
        body: dict[str, Any] = json.loads(message.payload)
        if message.topic.endswith("server/ingest"):
            if body["state"] == "online":
                self.ingest_online.set()
            return
        self.heard.append(Heard(now, body))
        self._record.write(json.dumps({"at": now, "alert": body}) + "\n")
        self._record.flush()
