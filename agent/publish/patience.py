"""How long the broker is left alone before it is tried again, and what ends that early.

Rules
 1. A connection that was lost, or did not come about, is tried again after a random time of up
    to 3 s, then 6, 12 … 60; a connection that held begins anew.
 2. A refusal (of our certificate or login, or by us of the broker's certificate) is likely to
    be the same the next time: refusals in a row go on doubling, whatever held between. Each
    costs a handshake, 8 KB: on a metered link they go on to 10 minutes, elsewhere to 60 s.
 3. A broker that hangs up on a login may have refused it: that counts as a refusal after one, else
    by rule 1.
 4. Rule 2 ends at once when a file of the login changes, when the clock is set (a certificate
    can be refused for the date alone), and when `hurry` is called. New settings bring a new one.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import time
from collections.abc import Callable

from agent import schedule
from agent.config import Mqtt

_LOOK_S = 5.0
"""How often it is looked for what ends a wait early."""
_CLOCK_STEP_S = 60
ANEW_S = 600.0
"""How long a connection on which something is refused is kept."""


class Patience:
    """Waits between connections.

    Args:
        mqtt: whose files are watched.
        wake: a descriptor that ends a look.
        over: whether nobody needs another connection.
        metered: whether a handshake is dear.
    """

    def __init__(
        self, mqtt: Mqtt, wake: int, over: Callable[[], bool], *, metered: bool = False
    ) -> None:
        self._files = (mqtt.ca_file, mqtt.cert_file, mqtt.key_file, mqtt.password_file)
        self._wake = wake
        self._over = over
        self._metered = metered
        self._rng = random.Random()  # noqa: S311  # spreads reconnects, no secret
        self._attempt = self._refusals = 0
        self._hurried = False
        self.progress_s = time.monotonic()
        """Until when a broker that refuses was waited for, CLOCK_MONOTONIC."""

    def hurry(self) -> None:
        """For other threads: somebody is there who may have mended what was refused."""
        self._hurried = True
        os.eventfd_write(self._wake, 1)

    def anew(self, since_s: float) -> bool:
        """Whether to leave a connection on which something is refused since then.

        What was mended at the broker shows on a new one: after 10 minutes, or when somebody asks.
        """
        return self._hurried or time.monotonic() - since_s >= ANEW_S

    def wait(self, *, refused: bool | None, held: bool) -> None:
        """Wait after a connection that ended, or did not come about.

        Args:
            refused: by rule 2; None by rule 3.
            held: it lasted; whatever went wrong before is over.
        """
        refused = self._refusals > 0 if refused is None else refused
        delay_s = self._delay_s(refused, held)
        seen, until_s = self._surroundings(), time.monotonic() + delay_s
        while not self._over() and (left_s := until_s - time.monotonic()) > 0:
            select.select([self._wake], [], [], min(left_s, _LOOK_S))
            drain(self._wake)
            if refused:
                self.progress_s = time.monotonic()
            if refused and (self._hurried or self._surroundings() != seen):
                self._refusals = 0
                break
        self._hurried = False

    def _delay_s(self, refused: bool, held: bool) -> float:
        attempt = 0 if held else self._attempt
        self._attempt = attempt + 1
        self._refusals = self._refusals + 1 if refused else 0
        if refused and self._metered:
            return schedule.refused_delay(self._refusals - 1, self._rng)
        if refused:
            return schedule.reconnect_delay(self._refusals - 1, self._rng)
        return schedule.reconnect_delay(attempt, self._rng)

    def _surroundings(self) -> tuple[int, ...]:
        """What changes with the files and with the clock."""
        found = [round((time.time() - time.monotonic()) / _CLOCK_STEP_S)]
        for file in filter(None, self._files):
            try:
                found.append(file.stat().st_mtime_ns)
            except OSError:
                found.append(0)
        return tuple(found)


def drain(wake: int) -> None:
    """Take the notes that woke us."""
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(wake)
