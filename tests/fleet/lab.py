"""A centre that acknowledges what modelled sites send, and rows of their registry."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import paho.mqtt.client as mqtt

from agent import wire
from server.model import Site as Listed
from tests.lab.broker import Broker
from tests.lab.observer import Observer


def site(name: str, **more: Any) -> Listed:
    """A row of the registry."""
    columns = {"name": name, "district": "girian", "isp": "infotek", **more}
    return Listed(id=name, **columns)


class Centre(Observer):
    """Hears everything and acknowledges readings as ingest does: up to the first hole."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.stored: dict[tuple[str, str], set[int]] = {}

    def _on_message(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        super()._on_message(client, data, message)
        place, _, leaf = message.topic.rpartition("/")
        if leaf != "readings":
            return
        name = place.rpartition("/")[2]
        batch = wire.decode_readings(message.payload, site=name)
        assert batch.bad == []
        stored = self.stored.setdefault((name, batch.envelope.stream), set())
        stored |= {good.reading.seq for good in batch.good}
        through = batch.envelope.oldest - 1
        while through + 1 in stored:
            through += 1
        self._say(name, "acks", {"v": 1, "stream": batch.envelope.stream, "through": through}, True)

    def _say(self, name: str, leaf: str, body: dict[str, Any], retain: bool) -> None:
        self._client.publish(wire.site_topic(name, leaf), json.dumps(body), qos=1, retain=retain)

    def command(self, name: str, do: str, **args: Any) -> str:
        """Have a site do something; gives the id under which it answers."""
        asked = str(uuid.uuid4())
        body = {"v": 1, "site": name, "id": asked, "do": do, "args": args}
        self._say(name, "commands", body | {"expires_at": wire.iso(time.time() + 60)}, False)
        return asked

    def reply(self, name: str, asked: str) -> dict[str, Any] | None:
        """What it answered."""
        bodies = [seen.body for seen in self.site(name, "replies")]
        return next((body for body in bodies if body["id"] == asked), None)

    def readings(self, name: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Its readings, in the order of arrival."""
        return [
            one
            for seen in self.site(name, "readings", since=since)
            for one in seen.body["readings"]
        ]

    def said(self, name: str, state: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Its presence, online or offline."""
        seen = self.site(name, "presence", since=since)
        return [one.body for one in seen if one.body["state"] == state]
