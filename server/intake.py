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
from server.seqset import ALL, PAGE, SeqSet
from server.store import FLAG_CORRECTED, FLAG_UNCERTAIN, NewReading, Store, StreamRow


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
        if row.seqs.known_to < envelope.oldest - 1:
            draft.write_readings()
            given_up = (row.seqs.known_to + 1, envelope.oldest - 1)
            lost -= self._store.count_readings(row.id, *given_up)
        state, rules = draft.health(site), draft.rules(site)
        number = 0
        for good in batch.good:
            reading = good.reading
            if reading.seq > seqs.known_to or seqs.has(reading.seq):
                if not self._is_new(row, good, message):
                    continue
                lost -= reading.seq <= seqs.known_to
            seqs = seqs.add(reading.seq)
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
            seqs = seqs if bad.seq is None else seqs.add(bad.seq)
        draft.put_health(state)
        lost = max(0, row.lost + lost)
        seqs = self._extended(row.id, seqs)
        draft.put_stream(StreamRow(row.id, site, envelope.stream, seqs, lost))
        self.touched[site, envelope.stream] = None

    def _extended(self, stream_id: int, seqs: SeqSet) -> SeqSet:
        """The same with more of what is stored above it, where holes were filled.

        A page a message is enough, but `through` passes all that it can.
        """
        while seqs.wants_more():
            self._draft.write_readings()
            found = self._store.seqs_above(stream_id, seqs.known_to, PAGE)
            seqs = seqs.extended(found, ALL if len(found) < PAGE else found[-1])
            if seqs.beyond:
                break
        return seqs

    def _is_new(self, row: StreamRow, good: wire.GoodReading, message: Message) -> bool:
        """Whether a name that may be accounted for has no reading yet.

        The same reading again changes nothing; another under its name is set aside.
        """
        stored = self._draft.body(row.id, good.reading.seq)
        if stored is None:
            return True  # known lost, or quarantined, and yet it came
        if stored != good.raw and not _say_the_same(stored, good.raw):
            reason = f"seq {good.reading.seq} is already stored with other content"
            self._store.quarantine(message.received_at, message.topic, reason, good.raw)
        return False


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
