"""What the benchmarks publish: contract readings of many sites, as plain JSON.

Nothing of Pantau is imported here: the publisher's side of a benchmark must not
share code with what is measured.
"""

from __future__ import annotations

import json
import random
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

DISTRICTS = ("Aertembaga", "Girian", "Lembeh Selatan", "Lembeh Utara")
ISPS = ("Telkom", "Biznet", "Infotek", "Icon")


@dataclass(frozen=True)
class Site:
    """One simulated site and the names that its readings carry."""

    name: str
    stream: str
    boot: str

    @property
    def topic(self) -> str:
        """Where its readings go."""
        return f"pantau/v1/sites/{self.name}/readings"


class Fleet:
    """`count` sites that are the same in every run with the same `seed`."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.random = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self.sites = [
            Site(f"bench-{number:05d}", self._uuid(), self._uuid()) for number in range(count)
        ]

    def csv(self) -> str:
        """The registry of these sites, to be imported."""
        rows = [
            f"{site.name},Bench {number},{DISTRICTS[number % 4]},{ISPS[number // 4 % 4]}"
            for number, site in enumerate(self.sites)
        ]
        return "\n".join(["site,name,district,isp", *rows, ""])

    def backlog(
        self, messages: int, per_message: int, ends_at: float, window_s: int = 60
    ) -> Iterator[tuple[str, bytes]]:
        """Messages of all sites in turn, oldest first; the newest window ends at `ends_at`.

        Their uptime stands still, so that each counts as live and is judged: of a
        real backlog only the newest would be.

        Yields:
            Topic and payload; a payload of more than one reading is compressed.
        """
        rounds = -(-messages // len(self.sites))
        starts_at = ends_at - rounds * per_message * window_s
        for number in range(messages):
            turn, site = divmod(number, len(self.sites))
            first = turn * per_message + 1
            seqs = range(first, first + per_message)
            yield (
                self.sites[site].topic,
                self.message(
                    self.sites[site],
                    seqs,
                    starts_at,
                    window_s,
                    uptime_s=7200.0,
                    compress=per_message > 1,
                ),
            )

    def message(
        self,
        site: Site,
        seqs: range,
        starts_at: float,
        window_s: int,
        uptime_s: float,
        *,
        compress: bool,
    ) -> bytes:
        """One payload; reading `seq` ends at ``starts_at + seq * window_s``."""
        readings = [
            {
                **self._reading(site, seq, window_s),
                "taken_at": _iso(starts_at + seq * window_s),
                "uptime_s": uptime_s,
            }
            for seq in seqs
        ]
        envelope = {
            "v": 1,
            "site": site.name,
            "stream": site.stream,
            "sent_boot": site.boot,
            "sent_uptime_s": uptime_s,
            "oldest": 1,
            "readings": readings,
        }
        text = json.dumps(envelope, separators=(",", ":")).encode()
        return zlib.compress(text, 6) if compress else text

    def _reading(self, site: Site, seq: int, window_s: int) -> dict[str, object]:
        rung = dict.fromkeys(("carrier", "gateway", "isp", "domestic", "world", "dns", "web"), "ok")
        return {
            "seq": seq,
            "boot": site.boot,
            "clock": {"synced": True, "age_s": 32.0},
            "window_s": window_s,
            "agent": "0.1.0",
            "ladder": rung,
            "ping": {
                "gateway": self._echoes(1.2),
                "isp": self._echoes(8.0),
                "domestic": self._echoes(22.0),
                "world": self._echoes(48.0),
            },
            "dns": {"ok": True, "time_ms": self._about(12.0)},
            "web": {"ok": True, "status": 204, "time_ms": self._about(81.0), "portal": False},
            "clients": {"associated": 14, "active": 11, "source": "nl80211"},
            "host": {
                "cpu_ratio": 0.03,
                "memory_ratio": 0.41,
                "disk_ratio": 0.22,
                "temperature_c": self._about(51.0),
                "spool_readings": 0,
                "spool_dropped": 0,
            },
        }

    def _echoes(self, rtt_ms: float) -> dict[str, object]:
        low = self._about(rtt_ms)
        return {
            "sent": 60,
            "received": 60,
            "loss_ratio": 0.0,
            "rtt_min_ms": low,
            "rtt_p50_ms": round(low * 1.1, 2),
            "rtt_p95_ms": round(low * 1.6, 2),
            "rtt_max_ms": round(low * 2.2, 2),
            "pdv_p95_ms": round(low * 0.6, 2),
        }

    def _about(self, value: float) -> float:
        return round(value * self.random.uniform(0.8, 1.2), 2)

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))


def _iso(epoch_s: float) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%dT%H:%M:%S.000Z}"
