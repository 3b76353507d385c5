"""The processes that drain a persistent session, and how each is measured.

All are measured alike and from outside: from the moment when the TCP connection
to the broker stands to the end. The end of ``mosquitto_sub`` is its exit, that of
bare paho its last message, that of ``pantau ingest`` the ack (as the agents hear
it) of the last site: it has then decoded, validated, judged and committed all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
_ACKS = "pantau/v1/sites/+/acks"
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

    def drain(self, expected: dict[str, int]) -> Sample:
        """From its connection until `expected`, the last seq of each site, is acknowledged."""
        load = os.getloadavg()[0]
        with acks_heard(self.folder / "acks", self._port) as acks, self.running() as process:
            began, cpu_began = time.time(), cpu_s(process)
            ended = acks.wait_for(expected)
            used = cpu_s(process) - cpu_began
        return Sample(ended - began, used, load)


class Acks:
    """What ``mosquitto_sub`` wrote down about acks, read as it grows."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("rb")
        self._through: dict[str, int] = {}
        self._rest = b""

    def wait_for(self, expected: dict[str, int]) -> float:
        """When the last of `expected` was heard, in seconds since 1970."""
        open_sites = dict(expected)
        deadline = time.monotonic() + _LIMIT_S
        while True:
            heard_at = self._read(open_sites)
            if not open_sites:
                return heard_at
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(open_sites)} sites without their last ack")
            time.sleep(20 * _POLL_S)

    def _read(self, open_sites: dict[str, int]) -> float:
        at = 0.0
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            stamp, topic, payload = line.split(b" ", 2)
            site = topic.split(b"/")[3].decode()
            if json.loads(payload)["through"] >= open_sites.get(site, sys.maxsize):
                del open_sites[site]
                at = float(stamp)
        return at


@contextmanager
def acks_heard(file: Path, port: int) -> Iterator[Acks]:
    """A listener on all acks, in C so that it costs little."""
    command = ["mosquitto_sub", "-p", str(port), "-q", "0", "-R", "-t", _ACKS, "-F", "%U %t %p"]
    with file.open("wb") as output:
        process = subprocess.Popen(command, stdout=output)
    try:
        _connected_at(process.pid, port)
        time.sleep(20 * _POLL_S)  # its SUBSCRIBE
        yield Acks(file)
    finally:
        process.terminate()
        process.wait()


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
