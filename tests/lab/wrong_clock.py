"""``pantau-agent`` on a device whose clock is wrong by so many seconds, and not synchronised.

    python -m tests.lab.wrong_clock -10800 run --config agent.toml

A namespace cannot shift the wall clock, and the machine's own must stay. So all that the agent
reads of it is shifted in its process: what Python reads, and the kernel's stamps on echoes.
Uptime and monotonic clock are the machine's.
"""

from __future__ import annotations

import sys
import time

from agent import clock
from agent.main import main
from agent.probes.echo import EchoSocket, Reply

_SHIFT_S = int(sys.argv.pop(1))
_time, _time_ns, _receive = time.time, time.time_ns, EchoSocket.receive


def _shifted_receive(self: EchoSocket) -> Reply | None:
    reply = _receive(self)
    return reply and reply._replace(stamp_ns=reply.stamp_ns + _SHIFT_S * 1_000_000_000)


time.time = lambda: _time() + _SHIFT_S
time.time_ns = lambda: _time_ns() + _SHIFT_S * 1_000_000_000
EchoSocket.receive = _shifted_receive  # type: ignore[method-assign]  # that is what this is for
clock.is_synchronised = lambda: False

sys.exit(main())
