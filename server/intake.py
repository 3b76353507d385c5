"""What one message does to a draft: decode, account for, judge.

A message that breaks the contract raises `wire.Invalid` before it has changed
anything; a single reading that does is set aside alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from agent import wire
from server import clock, health
from server.draft import Draft
from server.seqset import SeqSet
from server.store import FLAG_CORRECTED, FLAG_UNCERTAIN, NewReading, Store, StreamRow

MOST_RANGES = 1000
"""So many separate ranges of a stream may be stored. An agent sends in order, newest first and then
upwards from the oldest hole, and makes a few; each commit writes them all down."""
_TOO_MANY = f"more than {MOST_RANGES} holes before it: not stored until some are filled"


class Message(Protocol):
    """What arrived: `received_at` is stamped on receipt."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def retain(self) -> bool: ...
    @property
    def received_at(self) -> float: ...


class Progress(NamedTuple):
    """Where a stream stands after a commit."""

    site: str
    stream: str
    through: int
    gap: tuple[int, int] | None
    newest: bool  # the site's newest stream, whose ack stands retained


@dataclass(slots=True)
class Taken:
    """What a commit allows to be said."""

    progress: dict[tuple[str, str], Progress] = field(default_factory=dict)
    echoes: list[tuple[str, str]] = field(default_factory=list)  # site, id
    posts: int = 0


class Intake:
    """The messages of one transaction, taken in one after the other."""

    def __init__(self, draft: Draft, store: Store, *, caught_up: bool) -> None:
        self._draft = draft
        self._store = store
        self._caught_up = caught_up
        self.taken = Taken()
        self.touched: dict[tuple[str, str], None] = {}
        """Streams that had a message, in the order of arrival."""

    def take(self, message: Message) -> None:
        """Take in one message.

        Raises:
            wire.Invalid: it breaks the contract, and has changed nothing.
        """
        site, leaf = wire.split_site_topic(message.topic)
        if leaf == "readings":
            self._readings(site, message)
        elif leaf == "presence":
            if not message.payload:
                return
            presence = wire.decode(wire.Presence, message.payload, site=site)
            step = health.meet(
                self._draft.health(site),
                presence,
                message.received_at,
                self._draft.rules(site),
                retained=message.retain,
                caught_up=self._caught_up,
            )
            self._draft.apply(*step)
        elif leaf == "replies":
            reply = wire.decode(wire.Reply, message.payload, site=site)
            if reply.echo is True:
                self.taken.echoes.append((site, reply.id))
        else:
            raise wire.Invalid(f"no device publishes {leaf!r}")

    def _readings(self, site: str, message: Message) -> None:
        draft = self._draft
        batch = wire.decode_readings(message.payload, site=site)
        envelope = batch.envelope
        now = message.received_at
        row = draft.stream(site, envelope.stream)
        known = draft.anchors(site)
        anchors = clock.anchored(known, envelope, now)
        if anchors is not known:
            draft.put_anchors(site, anchors)
        seqs, lost = row.seqs.forget_below(envelope.oldest)
        state, rules = draft.health(site), draft.rules(site)
        number = 0
        for good in batch.good:
            reading = good.reading
            if seqs.has(reading.seq):
                if not self._is_new(row, good, message):
                    continue
                lost -= 1
            grown = seqs.add(reading.seq)
            if _too_many(seqs, grown):
                self._store.quarantine(now, message.topic, _TOO_MANY, good.raw)
            else:
                seqs = grown
                when = clock.when(good, anchors)
                uncertain = FLAG_UNCERTAIN if when.uncertain else 0
                flags = FLAG_CORRECTED if when.corrected else uncertain
                number = number or self._store.add_message(message.payload)
                new = NewReading(row.id, reading.seq, now, when.taken_at, flags, number, good.place)
                draft.add_reading(new, good.raw)
                draft.past.add(site, good, when)
            state, events = health.observe(state, reading, envelope, now, rules)
            if events:
                draft.apply(state, events)
        for bad in batch.bad:
            self._store.quarantine(now, message.topic, bad.reason, bad.raw)
            grown = seqs if bad.seq is None else seqs.add(bad.seq)
            if not _too_many(seqs, grown):
                seqs = grown
        draft.put_health(state)
        lost = max(0, row.lost + lost)
        draft.put_stream(StreamRow(row.id, site, envelope.stream, seqs, lost))
        self.touched[site, envelope.stream] = None

    def _is_new(self, row: StreamRow, good: wire.GoodReading, message: Message) -> bool:
        """Whether a name that is accounted for has no reading yet.

        The same reading again changes nothing; another under its name is set aside.
        """
        stored = self._draft.body(row.id, good.reading.seq)
        if stored is None:
            return True  # known lost, or quarantined, and yet it came
        if stored != good.raw and not _say_the_same(stored, good.raw):
            reason = f"seq {good.reading.seq} is already stored with other content"
            self._store.quarantine(message.received_at, message.topic, reason, good.raw)
        return False


def _too_many(before: SeqSet, after: SeqSet) -> bool:
    """Whether one more range makes too many; filling holes is always welcome."""
    return len(after.beyond) > max(MOST_RANGES, len(before.beyond))


def _say_the_same(one: bytes, other: bytes) -> bool:
    """Whether two readings differ in spelling alone.

    In a field that nobody knows may stand what is JSON and yet no value of ours, such as
    1e999; then their bytes count.
    """
    try:
        same: bool = msgspec.json.decode(one) == msgspec.json.decode(other)
    except (ValueError, RecursionError):
        return False
    return same
