"""What the server's tests are made of: devices, their messages, and a site's story.

Times are plain seconds by the server's clock; the stories begin at 1000.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from agent import wire
from server import health
from server.events import Event
from server.health import Health
from server.model import Rules, Site

SITE = "bitung-0123"
OTHER = "bitung-0456"
MINE = Site(SITE, "Pasar Girian", "girian", "telkom")


def identity(name: str) -> str:
    """A UUID that is always the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


class Message(NamedTuple):
    """What arrived, as the MQTT edge hands it over."""

    topic: str
    payload: bytes
    retain: bool
    received_at: float


@dataclass
class Device:
    """A device on its bench: it measures when told to, and remembers what it measured."""

    site: str = SITE
    window_s: float = 60.0
    boot: str = "boot-1"
    booted_at: float = 100.0
    stream: str = field(default_factory=lambda: identity("stream"))
    synced: bool = True
    seq: int = 0
    spool: dict[int, bytes] = field(default_factory=dict)

    def reading(self, at: float, **fields: Any) -> wire.Reading:
        """The next reading, its window ending at `at`. `ladder` is ok all the way if not given."""
        self.seq += 1
        told: dict[str, Any] = {
            "seq": self.seq,
            "boot": self.boot,
            "taken_at": wire.iso(at if self.synced else at + 86_400.0),
            "uptime_s": round(at - self.booted_at, 3),
            "clock": {"synced": self.synced},
            "window_s": self.window_s,
            "agent": "0.1.0",
            "ladder": {"gateway": "ok", "domestic": "ok", "world": "ok"},
            **fields,
        }
        reading = msgspec.convert(told, wire.Reading)
        self.spool[reading.seq] = wire.encode(reading)
        return reading

    def restart(self, boot: str, booted_at: float) -> None:
        """Another boot of the same device."""
        self.boot, self.booted_at = boot, booted_at

    def envelope(self, sent_at: float, *seqs: int, oldest: int = 1) -> bytes:
        """A readings payload with these readings, sent then."""
        return wire.encode_readings(
            site=self.site,
            stream=self.stream,
            sent_boot=self.boot,
            sent_uptime_s=sent_at - self.booted_at,
            oldest=oldest,
            readings=[self.spool[seq] for seq in seqs],
        )

    def message(
        self, sent_at: float, *seqs: int, oldest: int = 1, received_at: float | None = None
    ) -> Message:
        """The same as it arrives; the newest reading where none is named."""
        payload = self.envelope(sent_at, *(seqs or (self.seq,)), oldest=oldest)
        topic = wire.site_topic(self.site, "readings")
        return Message(topic, payload, False, sent_at if received_at is None else received_at)

    def live(self, at: float, **fields: Any) -> Message:
        """Measure, send and arrive at once."""
        self.reading(at, **fields)
        return self.message(at)


def presence(
    state: Literal["online", "offline"],
    session: str,
    *,
    reason: str | None = None,
    site: str = SITE,
    **more: object,
) -> wire.Presence:
    """A presence of a named session."""
    told = {
        "v": 1,
        "site": site,
        "state": state,
        "session": identity(session),
        "at": wire.iso(1000.0),
        **more,
    }
    return msgspec.convert(told if reason is None else {**told, "reason": reason}, wire.Presence)


def says(part: wire.Presence, at: float, *, retain: bool = False) -> Message:
    """A presence as it arrives."""
    return Message(wire.site_topic(part.site, "presence"), wire.encode(part), retain, at)


class Story:
    """One site and its state machine, stepped with explicit times.

    Each step gives the events that it made; `told` keeps all of them.
    """

    def __init__(self, *, window_s: float = 60.0, **rules: float) -> None:
        self.rules = msgspec.convert(rules, Rules)
        self.device = Device(window_s=window_s)
        self.health = Health(SITE)
        self.told: list[Event] = []

    def _step(self, step: health.Step) -> tuple[Event, ...]:
        self.health, events = step
        self.told.extend(events)
        return events

    def reads(
        self,
        at: float,
        *,
        taken_at: float | None = None,
        device: Device | None = None,
        **fields: Any,
    ) -> tuple[Event, ...]:
        """A reading arrives at `at`, taken just then unless told otherwise."""
        device = device or self.device
        reading = device.reading(at if taken_at is None else taken_at, **fields)
        return self.hears(reading, at, device)

    def hears(
        self, reading: wire.Reading, at: float, device: Device | None = None
    ) -> tuple[Event, ...]:
        """A reading arrives that was made before."""
        device = device or self.device
        envelope = msgspec.json.decode(
            wire.plain(device.envelope(at, reading.seq)), type=wire.Envelope
        )
        return self._step(health.observe(self.health, reading, envelope, at, self.rules))

    def online(
        self,
        at: float,
        session: str,
        *,
        retained: bool = False,
        caught_up: bool = True,
        **more: object,
    ) -> tuple[Event, ...]:
        """A session says that it lives."""
        part = presence("online", session, **more)
        return self._step(
            health.meet(self.health, part, at, self.rules, retained=retained, caught_up=caught_up)
        )

    def offline(
        self,
        at: float,
        session: str,
        reason: str = "lost",
        *,
        retained: bool = False,
        caught_up: bool = True,
        **more: object,
    ) -> tuple[Event, ...]:
        """A session ends: by its will, or cleanly."""
        part = presence("offline", session, reason=reason, **more)
        return self._step(
            health.meet(self.health, part, at, self.rules, retained=retained, caught_up=caught_up)
        )

    def absent(self, until: float) -> None:
        """We were away, and are caught up again."""
        self.health = health.absent(self.health, until)

    def waits(self, until: float) -> tuple[Event, ...]:
        """Time passes; what is due is judged when it is due."""
        events: tuple[Event, ...] = ()
        while (due := health.due_at(self.health, self.rules)) is not None and due <= until:
            events += self._step(health.expire(self.health, due, self.rules))
        return events

    @property
    def status(self) -> str:
        """The verdict now."""
        return str(self.health.status)
