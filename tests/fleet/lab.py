"""A few modelled sites at a real broker, and a centre that acknowledges what they send."""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import paho.mqtt.client as mqtt

from agent import wire
from server.config import Mqtt
from server.fleet import worker
from server.fleet.box import Box
from server.fleet.link import Link
from server.fleet.site import BEGINNING, Plight, Site
from server.fleet.story import DEFAULTS, EVENTS, Event
from server.fleet.tube import tube_time
from server.model import Site as Listed
from tests.lab.broker import Broker
from tests.lab.observer import Observer

T = TypeVar("T")
WITHIN_S = 60.0


def site(name: str, **more: Any) -> Listed:
    """A row of the registry."""
    columns = {"name": name, "district": "girian", "isp": "infotek", **more}
    return Listed(id=name, **columns)


def event(name: str, what: str, **more: Any) -> Event:
    """Something that happens, by its default measure."""
    return Event(name, 0.0, None, what, (), DEFAULTS.get(EVENTS[what] or "", 0.0), **more)


class Few:
    """Modelled sites, in an event loop of their own; each waits for its `begin`.

    Args:
        window_s: seconds of one reading.
        keepalive_s: after 1.5 of these the broker gives a silent site up.
        first: what stands against a site at first, where it is not the power.
    """

    def __init__(
        self,
        broker: Broker,
        names: Sequence[str],
        *,
        window_s: float = 1.0,
        keepalive_s: int = 4,
        first: dict[str, Plight] | None = None,
    ) -> None:
        settings = Mqtt(url=broker.url, keepalive_s=keepalive_s)
        # In memory, as by default: on a busy disk each reading may take a second.
        memory = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
        made = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._folder, folder = made, Path(made.name)
        self.made: list[tuple[str, str, int]] = []
        self.sites = {
            name: Site(
                Box(name, Link(name), folder / name, window_s, ("ap-1",), self._note(name)),
                settings,
                (first or {}).get(name, "dark"),
            )
            for name in names
        }
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()

    def _note(self, name: str) -> Callable[[str, int, float, float], None]:
        return lambda stream, seq, *_: self.made.append((name, stream, seq))

    def do(self, deed: Callable[[], T]) -> T:
        """What `deed` gives, done where the sites live."""
        done: Future[T] = Future()

        def now() -> None:
            try:
                done.set_result(deed())
            except Exception as err:
                done.set_exception(err)

        self._loop.call_soon_threadsafe(now)
        return done.result(WITHIN_S)

    def begin(self, *names: str) -> None:
        """Start them."""
        self.do(lambda: [self.sites[name].relieve(BEGINNING) for name in names])

    def strikes(self, name: str, one: Event) -> None:
        """It begins at a site."""
        self.do(lambda: worker.begin(self.sites[name], one, tube_time()))

    def passes(self, name: str, one: Event) -> None:
        """It ends at a site."""
        self.do(lambda: worker.end(self.sites[name], one, tube_time()))

    def unreleased(self, name: str) -> int:
        """How many readings in its spool wait for an ack."""
        spool = self.sites[name].box.spool
        assert spool is not None
        return spool.unreleased

    @contextmanager
    def living(self) -> Iterator[Few]:
        """They live as long as this lasts; a fault of one is raised at the end."""
        faults: list[BaseException] = []
        ready, over = threading.Event(), asyncio.Event()

        async def live() -> None:
            tasks = [asyncio.create_task(one.run()) for one in self.sites.values()]
            ready.set()
            ends = asyncio.create_task(over.wait())
            await asyncio.wait([ends, *tasks], return_when="FIRST_COMPLETED")
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            faults.extend(one for one in ended if isinstance(one, Exception))
            ends.cancel()

        thread = threading.Thread(target=self._runner.run, args=(live(),))
        thread.start()
        ready.wait(WITHIN_S)
        try:
            yield self
        finally:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(over.set)
            thread.join(WITHIN_S)
            self._runner.close()
            self._folder.cleanup()
        assert faults == []


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
