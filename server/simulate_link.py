"""A simulated line, and what an agent's probes would see through it in one window.

Pure: the numbers come from the caller's random source, the time from ``now``.
They are those of a city hotspot in eastern Indonesia: Jakarta at 30 to 60 ms,
Singapore behind it, and evenings that are busier than mornings.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TypedDict

import msgspec

from agent import wire

ECHOES_PER_S = 10
"""More than a real agent sends, so that a window of 2 s is enough to judge loss."""
_BUSIEST_UTC_H = 12.5
"""Half past eight in the evening, WITA."""
_TIMES_MS: dict[wire.EchoRung, tuple[float, float]] = {
    "gateway": (0.5, 1.8),
    "isp": (4.0, 11.0),
    "domestic": (30.0, 58.0),
    "world": (64.0, 98.0),
}


@dataclass(slots=True)
class Line:
    """The state of a site's line to its ISP.

    Attributes:
        loss_ratio: share of echoes lost beyond the ISP.
        silences: cuts as (from, to), seconds since 1970; ``to`` is None while cut.
    """

    loss_ratio: float = 0.0
    silences: list[tuple[float, float | None]] = field(default_factory=list)

    @property
    def is_cut(self) -> bool:
        """Whether nothing passes now."""
        return bool(self.silences) and self.silences[-1][1] is None

    def cut(self, now: float) -> None:
        """Nothing passes from `now` on."""
        if not self.is_cut:
            self.silences.append((now, None))

    def mend(self, now: float) -> None:
        """Everything passes again from `now` on."""
        if self.is_cut:
            self.silences[-1] = (self.silences[-1][0], now)

    def within(self, start: float, end: float) -> list[tuple[float, float | None]]:
        """The silences that touch a window, and forget those before it."""
        self.silences = [one for one in self.silences if one[1] is None or one[1] > start]
        return [one for one in self.silences if one[0] < end]


class Measured(TypedDict, total=False):
    """The fields of a reading that depend on the line and the hour."""

    ladder: wire.Ladder
    ping: wire.Ping
    dead: list[wire.Dead]
    dns: wire.Dns
    web: wire.Web
    ntp: wire.Ntp
    links: dict[str, wire.Link]
    clients: wire.Clients
    host: wire.Host


def busy(now: float) -> float:
    """How busy the city is, from 0 (early morning) to 1 (evening)."""
    hour = now / 3600 % 24
    return 0.5 + 0.5 * math.cos((hour - _BUSIEST_UTC_H) / 24 * 2 * math.pi)


def measure(line: Line, rng: random.Random, *, now: float, window_s: float, site: str) -> Measured:
    """What the window that ends at `now` shows at a site."""
    silences = line.within(now - window_s, now)
    echoes = {
        rung: _echoes(rung, line, silences, rng, now=now, window_s=window_s, site=site)
        for rung in wire.ECHO_RUNGS
    }
    upstream_ok = bool(echoes["isp"].received)
    clients = round(4 + 30 * busy(now) * rng.uniform(0.8, 1.2))
    return Measured(
        ladder=_ladder(echoes, upstream_ok=upstream_ok),
        ping=wire.Ping(**echoes),
        dead=_dead(silences, now),
        dns=_dns(rng, ok=upstream_ok),
        web=_web(rng, ok=upstream_ok),
        links={"eth0": _link(rng, clients if upstream_ok else 0)},
        clients=wire.Clients(associated=clients, active=round(clients * 0.7), source="simulated"),
        host=_host(rng),
    )


def _echoes(
    rung: wire.EchoRung,
    line: Line,
    silences: list[tuple[float, float | None]],
    rng: random.Random,
    *,
    now: float,
    window_s: float,
    site: str,
) -> wire.Echoes:
    sent = round(window_s * ECHOES_PER_S)
    loss_ratio = line.loss_ratio if rung in ("domestic", "world") else 0.0
    base_ms = random.Random(f"{site} {rung}").uniform(*_TIMES_MS[rung])  # noqa: S311 - plausible numbers, no secret
    times_ms: list[float] = []
    for echo in range(sent):
        at = now - window_s + (echo + 0.5) * window_s / sent
        silent = rung != "gateway" and any(
            start <= at and (end is None or at < end) for start, end in silences
        )
        if not silent and rng.random() >= loss_ratio:
            times_ms.append(base_ms * (1 + rng.expovariate(25 - 15 * busy(now))))
    if not times_ms:
        return wire.Echoes(sent=sent, received=0, loss_ratio=1.0)
    times_ms.sort()
    p95_ms = times_ms[min(len(times_ms) - 1, math.ceil(0.95 * len(times_ms)) - 1)]
    return wire.Echoes(
        sent=sent,
        received=len(times_ms),
        loss_ratio=round(1 - len(times_ms) / sent, 4),
        rtt_min_ms=round(times_ms[0], 2),
        rtt_p50_ms=round(times_ms[(len(times_ms) - 1) // 2], 2),
        rtt_p95_ms=round(p95_ms, 2),
        rtt_max_ms=round(times_ms[-1], 2),
        pdv_p95_ms=round(p95_ms - times_ms[0], 2),
    )


def _ladder(echoes: dict[wire.EchoRung, wire.Echoes], *, upstream_ok: bool) -> wire.Ladder:
    rungs: dict[wire.Rung, wire.Verdict] = {"carrier": "ok"}
    rungs |= {rung: "ok" if echoes[rung].received else "fail" for rung in wire.ECHO_RUNGS}
    rungs |= dict.fromkeys(("dns", "web"), "ok" if upstream_ok else "fail")
    failing = [rung for rung in wire.RUNGS if rungs[rung] == "fail"]
    ladder = msgspec.convert(rungs, wire.Ladder)
    return msgspec.structs.replace(ladder, first_failure=failing[0]) if failing else ladder


def _dead(silences: list[tuple[float, float | None]], now: float) -> list[wire.Dead]:
    """The edges as the window that ends at `now` can know them."""
    return [
        wire.Dead(
            rung=rung,
            start=wire.iso(start),
            end=wire.iso(end) if end is not None and end <= now else None,
        )
        for start, end in silences
        for rung in wire.ECHO_RUNGS
        if rung != "gateway"
    ]


def _dns(rng: random.Random, *, ok: bool) -> wire.Dns:
    return wire.Dns(ok=True, time_ms=round(rng.uniform(8, 30), 1)) if ok else wire.Dns(ok=False)


def _web(rng: random.Random, *, ok: bool) -> wire.Web:
    if not ok:
        return wire.Web(ok=False)
    return wire.Web(ok=True, status=204, time_ms=round(rng.uniform(60, 140), 1), portal=False)


def _link(rng: random.Random, clients: int) -> wire.Link:
    rx_mbps = round(clients * rng.uniform(0.1, 0.5), 2)
    return wire.Link(
        up=True, speed_mbps=1000, rx_mbps=rx_mbps, tx_mbps=round(rx_mbps / 8, 2), rx_errors=0
    )


def _host(rng: random.Random) -> wire.Host:
    return wire.Host(
        cpu_ratio=round(rng.uniform(0.02, 0.08), 3),
        memory_ratio=round(rng.uniform(0.35, 0.42), 3),
        temperature_c=round(rng.uniform(44, 56), 1),
        undervoltage=False,
        spool_dropped=0,
    )
