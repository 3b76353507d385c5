"""Valid payloads of every topic that ingest or an agent reads, always new ones.

Their shapes are the golden payloads of the wire format; times, seqs and names are new each
time, so that a payload that nothing damages is a good one.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[2] / "tests" / "wire" / "golden" / "0.1.0.json"
TO_SERVER = ("readings", "presence", "replies")
TO_AGENT = ("acks", "settings", "commands")
VERBS = ("resend", "reading", "probe", "echo", "trace", "throughput", "dance")

Tree = Any
"""Parsed JSON."""


@dataclass
class Device:
    """One site as it speaks: its stream, its boot and its session."""

    site: str
    stream: str
    boot: str
    session: str
    booted_at: float
    seq: int = 0


def iso(at: float) -> str:
    """A time as it stands on the wire."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class Seeds:
    """Makes them; the same `rng` and the same times give the same ones.

    Args:
        rng: where chance comes from.
        sites: who speaks.
        agent: the site whose agent listens.
        stream: that agent's stream, as it is now.
        verbs: what commands ask for.
        probes: which probes they ask for.
        broker: whether settings may name another broker.
    """

    def __init__(
        self,
        rng: random.Random,
        sites: Sequence[str],
        agent: str,
        stream: Callable[[], str],
        *,
        verbs: Sequence[str] = VERBS,
        probes: Sequence[str] = ("none",),
        broker: bool = True,
    ) -> None:
        self._rng = rng
        self._sites = sites
        self._agent = agent
        self._stream = stream
        self._verbs = verbs
        self._probes = probes
        golden = json.loads(GOLDEN.read_text())["payloads"]
        shapes = [golden[name] for name in ("readings_full", "readings_silent", "readings_minimal")]
        self._readings = [json.dumps(one["readings"][0]) for one in shapes]
        settings = golden["settings"]
        if not broker:
            del settings["mqtt"]
        self._settings = json.dumps(settings)
        self._devices: list[Device] = []

    def name(self) -> str:
        """A UUID."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def begin(self, now: float) -> None:
        """New streams, boots and sessions for everybody."""
        self._devices = [
            Device(site, self.name(), self.name(), self.name(), now - self._rng.uniform(100, 90000))
            for site in self._sites
        ]

    def make(self, leaf: str, now: float) -> tuple[str, Tree]:
        """The site and the content of a good payload of that topic."""
        if leaf in TO_AGENT:
            return self._agent, {
                "acks": self._ack,
                "settings": self._setting,
                "commands": self._command,
            }[leaf](now)
        device = self._rng.choice(self._devices)
        of = {"readings": self._of_readings, "presence": self._presence, "replies": self._reply}
        return device.site, of[leaf](device, now)

    def _of_readings(self, device: Device, now: float) -> Tree:
        rng = self._rng
        count = rng.choices((1, 2, rng.randint(3, 12), 100, 101), (80, 12, 7, 0.2, 0.1))[0]
        uptime_s = round(now - device.booted_at, 3)
        readings = []
        if device.seq and rng.random() < 0.06:  # a name that is taken
            device.seq -= 1
        for _ in range(count):
            device.seq += 1
            one = json.loads(rng.choice(self._readings))
            one |= {"seq": device.seq, "boot": device.boot, "uptime_s": uptime_s}
            one["taken_at"] = iso(now)
            readings.append(one)
        return {
            "v": 1,
            "site": device.site,
            "stream": device.stream,
            "sent_boot": device.boot,
            "sent_uptime_s": uptime_s,
            "oldest": max(1, device.seq - 5000),
            "readings": readings,
        }

    def _presence(self, device: Device, now: float) -> Tree:
        rng = self._rng
        told = {
            "v": 1,
            "site": device.site,
            "state": "online",
            "session": device.session,
            "at": iso(now),
            "agent": "0.1.0",
            "boot": device.boot,
            "uptime_s": round(now - device.booted_at, 3),
            "keepalive_s": rng.choice((2, 15, 60.5)),
        }
        if rng.random() < 0.5:
            told |= {"state": "offline"}
            told["reason"] = rng.choice(("lost", "stopped", "upgrade", "reboot"))
        elif rng.random() < 0.3:
            told["session"] = device.session = self.name()
        return told

    def _reply(self, device: Device, _now: float) -> Tree:
        told: Tree = {"v": 1, "site": device.site, "id": self.name()}
        if self._rng.random() < 0.3:
            short = {"id": told["id"], "echo": True}
            return short if self._rng.random() < 0.3 else {**told, **short}
        return {**told, "id": "settings-7", "ok": True, "result": {"revision": 7, "x": [1, "a"]}}

    def _ack(self, _now: float) -> Tree:
        stream = self._stream() if self._rng.random() < 0.8 else self.name()
        return {"v": 1, "stream": stream, "through": self._rng.choice((0, 1, 3, 8))}

    def _setting(self, _now: float) -> Tree:
        told = json.loads(self._settings)
        told |= {"site": self._agent, "revision": self._rng.randrange(1, 2000)}
        for key in ("window_s", "mqtt", "metered", "targets", "access_points"):
            if self._rng.random() < 0.5:
                told.pop(key, None)
        return told

    def _command(self, now: float) -> Tree:
        rng = self._rng
        verb = rng.choice(self._verbs)
        args: Tree = {
            "resend": {"from": rng.randint(1, 20), "to": rng.randint(1, 20)},
            "probe": {"name": rng.choice(self._probes)},
        }.get(verb, {})
        return {
            "v": 1,
            "site": self._agent,
            "id": self.name(),
            "do": verb,
            "args": args,
            "expires_at": iso(now + rng.choice((60, 60, 60, -60))),
        }
