"""The processes that drain a persistent session, and how each is measured.

All are measured alike and from outside: from the moment when the TCP connection
to the broker stands to the end. The end of ``mosquitto_sub`` is its exit, that of
bare paho its last message, that of ``pantau ingest`` the commit of the last
reading, as another connection to its database sees it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

SESSION = "_ingest"
READINGS = "pantau/v1/sites/+/readings"
TOPICS = (
    READINGS,
    "pantau/v1/sites/+/presence",
    "pantau/v1/sites/+/replies",
    "pantau/v1/server/ingest/marker",
)
_POLL_S = 0.005
_LIMIT_S = 600.0

_PAHO = """
import json, sys, time
import paho.mqtt.client as mqtt
left, cpu = int(sys.argv[2]), time.process_time()
def on_message(client, userdata, message):
    global left
    left -= 1
    if not left:
        print(json.dumps([time.time(), time.process_time() - cpu]))
        client.disconnect()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, sys.argv[1], clean_session=False)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[3]))
client.loop_forever()
"""


@dataclass(frozen=True)
class Sample:
    """One drain: seconds and CPU seconds, and how busy the machine was at its beginning."""

    seconds: float
    cpu_s: float
    load: float

    def plain(self) -> dict[str, float]:
        """For the file of raw samples."""
        return asdict(self)


def c_command(port: int, count: int) -> list[str]:
    """The C subscriber that does nothing."""
    command = ["mosquitto_sub", "-p", str(port), "-i", SESSION, "-c", "-q", "1"]
    return [*command, "-t", READINGS, "-C", str(count)]


def drain_c(port: int, count: int) -> Sample:
    """mosquitto_sub takes `count` messages and ends."""
    load = os.getloadavg()[0]
    process = subprocess.Popen(c_command(port, count), stdout=subprocess.DEVNULL)
    began = _connected_at(process.pid, port)
    _, status, used = os.wait4(process.pid, 0)
    ended = time.time()
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "mosquitto_sub failed"
    return Sample(ended - began, used.ru_utime + used.ru_stime, load)


def drain_paho(port: int, count: int) -> Sample:
    """Paho as it comes takes `count` messages and ends."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-c", _PAHO, SESSION, str(count), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        began = _connected_at(process.pid, port)
        output, _ = process.communicate(timeout=_LIMIT_S)
    ended, cpu_s = json.loads(output)
    return Sample(ended - began, cpu_s, load)


class Ingest:
    """A running ``pantau ingest`` with its files in `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.database = folder / "pantau.db"
        self._port = port
        self._config = folder / "server.toml"
        self._config.write_text(
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\n[store]\nurl = "sqlite:///{self.database}"\n'
        )
        self._pantau = Path(sys.executable).parent / "pantau"
        self.command = [str(self._pantau), "ingest", "--config", str(self._config)]

    def register(self, sites_csv: str) -> None:
        """Import the registry into a new store."""
        for file in self.folder.glob("pantau.db*"):
            file.unlink()
        table = self.folder / "sites.csv"
        table.write_text(sites_csv)
        command = [self._pantau, "sites", "import", table, "--config", self._config]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        """The service from its connection on; it must end cleanly."""
        with (self.folder / "ingest.log").open("wb") as log:
            process = subprocess.Popen(self.command, stdout=log, stderr=log)
        try:
            _connected_at(process.pid, self._port)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        assert code == 0, f"pantau ingest ended with {code}: see {log.name}"

    def drain(self, readings: int) -> Sample:
        """From its connection until it has committed so many readings."""
        load = os.getloadavg()[0]
        with self.running() as process:
            began, cpu_began = time.time(), cpu_s(process)
            self.committed(readings)
            ended, used = time.time(), cpu_s(process) - cpu_began
        return Sample(ended - began, used, load)

    def committed(self, readings: int) -> None:
        """Return once so many readings are committed; looks without disturbing the writer."""
        deadline = time.monotonic() + _LIMIT_S
        url = f"file:{self.database}?mode=ro"
        with closing(sqlite3.connect(url, uri=True, isolation_level=None)) as db:
            while (db.execute("SELECT max(id) FROM readings").fetchone()[0] or 0) < readings:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"fewer than {readings} readings after {_LIMIT_S:g} s")
                time.sleep(_POLL_S)


def cpu_s(process: psutil.Process) -> float:
    """User and system time of all threads."""
    used = process.cpu_times()
    return used.user + used.system


def _connected_at(pid: int, port: int) -> float:
    """When the process had its connection to the broker."""
    process = psutil.Process(pid)
    while True:
        for connection in process.net_connections("tcp"):
            if connection.raddr and connection.raddr.port == port:
                return time.time()
        time.sleep(_POLL_S)
