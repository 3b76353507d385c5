"""A simulated site as a pure model: what its agent would measure, keep and say.

No clock, no socket: every method takes ``now`` (seconds since 1970) and returns
the messages that a real agent would publish at that moment. The rules are the
agent's own: `seq` grows by one, readings stay in a bounded journal until the
server's ack releases them, and each connection is a new session that sends its
newest reading first and the backlog behind it, oldest first.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from agent import wire
from server.simulate_link import Line, measure

AGENT = "0.1.0"
"""The agent version that simulated sites claim."""
JOURNAL_READINGS = 500
"""Readings that a site holds; beyond it the released go first, then the oldest."""
LOSS_RATIO = 0.3
"""Share of echoes that a lossy line loses."""
BOOT_S = 1.0
"""Uptime at which a simulated device begins to measure."""


class Act(StrEnum):
    """What can happen to a site."""

    POWER_ON = "power_on"
    POWER_OFF = "power_off"
    CUT = "cut"
    MEND = "mend"
    LOSE = "lose"
    HEAL = "heal"


class Message(NamedTuple):
    """One MQTT message to publish at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Range(msgspec.Struct, frozen=True):
    """The arguments of the command ``resend``."""

    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")


class SiteModel:
    """One site: device, spool and line. It begins without power.

    Args:
        site: its id.
        window_s: seconds of one reading.
        seed: what its plausible numbers derive from, together with its id.
    """

    def __init__(self, site: str, *, window_s: float, seed: int = 0) -> None:
        self.site = site
        self.window_s = window_s
        self.line = Line()
        self.stream = str(uuid.uuid4())
        self.journal: dict[int, bytes] = {}
        self.through = 0
        self.powered = False
        self.boot = ""
        self.booted_at = 0.0
        self._next_seq = 1
        self._random = random.Random(f"{seed} {site}")  # noqa: S311 - plausible numbers, no secret

    @property
    def last_seq(self) -> int:
        """The newest reading's seq, 0 before the first."""
        return self._next_seq - 1

    @property
    def oldest(self) -> int:
        """The lowest seq that the journal still holds."""
        return next(iter(self.journal), self._next_seq)

    @property
    def reachable(self) -> bool:
        """Whether the broker can be reached: the device has power and its line is whole."""
        return self.powered and not self.line.is_cut

    def suffer(self, act: Act, now: float) -> None:
        """Let something happen to the site; twice is once."""
        if act is Act.POWER_ON and not self.powered:
            self.powered = True
            self.boot = str(uuid.uuid4())
            self.booted_at = now - BOOT_S
        elif act is Act.POWER_OFF:
            self.powered = False
        elif act is Act.CUT:
            self.line.cut(now)
        elif act is Act.MEND:
            self.line.mend(now)
        elif act in (Act.LOSE, Act.HEAL):
            self.line.loss_ratio = LOSS_RATIO if act is Act.LOSE else 0.0

    def take_reading(self, now: float) -> None:
        """Measure the window that ends at `now` and put it into the journal."""
        reading = wire.Reading(
            seq=self._next_seq,
            boot=self.boot,
            taken_at=wire.iso(now),
            uptime_s=self._uptime_s(now),
            clock=wire.Clock(synced=True, age_s=round(now % 64, 1)),
            window_s=self.window_s,
            agent=AGENT,
            **measure(self.line, self._random, now=now, window_s=self.window_s, site=self.site),
        )
        self.journal[self._next_seq] = wire.encode(reading)
        self._next_seq += 1
        while len(self.journal) > JOURNAL_READINGS:
            del self.journal[self.oldest]

    def will(self, now: float, session: str) -> Message:
        """What the broker publishes when it loses this session."""
        return self._presence(now, session, state="offline", reason="lost")

    def hello(self, now: float, session: str) -> list[Message]:
        """What a new connection says: presence, newest reading, backlog oldest first."""
        messages = [self._presence(now, session, state="online")]
        unreleased = [seq for seq in self.journal if seq > self.through]
        if unreleased:
            *backlog, newest = unreleased
            messages += self._readings(now, [newest])
            messages += self._readings(now, backlog)
        return messages

    def newest(self, now: float) -> list[Message]:
        """The reading just taken, as it is published live."""
        return self._readings(now, [self.last_seq])

    def hear(self, now: float, topic: str, payload: bytes) -> list[Message]:
        """Obey one message from the server; what is for others, or is broken, is passed over.

        Returns:
            What to publish in answer.
        """
        try:
            if topic == wire.site_topic(self.site, "acks"):
                self._release(wire.decode(wire.Ack, payload, site=self.site))
            elif topic == wire.site_topic(self.site, "commands"):
                return self._obey(now, wire.decode(wire.Command, payload, site=self.site))
        except wire.Invalid:
            pass
        return []

    def _release(self, ack: wire.Ack) -> None:
        if ack.stream == self.stream:
            self.through = max(self.through, min(ack.through, self.last_seq))

    def _obey(self, now: float, command: wire.Command) -> list[Message]:
        if command.do != "resend" or wire.epoch(command.expires_at) < now:
            error = f"a simulated site does not do {command.do!r} (now)"
            return [self._reply(command, ok=False, result={"error": error})]
        try:
            wanted = msgspec.convert(
                {name: msgspec.json.decode(raw) for name, raw in command.args.items()}, Range
            )
        except msgspec.MsgspecError as err:
            return [self._reply(command, ok=False, result={"error": str(err)})]
        held = [seq for seq in self.journal if wanted.first <= seq <= wanted.last]
        answer = self._reply(command, ok=True, result={"readings": len(held)})
        return [*self._readings(now, held), answer]

    def _reply(self, command: wire.Command, *, ok: bool, result: dict[str, object]) -> Message:
        reply = wire.Reply(v=wire.VERSION, site=self.site, id=command.id, ok=ok, result=result)
        return Message(wire.site_topic(self.site, "replies"), wire.encode(reply))

    def _presence(
        self,
        now: float,
        session: str,
        *,
        state: Literal["online", "offline"],
        reason: Literal["lost", "stopped"] | UnsetType = UNSET,
    ) -> Message:
        presence = wire.Presence(
            v=wire.VERSION,
            site=self.site,
            state=state,
            session=session,
            at=wire.iso(now),
            agent=AGENT,
            boot=self.boot,
            uptime_s=self._uptime_s(now),
            reason=reason,
        )
        return Message(wire.site_topic(self.site, "presence"), wire.encode(presence), retain=True)

    def _readings(self, now: float, seqs: Iterable[int]) -> list[Message]:
        raw = [self.journal[seq] for seq in seqs]
        return [
            Message(
                wire.site_topic(self.site, "readings"),
                wire.encode_readings(
                    site=self.site,
                    stream=self.stream,
                    sent_boot=self.boot,
                    sent_uptime_s=self._uptime_s(now),
                    oldest=self.oldest,
                    readings=raw[start : start + wire.MAX_READINGS],
                ),
            )
            for start in range(0, len(raw), wire.MAX_READINGS)
        ]

    def _uptime_s(self, now: float) -> float:
        return round(now - self.booted_at, 3)
