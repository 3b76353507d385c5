"""The bytes of one connection on their way over a modelled line.

A `Tube` stands between a protocol and its transport, and both see only each other. While
the line is cut, or the process hangs, bytes wait in both directions and the broker holds a
half-open connection, as of a real site; it ends such a connection by its keepalive.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from server.fleet.link import Link, sent_again_s

Deliver = Callable[[bytes], None]


class _Way:
    """One direction, in order."""

    def __init__(self, tube: Tube, deliver: Deliver) -> None:
        self._tube = tube
        self._deliver = deliver
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stuck_s: float | None = None

    def put(self, data: bytes) -> None:
        now_s, tube = tube_time(), self._tube
        if tube.gone:
            return
        held = tube.held(now_s)
        if held and self._stuck_s is None:
            self._stuck_s = now_s
        delay_s = 0.0 if held else tube.link.delay_s(now_s, tube.chance)
        if not held and delay_s == 0.0 and not self._waiting:
            self._deliver(data)
            return
        self._waiting.append((now_s + delay_s, data))
        if not held and self._stuck_s is None:  # else the next retransmission takes it along
            self._wake(self._waiting[0][0])

    def mended(self, at_s: float) -> None:
        """Go on, as soon as TCP tries again."""
        if self._waiting:
            self._wake(at_s if self._stuck_s is None else sent_again_s(self._stuck_s, at_s))

    def thawed(self) -> None:
        """Go on at once: the other end's kernel has taken everything."""
        if self._waiting:
            self._wake(tube_time())

    def _wake(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at_s, self._pass)

    def _pass(self) -> None:
        self._timer = None
        now_s = tube_time()
        if self._tube.held(now_s):
            return
        self._stuck_s = None
        while self._waiting and self._waiting[0][0] <= now_s:
            self._deliver(self._waiting.popleft()[1])
        if self._waiting:
            self._wake(self._waiting[0][0])

    def drop(self) -> None:
        """Nothing of it arrives any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()


def tube_time() -> float:
    """The event loop's clock, which is CLOCK_MONOTONIC."""
    return asyncio.get_running_loop().time()


class Tube:
    """What gmqtt takes for its transport.

    Args:
        link: the line; whoever mends it calls `mended`.
        chance: of loss.
        closed: told when the broker's end of it is closed.
    """

    def __init__(self, link: Link, chance: random.Random, closed: Callable[[Tube], None]) -> None:
        self.link = link
        self.chance = chance
        self.frozen = False
        self._closed = closed
        self.gone = False
        self._end: list[Exception | None] = []

    def join(self, transport: Any, protocol: Any) -> Tube:
        """Stand between the two; the protocol's owner gets this as its transport."""
        self._transport = transport
        self._hear_end = protocol.connection_lost
        self._up = _Way(self, transport.write)
        self._down = _Way(self, protocol.data_received)
        protocol.data_received = self._down.put
        protocol.eof_received = lambda: None  # closes the transport; the end is told below
        protocol.connection_lost = self._lost
        protocol._transport = self
        return self

    def held(self, now_s: float) -> bool:
        """Whether nothing passes now."""
        return self.frozen or self.link.is_cut(now_s)

    def mended(self, at_s: float) -> None:
        """The line passes again: so does what waits, and the end if it came."""
        self._up.mended(at_s)
        self._down.mended(at_s)
        if self.gone:
            asyncio.get_running_loop().call_at(at_s, self._hang_up)
        self._tell_end()

    def freeze(self, frozen: bool) -> None:
        """The process hangs, or goes on."""
        if self.gone:
            return
        self.frozen = frozen
        if not frozen:
            self._up.thawed()
            self._down.thawed()
            self._tell_end()

    def vanish(self) -> None:
        """The device is without power: the broker hears nothing of it, not even an end."""
        self.gone = self.frozen = True
        self._up.drop()
        self._down.drop()
        self._forget_end()

    # What a transport is asked for

    def write(self, data: bytes) -> None:
        self._up.put(data)

    def is_closing(self) -> bool:
        return self.gone or bool(self._transport.is_closing())

    def close(self) -> None:
        self._leave(self._transport.close)

    def abort(self) -> None:
        self._leave(self._transport.abort)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _leave(self, hang_up: Callable[[], None]) -> None:
        """End it; over a cut line the broker does not hear of that before it is mended."""
        if self.gone:
            return
        self.gone = True
        if self.held(tube_time()):
            self._up.drop()
            self._down.drop()
            self._forget_end()
            asyncio.get_running_loop().call_soon(self._hear_end, None)
        else:
            hang_up()

    def _forget_end(self) -> None:
        """That the broker hung up is no news any more to one who is gone."""
        if self._end:
            self._end.clear()
            self._closed(self)

    def _hang_up(self) -> None:
        if not self.held(tube_time()):
            self._transport.abort()

    def _lost(self, err: Exception | None) -> None:
        """The socket is closed, by the broker or by us."""
        if self.gone and self.held(tube_time()):
            self._closed(self)
            return  # whose it was has been told long ago
        self._end.append(err)
        self._tell_end()

    def _tell_end(self) -> None:
        """Once the line passes: over one that is cut nobody hears that the other side hung up."""
        if self._end and not self.held(tube_time()):
            self._closed(self)
            self._hear_end(self._end.pop())
