"""The watchdog end to end: a real socket of the service manager, and agents that are stuck."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.agent.test_main import WAIT_S, configure, running
from tests.lab.broker import Broker
from tests.lab.net import sh
from tests.wait import until

pytestmark = pytest.mark.slow  # windows of a second, and one agent that waits to connect again


class Manager:
    """Hears what one service says of itself, as systemd would."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0pantau-test-{uuid.uuid4()}")
        self._socket.setblocking(False)
        self.address = self._socket.getsockname().decode().replace("\0", "@", 1)
        self.heard: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def listen(self) -> list[str]:
        """All messages until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(4096).decode())
        return self.heard

    @property
    def fed(self) -> int:
        """How often the watchdog was fed until now."""
        return sum("WATCHDOG=1" in message.splitlines() for message in self.listen())


@pytest.fixture
def manager() -> Iterator[Manager]:
    with Manager() as one:
        yield one


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """A small ext4 of its own, thawed and unmounted at the end."""
    image, place = tmp_path / "card.img", tmp_path / "card"
    place.mkdir()
    sh("truncate", "-s", "16M", str(image))
    sh("mkfs.ext4", "-q", "-F", str(image))
    sh("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", place], check=False, capture_output=True)
        sh("umount", str(place))


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.needs_root
def test_an_agent_that_hangs_in_its_disk_feeds_the_watchdog_no_more_until_it_goes_on(
    tmp_path: Path, broker: Broker, card: Path, manager: Manager
) -> None:
    mqtt = f'url = "{broker.url}"\nkeepalive_s = 2'
    (tmp_path / "well").mkdir()
    well = configure(tmp_path / "well", mqtt)
    text = (well / "agent.toml").read_text().replace("bitung-0123", "bitung-0124")
    (well / "agent.toml").write_text(text)
    with (
        Manager() as other,
        running(well, NOTIFY_SOCKET=other.address),
        running(configure(card, mqtt), NOTIFY_SOCKET=manager.address) as stuck,
    ):
        until(lambda: manager.fed >= 2, WAIT_S, "a watchdog that is fed")
        try:
            sh("fsfreeze", "--freeze", str(card))
            until(lambda: _state(stuck.process.pid) == "D", WAIT_S, "the agent to hang")
            fed, of_the_other = manager.fed, other.fed
            until(lambda: other.fed >= of_the_other + 4, WAIT_S, "four windows of another agent")
            assert manager.fed == fed
        finally:
            sh("fsfreeze", "--unfreeze", str(card))
        until(lambda: manager.fed > fed, WAIT_S, "the watchdog to be fed again")
        assert stuck.end(signal.SIGTERM)[0] == 0


def _mute_broker(listening: socket.socket) -> None:
    """MQTT 3.1.1 that keeps a connection alive for ever and never confirms a reading."""
    replies = {0x10: b"\x20\x02\x00\x00", 0xC0: b"\xd0\x00"}  # CONNACK, PINGRESP
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as stream, contextlib.suppress(IndexError):
                while True:
                    kind = stream.read(1)[0]
                    length = shift = 0
                    while True:
                        byte = stream.read(1)[0]
                        length |= (byte & 0x7F) << shift
                        shift += 7
                        if byte < 0x80:
                            break
                    body = stream.read(length)
                    reply = replies.get(kind & 0xF0, b"")
                    if kind & 0xF0 == 0x80:  # SUBSCRIBE: granted
                        reply = b"\x90\x03" + body[:2] + b"\x01"
                    connection.sendall(reply)


_IMPATIENT = """
import sys
from agent import main, systemd
systemd._STANDSTILL_S = 3.0
sys.exit(main.main())
"""
"""The agent, for which sending stands still after 3 s instead of three minutes."""


def test_an_agent_whose_broker_confirms_nothing_feeds_the_watchdog_no_more(
    tmp_path: Path, manager: Manager
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_mute_broker, args=(listening,), daemon=True).start()
        port = listening.getsockname()[1]
        configure(tmp_path, f'url = "mqtt://127.0.0.1:{port}"\nversion = "3.1.1"\nkeepalive_s = 2')
        log = tmp_path / "agent.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", _IMPATIENT, "run", "--config", tmp_path / "agent.toml"],
                stderr=out,
                env={**os.environ, "NOTIFY_SOCKET": manager.address},
            )
        try:
            until(lambda: b"the watchdog is not fed" in log.read_bytes(), WAIT_S, "the warning")
            fed, heard = manager.fed, len(manager.heard)
            until(lambda: len(manager.listen()) >= heard + 3, WAIT_S, "three more windows")
            assert manager.fed == fed
            assert all("STATUS=" in message for message in manager.heard[heard:])
        finally:
            process.kill()
            process.wait()
        listening.shutdown(socket.SHUT_RDWR)


def test_an_agent_whose_broker_is_away_measures_on_and_feeds_the_watchdog(
    tmp_path: Path, manager: Manager
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        port = refusing.getsockname()[1]
    configure(tmp_path, f'url = "mqtt://127.0.0.1:{port}"')
    log = tmp_path / "agent.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _IMPATIENT, "run", "--config", tmp_path / "agent.toml"],
            stderr=out,
            env={**os.environ, "NOTIFY_SOCKET": manager.address},
        )
    try:
        until(lambda: manager.fed >= 3, WAIT_S, "a watchdog that is fed")
    finally:
        process.kill()
        process.wait()
    assert "Connection refused" in manager.heard[-1]
