"""What we say of ourselves: this session lives, or has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

import agent
from agent import wire

Reason = Literal["stopped", "upgrade", "reboot"]


@dataclass(frozen=True)
class Here:
    """What presence and envelopes say of this machine and process.

    `problem` is what is wrong with the agent itself, None while nothing is; `clock` is what
    the device takes for the time; `keepalive_s` that of its connections.
    """

    boot: str
    uptime_s: Callable[[], float]
    settings_revision: Callable[[], int | None]
    problem: str | None = None
    clock: Callable[[], float] = time.time
    keepalive_s: int | None = None


def presence(
    site: str,
    here: Here,
    session: str,
    state: Literal["online", "offline"],
    reason: Literal["lost"] | Reason | None = None,
) -> bytes:
    """The payload of a session's presence, or of its will (``reason`` ``lost``)."""
    revision = here.settings_revision()
    return wire.encode(
        wire.Presence(
            v=wire.VERSION,
            site=site,
            state=state,
            session=session,
            at=wire.iso(here.clock()),
            agent=agent.__version__,
            boot=here.boot,
            uptime_s=round(here.uptime_s(), 3),
            settings_revision=UNSET if revision is None else revision,
            reason=UNSET if reason is None else reason,
            problem=here.problem or UNSET,
            keepalive_s=UNSET if here.keepalive_s is None else here.keepalive_s,
        )
    )
