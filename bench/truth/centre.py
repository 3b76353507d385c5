"""The centre that is judged: a real mosquitto, a real `pantau ingest`, and ways to break them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.truth.relay import Relay
from tests.lab.broker import Broker
from tests.lab.process import Service
from tests.wait import until

PANTAU = Path(sysconfig.get_path("scripts")) / "pantau"
_DISK_MB = 512
_START_S = 60.0


class Centre:
    """Broker, relay and ingest in `folder`; the database lies on a small disk of its own.

    Use as a context manager: everything ends on leaving.

    Attributes:
        own_disk: False where mounting is not allowed; then the disk cannot be filled.
        at_broker: a configuration for whoever goes to the broker, not through the relay.

    Args:
        command: `pantau`, as it is installed, or another.
    """

    def __init__(self, folder: Path, command: Path = PANTAU) -> None:
        self.folder = folder
        self._command = str(command)
        self.at_broker = folder / "broker.toml"
        self.broker = Broker(folder / "broker", extra=("sys_interval 1",))
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.database = self.disk / "pantau.db"
        self.own_disk = False
        self.config = folder / "server.toml"

    def __enter__(self) -> Centre:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(self.disk)]
        self.own_disk = subprocess.run(mount, check=False, capture_output=True).returncode == 0
        self.broker.start()
        self.relay = Relay(self.broker.port)
        self.config.write_text(
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{self.relay.port}"\n'
            f'[store]\nurl = "sqlite:///{self.database}"\n'
        )
        self.at_broker.write_text(f'[mqtt]\nurl = "{self.broker.url}"\n')
        command = [self._command, "ingest", "--config", str(self.config)]
        self.ingest = Service("ingest", command, self.folder / "ingest.log")
        return self

    def __exit__(self, *_: object) -> None:
        self.ingest.discard()
        self.relay.close()
        self.broker.__exit__(None, None, None)
        if self.own_disk:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False)

    def pantau(self, *arguments: str) -> str:
        """What a command of `pantau` prints.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        command = [self._command, *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pantau {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def ledger(self) -> list[dict[str, Any]]:
        """Every incident, with its revisions."""
        return [json.loads(line) for line in self.pantau("incidents", "--json").splitlines()]

    def kill_ingest(self) -> int:
        """As a power cut would; gives the process id that it had."""
        pid = self.ingest.pid
        self.ingest.kill9()
        return pid

    def kill_broker(self) -> int:
        """As a power cut would; gives the process id that it had."""
        pid = self.broker.pid
        self.broker.kill9()
        return pid

    def revive(self) -> None:
        """Start what does not run."""
        if not self.broker_runs():
            self.broker.start()
        if self.ingest.running:
            return
        self.ingest.discard()
        self.ingest.start()

    def broker_runs(self) -> bool:
        """Whether there is a broker."""
        try:
            return self.broker.pid > 0
        except AssertionError:
            return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody else holds the database's lock for writing."""
        db = sqlite3.connect(self.database, isolation_level=None, timeout=20)
        until(lambda: self._begin(db), _START_S, "the database's lock")
        try:
            yield
        finally:
            db.execute("ROLLBACK")
            db.close()

    @staticmethod
    def _begin(db: sqlite3.Connection) -> bool:
        with contextlib.suppress(sqlite3.OperationalError):
            db.execute("BEGIN IMMEDIATE")
            return True
        return False

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """The database's disk is full."""
        ballast = self.disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        try:
            yield
        finally:
            ballast.unlink()
