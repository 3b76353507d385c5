"""The demo's house: a folder with all state, a broker, ingest, and one real agent.

Everything listens on loopback alone. The agent measures this very machine: the
default gateway where there is one, and otherwise only loopback, so that nothing
leaves a machine without a network.
"""

from __future__ import annotations

import asyncio
import csv
import shutil
import tempfile
from pathlib import Path

from server import config
from server.demo.processes import Child, DemoError, command, end, module, start, tail
from server.model import Site
from server.store import StoreError, open_store

THIS_MACHINE = "this-machine"
"""Site id of the real agent."""
WINDOW_S = 2.0
KEEPALIVE_S = 5
CONFIRM_S = 5
"""Longer than an agent waits at first: on a machine so busy that everything stands still for
8 s, connections are lost, and new ones cancel the wills."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "sites.csv"
_START_S = 30.0
_SERVER_TOML = """\
# Shortened, so that an outage is seen within seconds. docs/demo.md explains each.
[mqtt]
url = "mqtt://127.0.0.1:{port}"
version = "3.1.1"
[store]
url = "sqlite://{folder}/pantau.db"
[health]
offline_confirm_s = {confirm_s}
silence_windows = 8
clear_windows = 3
[groups]
# The story is told site by site.
min_sites = 1000
"""
_AGENT_TOML = """\
site = "{site}"
[mqtt]
url = "mqtt://127.0.0.1:{port}"
version = "3.1.1"
keepalive_s = {keepalive_s}
[spool]
path = "{folder}/spool"
max_mb = 8
[reading]
window_s = {window_s:g}
[targets]
gateway = ["127.0.0.3"]
domestic = ["127.0.0.1"]
world = ["127.0.0.2"]
[web]
url = "http://127.0.0.1:{web_port}/generate_204"
"""


class House:
    """The demo's folder and the processes that live in it.

    Args:
        folder: an empty folder that exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_toml = folder / "server.toml"
        self._children: list[Child] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._mishap: asyncio.Future[DemoError] = asyncio.get_running_loop().create_future()

    async def mishap(self) -> None:
        """Wait until a process ends by itself.

        Raises:
            DemoError: it did; names it, with the tail of its log.
        """
        raise await asyncio.shield(self._mishap)

    async def open(self) -> None:
        """Start broker and ingest, and import the registry.

        Raises:
            DemoError: one of them did not come up.
        """
        port = await self._start_broker()
        self._write_configs(port, await _serve_204())
        await self._import_sites()
        await self._start("ingest", [command("pantau"), "ingest", *self._with(self.server_toml)])

    async def start_agent(self) -> None:
        """Start the real agent."""
        toml = self.folder / "agent.toml"
        await self._start("agent", [command("pantau-agent"), "run", *self._with(toml)])

    async def close(self) -> None:
        """End everything, the broker last."""
        for watcher in self._watchers:
            watcher.cancel()
        others = [child for child in self._children if child.name != "broker"]
        await asyncio.gather(*(end(child) for child in others))
        await asyncio.gather(*(end(child) for child in self._children))

    @property
    def settings(self) -> config.Mqtt:
        """How to reach the broker."""
        return self.config.mqtt

    @property
    def config(self) -> config.Config:
        """What ingest was given."""
        return config.load(self.server_toml)

    def sites(self) -> list[Site]:
        """The registry as it was imported."""
        store = open_store(self.config.store.url, create=False)
        try:
            return list(store.sites().values())
        finally:
            store.close()

    def stored(self, site: str) -> list[tuple[str, int, bytes]]:
        """Every stored reading of a site as (stream, seq, JSON text).

        Raises:
            DemoError: the store cannot be read.
        """
        try:
            store = open_store(self.config.store.url, create=False)
            try:
                return [(stream, row.seq, row.body) for stream, row in store.readings(site)]
            finally:
                store.close()
        except StoreError as err:
            raise DemoError(f"the store cannot be read: {err}") from None

    def log_of(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.folder / f"{name}.log"

    async def _start(self, name: str, arguments: list[str], stdout: int | None = None) -> Child:
        child = await start(name, arguments, self.log_of(name), stdout=stdout)
        self._children.append(child)
        self._watchers.append(asyncio.create_task(self._watch(child)))
        return child

    async def _watch(self, child: Child) -> None:
        error = await child.ended()
        if not self._mishap.done():
            self._mishap.set_result(error)

    async def _start_broker(self) -> int:
        child = await self._start("broker", module("server.demo.broker"), asyncio.subprocess.PIPE)
        assert child.process.stdout is not None
        try:
            line = await asyncio.wait_for(child.process.stdout.readline(), _START_S)
            return int(line)
        except (TimeoutError, ValueError):
            raise DemoError(f"the broker did not start: {tail(child.log)}") from None

    def _write_configs(self, port: int, web_port: int) -> None:
        values = {
            "folder": self.folder,
            "port": port,
            "web_port": web_port,
            "site": THIS_MACHINE,
            "window_s": WINDOW_S,
            "keepalive_s": KEEPALIVE_S,
            "confirm_s": CONFIRM_S,
        }
        self.server_toml.write_text(_SERVER_TOML.format(**values), encoding="utf-8")
        agent_toml = self.folder / "agent.toml"
        agent_toml.write_text(_AGENT_TOML.format(**values), encoding="utf-8")

    async def _import_sites(self) -> None:
        registry = self.folder / "sites.csv"
        _copy_registry(EXAMPLE, registry)
        importing = await start(
            "import",
            [command("pantau"), "sites", "import", str(registry), *self._with(self.server_toml)],
            self.log_of("import"),
        )
        try:
            if await importing.process.wait():
                raise DemoError(f"the registry was not imported: {tail(importing.log)}")
        finally:
            await end(importing)

    @staticmethod
    def _with(toml: Path) -> list[str]:
        return ["--config", str(toml)]


def make_folder(keep: Path | None) -> Path:
    """The folder for all state: a temporary one, or a new or empty one to keep.

    Raises:
        DemoError: it cannot be made, or it holds something.
    """
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="pantau-demo-"))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise DemoError(f"--keep {keep}: it is not empty; name a new folder")
    except OSError as err:
        raise DemoError(f"--keep {keep}: {err.strerror}; name another folder") from None
    return keep.resolve()


def remove_folder(folder: Path) -> None:
    """Remove the temporary folder with everything in it."""
    shutil.rmtree(folder, ignore_errors=True)


def _copy_registry(example: Path, copy: Path) -> None:
    """The example registry with this machine as one more site."""
    try:
        rows = list(csv.DictReader(example.read_text(encoding="utf-8").splitlines()))
    except OSError as err:
        raise DemoError(
            f"{example}: {err.strerror}; run the demo from a clone of Pantau (make demo)"
        ) from None
    own = {"site": THIS_MACHINE, "name": "This machine", "district": "Maesa", "isp": "Local"}
    with copy.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows([*rows, own])


async def _serve_204() -> int:
    """A page that answers 204, as long as the demo's event loop runs; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port
