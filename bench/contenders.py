"""The subscribers that `bench.clients` compares, each run in a process of its own.

    python -m bench.contenders NAME PORT DATABASE MESSAGES

prints one JSON object: the time and the CPU time from the first message to the
last acknowledgement.
"""

from __future__ import annotations

import asyncio
import json
import queue
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agent.wire import decode_readings, split_site_topic
from server import mqtt
from server.config import Mqtt

FILTER = "pantau/v1/sites/+/readings"
SESSION = "bench-drain"
MAX_BATCH = 1000
Arrived = tuple[int, str, bytes]
"""Packet id, topic and payload of one message."""


class Stored:
    """Readings in SQLite (WAL, synchronous FULL), a batch in one transaction."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute(
            "CREATE TABLE readings (site TEXT, stream TEXT, seq INTEGER, taken_at REAL,"
            " received_at REAL, raw BLOB, UNIQUE (site, stream, seq))"
        )

    def commit(self, batch: list[Arrived]) -> None:
        """Decode, validate, store; durable on return."""
        rows, now = [], time.time()
        for _, topic, payload in batch:
            site, _ = split_site_topic(topic)
            envelope, good, _ = decode_readings(payload, site=site)
            for reading, taken_at, raw in good:
                rows.append((site, envelope.stream, reading.seq, taken_at, now, raw))
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.db.execute("COMMIT")


class Meter:
    """Time and CPU from the first message to the last acknowledgement."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._began: tuple[float, float] | None = None

    def first(self) -> None:
        """Called on every message; only the first counts."""
        if self._began is None:
            self._began = time.monotonic(), _cpu_s()

    def acknowledged(self, messages: int) -> bool:
        """Called after each batch; true when it was the last."""
        self.left -= messages
        return self.left <= 0

    def report(self) -> dict[str, float]:
        """The figures, to be taken at the last acknowledgement."""
        assert self._began is not None
        began, cpu = self._began
        return {
            "seconds": time.monotonic() - began,
            "cpu_s": _cpu_s() - cpu,
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- paho ---------------------------------------------------------------------------------


def _paho(port: int, *, manual_ack: bool) -> Any:
    import paho.mqtt.client as mqtt

    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=SESSION,
        clean_session=False,
        manual_ack=manual_ack,
    )
    client.connect("127.0.0.1", port)
    return client


def paho_bare(port: int, _path: str, meter: Meter) -> dict[str, float]:
    client = _paho(port, manual_ack=False)
    result: list[dict[str, float]] = []

    def on_message(*_: object) -> None:
        meter.first()
        if meter.acknowledged(1):
            result.append(meter.report())
            client.disconnect()

    client.on_message = on_message
    client.loop_forever()
    return result[0]


def paho_batch(port: int, path: str, meter: Meter) -> dict[str, float]:
    client = _paho(port, manual_ack=True)
    stored = Stored(path)
    arrived: queue.SimpleQueue[Arrived] = queue.SimpleQueue()

    def on_message(_client: object, _userdata: object, message: Any) -> None:
        meter.first()
        arrived.put((message.mid, message.topic, message.payload))

    client.on_message = on_message
    client.loop_start()
    while True:
        batch = [arrived.get()]
        while len(batch) < MAX_BATCH and not arrived.empty():
            batch.append(arrived.get())
        stored.commit(batch)
        for mid, _, _ in batch:
            client.ack(mid, 1)
        if meter.acknowledged(len(batch)):
            report = meter.report()
            client.disconnect()
            client.loop_stop()
            return report


# --- gmqtt --------------------------------------------------------------------------------


def gmqtt_public(port: int, path: str, meter: Meter) -> dict[str, float]:
    return asyncio.run(_gmqtt_public(port, path, meter))


async def _gmqtt_public(port: int, path: str, meter: Meter) -> dict[str, float]:
    import gmqtt

    stored, thread = Stored(path), ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    arrived: list[Arrived] = []
    wake = asyncio.Event()
    committed = loop.create_future()

    async def on_message(_c: object, topic: str, payload: bytes, _q: int, _p: object) -> int:
        meter.first()
        arrived.append((0, topic, payload))
        wake.set()
        await committed
        return 0

    client = gmqtt.Client(SESSION, clean_session=False, optimistic_acknowledgement=False)
    client.on_message = on_message
    await client.connect("127.0.0.1", port, version=4)
    while True:
        await wake.wait()
        wake.clear()
        batch, arrived = arrived, []
        done, committed = committed, loop.create_future()
        await loop.run_in_executor(thread, stored.commit, batch)
        done.set_result(None)
        for _ in range(3):  # the waiting handlers, their callbacks, the writes
            await asyncio.sleep(0)
        if meter.acknowledged(len(batch)):
            report = meter.report()
            await client.disconnect()
            return report


def edge_loop(port: int, path: str, meter: Meter) -> dict[str, float]:
    return asyncio.run(_edge(port, path, meter, threaded=False))


def edge_thread(port: int, path: str, meter: Meter) -> dict[str, float]:
    return asyncio.run(_edge(port, path, meter, threaded=True))


async def _edge(port: int, path: str, meter: Meter, *, threaded: bool) -> dict[str, float]:
    stored, thread = Stored(path), ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    settings = Mqtt(url=f"mqtt://127.0.0.1:{port}", version="3.1.1")
    will = mqtt.Will("bench/will", b"")
    async with mqtt.connect(settings, SESSION, will, [FILTER]) as connection:
        meter.first()
        while True:
            batch = await connection.next_batch(MAX_BATCH)
            arrived = [(0, message.topic, message.payload) for message in batch.messages]
            if threaded:
                await loop.run_in_executor(thread, stored.commit, arrived)
            else:
                stored.commit(arrived)
            connection.acknowledge(batch)
            if meter.acknowledged(len(arrived)):
                return meter.report()


CONTENDERS: dict[str, Callable[[int, str, Meter], dict[str, float]]] = {
    "paho-bare": paho_bare,
    "paho-batch": paho_batch,
    "gmqtt-public": gmqtt_public,
    "edge-loop": edge_loop,
    "edge-thread": edge_thread,
}


def main() -> None:
    """Take one turn."""
    name, port, path, messages = sys.argv[1:]
    print(json.dumps(CONTENDERS[name](int(port), path, Meter(int(messages)))))


if __name__ == "__main__":
    main()
