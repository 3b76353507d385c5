"""Whether the server ever acknowledges a reading that is not stored at that moment."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import paho.mqtt.client as mqtt

_TOPIC = "pantau/v1/sites/+/acks"
_MOST_TOLD = 5


class AckWatch:
    """Hears every ack, and looks into the store as it comes.

    An ack that stood retained is passed over: it was looked at when it was published.

    Attributes:
        ahead: acks that told of more than was stored, a line each.
        unread: those that could not be read or looked up, a line each.
    """

    def __init__(self, port: int, database: Path) -> None:
        self.heard = 0
        self.ahead: list[str] = []
        self.unread: list[str] = []
        self._database = database
        self._store: sqlite3.Connection | None = None
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "_acks")
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = lambda client, *_: client.subscribe(_TOPIC, 0)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=15)
        self._client.loop_start()

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def faults(self) -> list[str]:
        """What is wrong, for the books."""
        found = [] if self.heard else ["no ack was heard at all"]
        for what, lines in (
            ("acks ran ahead of the store", self.ahead),
            ("acks could not be held against the store", self.unread),
        ):
            if lines:
                found += [f"{len(lines)} {what}", *lines[:_MOST_TOLD]]
        return found

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.retain or not message.payload:
            return
        self.heard += 1
        try:
            self._look(message)
        except (ValueError, LookupError, TypeError, sqlite3.Error) as err:
            # What leaves this function ends paho's thread, and nothing would be watched any more.
            self.unread.append(f"{message.topic}: {type(err).__name__}: {err}")

    def _look(self, message: mqtt.MQTTMessage) -> None:
        ack = json.loads(message.payload)
        if self._store is None:
            where = f"file:{self._database}?mode=ro"
            self._store = sqlite3.connect(where, uri=True, check_same_thread=False)
        site = message.topic.split("/")[3]
        found = self._store.execute(
            "SELECT 1 FROM readings JOIN streams ON streams.id = stream_id"
            " WHERE site = ? AND stream = ? AND seq = ?",
            (site, ack["stream"], ack["through"]),
        ).fetchone()
        if found is None and ack["through"]:
            self.ahead.append(f"{site}: through {ack['through']} of {ack['stream']}")
