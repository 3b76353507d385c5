"""Readings as an ordinary site makes them, for whatever measures size, wear or data.

Four rungs by echo, two interfaces, names, web, time, clients, two access points and the
device itself: what the agent sends with every table of its configuration but the rare ones.
Numbers have as many digits as measured ones, so that they compress no better.
"""

from __future__ import annotations

import random

from agent import wire

BOOT = "3f0c5d1e-8a44-4d0b-9f5e-6f2a1c7b9d10"
_FIRST_S = 1_790_000_000.0


class Typical:
    """Makes readings, each another; the same `seed` gives the same ones."""

    def __init__(self, seed: int = 1, window_s: float = 60.0) -> None:
        self._rng = random.Random(seed)  # noqa: S311  # numbers to look at, no secrets
        self._window_s = window_s

    def __call__(self, seq: int) -> bytes:
        """The encoded reading of that seq, as the spool stores it."""
        return wire.encode(self.reading(seq))

    def reading(self, seq: int) -> wire.Reading:
        """The reading of that seq."""
        rng = self._rng
        return wire.Reading(
            seq=seq,
            boot=BOOT,
            taken_at=wire.iso(_FIRST_S + seq * self._window_s + rng.random() / 100),
            uptime_s=round(100.0 + seq * self._window_s + rng.random(), 3),
            clock=wire.Clock(synced=True, age_s=round(seq * self._window_s + rng.random(), 3)),
            window_s=self._window_s,
            agent="0.1.0",
            ladder=wire.Ladder(
                carrier="ok", gateway="ok", isp="ok", domestic="ok", world="ok", dns="ok", web="ok"
            ),
            settings_revision=7,
            ping=wire.Ping(
                gateway=self._echoes(0.6),
                isp=self._echoes(7.0),
                domestic=self._echoes(31.0),
                world=self._echoes(180.0),
            ),
            dns=wire.Dns(ok=True, time_ms=self._ms(12), outcome="answer"),
            web=wire.Web(ok=True, status=204, time_ms=self._ms(90), first_byte_ms=self._ms(40)),
            ntp=wire.Ntp(offset_ms=self._ms(1), delay_ms=self._ms(20), stratum=2, samples=4),
            links={"eth0": self._link(), "wlan0": self._link()},
            clients=wire.Clients(
                source="nl80211", associated=rng.randrange(60), active=rng.randrange(30)
            ),
            access_points={name: self._access_point() for name in ("ap-1", "ap-2")},
            host=wire.Host(
                cpu_ratio=self._ratio(),
                memory_ratio=self._ratio(),
                disk_ratio=self._ratio(),
                temperature_c=round(rng.uniform(40, 70), 1),
                undervoltage=False,
                spool_readings=rng.randrange(3),
                spool_dropped=0,
            ),
        )

    def _ms(self, about: float) -> float:
        return round(self._rng.lognormvariate(0, 0.3) * about, 3)

    def _ratio(self) -> float:
        return round(self._rng.random(), 4)

    def _echoes(self, about_ms: float) -> wire.Echoes:
        lost = self._rng.choice([0, 0, 0, 0, 1, 2])
        least = self._ms(about_ms)
        times = [least, *sorted(round(least + self._ms(about_ms), 3) for _ in range(3))]
        return wire.Echoes(
            sent=60,
            received=60 - lost,
            loss_ratio=round(lost / 60, 6),
            rtt_min_ms=times[0],
            rtt_p50_ms=times[1],
            rtt_p95_ms=times[2],
            rtt_max_ms=times[3],
            pdv_p95_ms=round(times[2] - times[0], 3),
        )

    def _link(self) -> wire.Link:
        rng = self._rng
        return wire.Link(
            up=True,
            speed_mbps=1000.0,
            rx_mbps=round(rng.uniform(0, 40), 6),
            tx_mbps=round(rng.uniform(0, 9), 6),
            rx_errors=0,
            rx_drops=rng.randrange(5),
        )

    def _access_point(self) -> wire.AccessPoint:
        return wire.AccessPoint(reachable=True, rtt_ms=self._ms(1), clients=self._rng.randrange(40))
