"""How late live state is: one more site, which sends a reading a second and waits for its ack.

Nothing of Pantau is imported here. An ack tells that the reading is committed, and with it the
state that follows from it; ingest sends one a second at most, so that the figure is up to a
second too large.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from pathlib import Path

import paho.mqtt.client as mqtt

SITE = "probe-00001"


class Probe:
    """A site that is never struck by anything. Ends with `close`.

    Attributes:
        late: (when it was sent, seconds until its ack) of each reading, on `time.time`.
    """

    def __init__(self, host: str, port: int, tls: tuple[Path, Path, Path] | None) -> None:
        self.late: list[tuple[float, float]] = []
        self._sent: dict[int, float] = {}
        self._lock = threading.Lock()
        self._stream, self._boot = str(uuid.uuid4()), str(uuid.uuid4())
        self._begun = time.monotonic()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, SITE)
        if tls is not None:
            ca, cert, key = map(str, tls)
            self._client.tls_set(ca, cert, key, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic("acks"), 1)
        self._client.on_message = self._on_message
        self._client.connect(host, port, keepalive=15)
        self._client.loop_start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def between(self, from_at: float, to_at: float) -> list[float]:
        """Seconds until its ack, of each reading sent then; of one not yet acked, up to now."""
        now = time.time()
        with self._lock:
            found = [late for at, late in self.late if from_at <= at < to_at]
            found += [now - at for at in self._sent.values() if from_at <= at < to_at]
        return found

    @staticmethod
    def _topic(leaf: str) -> str:
        return f"pantau/v1/sites/{SITE}/{leaf}"

    def _send(self) -> None:
        seq = 0
        while not self._stop.wait(1.0):
            if not self._client.is_connected():
                continue  # it is the broker that is away, not the state that is late
            seq += 1
            with self._lock:
                self._sent[seq] = time.time()
            self._client.publish(self._topic("readings"), self._reading(seq), qos=1)

    def _reading(self, seq: int) -> bytes:
        uptime_s = round(100 + time.monotonic() - self._begun, 3)
        taken_at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        reading = {
            "seq": seq,
            "boot": self._boot,
            "taken_at": taken_at,
            "uptime_s": uptime_s,
            "clock": {"synced": True},
            "window_s": 60,
            "agent": "0.1.0",
            "ladder": {"gateway": "ok", "isp": "ok", "domestic": "ok", "world": "ok"},
        }
        told = {
            "v": 1,
            "site": SITE,
            "stream": self._stream,
            "sent_boot": self._boot,
            "sent_uptime_s": uptime_s,
            "oldest": 1,
            "readings": [reading],
        }
        return json.dumps(told).encode()

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.retain or not message.payload:
            return
        ack, now = json.loads(message.payload), time.time()
        if ack["stream"] != self._stream:
            return
        with self._lock:
            for seq in [seq for seq in self._sent if seq <= ack["through"]]:
                sent = self._sent.pop(seq)
                self.late.append((sent, now - sent))
