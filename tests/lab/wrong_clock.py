"""``pantau-agent`` on a device whose clock is wrong, until somebody sets it.

    python -m tests.lab.wrong_clock SHIFT_FILE run --config agent.toml

The file says by how many seconds it is wrong; 0: it is right, and synchronised. A namespace cannot
shift the wall clock, and the machine's own must stay. So all that the agent reads of it is shifted
in its process: what Python reads, and the kernel's stamps on echoes. Uptime and monotonic clock are
the machine's.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from agent import clock
from agent.main import main
from agent.probes.echo import EchoSocket, Reply

_FILE = Path(sys.argv.pop(1))
_LOOK_EVERY_S = 0.1
_time, _time_ns, _receive = time.time, time.time_ns, EchoSocket.receive
_shift_s = int(_FILE.read_text())


def _follow() -> None:
    global _shift_s  # a clock is what all of a process share
    while True:
        time.sleep(_LOOK_EVERY_S)
        _shift_s = int(_FILE.read_text() or _shift_s)


def _shifted_receive(self: EchoSocket) -> Reply | None:
    reply = _receive(self)
    return reply and reply._replace(stamp_ns=reply.stamp_ns + _shift_s * 1_000_000_000)


time.time = lambda: _time() + _shift_s
time.time_ns = lambda: _time_ns() + _shift_s * 1_000_000_000
EchoSocket.receive = _shifted_receive  # type: ignore[method-assign]  # that is what this is for
clock.is_synchronised = lambda: _shift_s == 0

threading.Thread(target=_follow, daemon=True).start()
sys.exit(main())
