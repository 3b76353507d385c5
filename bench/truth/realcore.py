"""What the real sites find in the core: a door to the broker, a page that answers 204, a resolver.

**What the door changes.** The broker listens on the loopback of the machine, which no namespace
can reach, so bytes are handed over here. A connection of an agent is therefore two. Whatever
happens to one happens to the other, ends as ends and resets as resets; and what does not happen,
as when a line is cut, happens to neither: the broker keeps a half-open connection until 1.5
keepalives are over, and the agent learns it by itself. While the broker refuses, the door is shut,
and who knocks is refused. What remains: the broker sees all agents at one address, 127.0.0.1, and
what it sends to a site that is cut off waits here and not in the broker's kernel (64 kB).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import cast

from bench.truth.realnet import BROKER, RESOLVER, WEB
from tests.lab.net import inside

PORT = 1883
_KNOCK_EVERY_S = 0.2
_PAGE = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_A, _IN = b"\x00\x01", b"\x00\x01"
_TTL_S = 60


class Core:
    """Serves in a thread of its own until `close`.

    Args:
        namespace: the name of the core's.
        broker: host and port, as this machine reaches it.
    """

    def __init__(self, namespace: str, broker: tuple[str, int]) -> None:
        self._namespace = namespace
        self._broker = broker
        self._loop = asyncio.new_event_loop()
        self._doubt = asyncio.Event()
        self._joined: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Every connection ends."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._serve())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    async def _serve(self) -> None:
        page = await asyncio.start_server(_answer_204, sock=self._listen(WEB, 80))
        with inside(self._namespace):
            names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind((RESOLVER, 53))
        resolver, _ = await self._loop.create_datagram_endpoint(_Resolver, sock=names)
        try:
            while True:
                await self._keep_door()
        finally:
            page.close()
            resolver.close()
            for task in self._joined:
                task.cancel()
            if self._joined:
                await asyncio.wait(set(self._joined))
            await asyncio.sleep(0)  # what was aborted is told so

    async def _keep_door(self) -> None:
        """Open it once the broker listens, shut it once the broker refuses."""
        while not await self._broker_listens():
            await asyncio.sleep(_KNOCK_EVERY_S)
        with self._listen(BROKER, PORT) as door:
            self._loop.add_reader(door, self._let_in, door)
            try:
                while await self._broker_listens():
                    await self._doubt.wait()
                    self._doubt.clear()
            finally:
                self._loop.remove_reader(door)

    def _let_in(self, door: socket.socket) -> None:
        # Not start_server: one that is closed loses whom it has just let in.
        with contextlib.suppress(OSError):
            entered, _ = door.accept()
            entered.setblocking(False)
            task = self._loop.create_task(self._join(entered))
            self._joined.add(task)
            task.add_done_callback(lambda done: self._let_out(done, entered))

    def _let_out(self, task: asyncio.Task[None], entered: socket.socket) -> None:
        self._joined.discard(task)
        if task.cancelled():  # before it had begun
            entered.close()

    def _listen(self, address: str, port: int) -> socket.socket:
        with inside(self._namespace):
            listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1024)
        listener.setblocking(False)
        return listener

    async def _broker_listens(self) -> bool:
        try:
            _, far = await asyncio.open_connection(*self._broker)
        except OSError:
            return False
        far.close()
        return True

    async def _join(self, entered: socket.socket) -> None:
        """Hand over all bytes of one connection."""
        here, near = await asyncio.open_connection(sock=entered)
        try:
            there, far = await asyncio.open_connection(*self._broker)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_pass(here, far, near))
                ways.create_task(_pass(there, near, far))
        except (OSError, asyncio.CancelledError):
            near.transport.abort()
        finally:
            self._doubt.set()


async def _pass(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, other: asyncio.StreamWriter
) -> None:
    """Until the source ends or is reset; the same befalls the sink, and MQTT knows no half."""
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except (OSError, asyncio.CancelledError):
        sink.transport.abort()
        other.transport.abort()
    sink.close()
    other.close()


async def _answer_204(asked: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await asked.readuntil(b"\r\n\r\n")
        answer.write(_PAGE)
        await answer.drain()
    answer.close()


class _Resolver(asyncio.DatagramProtocol):
    """Every name has one address (RFC 1035)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.find(b"\0", 12) + 5
        if len(data) < end or end < 17:
            return
        question = data[12:end]
        record = b""
        if question[-4:-2] == _A:
            address = socket.inet_aton(WEB)
            record = b"\xc0\x0c" + _A + _IN + _TTL_S.to_bytes(4, "big") + b"\0\4" + address
        counts = b"\0\1" + (b"\0\1" if record else b"\0\0") + bytes(4)
        self._transport.sendto(data[:2] + b"\x81\x80" + counts + question + record, addr)
