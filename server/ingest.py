"""From messages to committed facts: one batch, one transaction.

`Ingest` is synchronous and knows no broker: it is handed what arrived and the
server's time, commits, and returns what may now be acknowledged and said. It
is used by one thread at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from agent import wire
from server import clock, health
from server.draft import Draft, Memory
from server.health import Health, Opened
from server.model import Kind, Rules, Site, Status
from server.store import (
    FLAG_CORRECTED,
    FLAG_UNCERTAIN,
    ReadingRow,
    Store,
    StoreError,
    StreamRow,
)

log = logging.getLogger(__name__)


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


class Ticked(NamedTuple):
    """What a tick did."""

    posts: int  # letters added to the outbox
    unproven: bool  # a site is due, but a message of it may still be under way


class Ingest:
    """The single writer of a store."""

    def __init__(self, store: Store, rules: Rules, resolved_retain_s: float) -> None:
        self._store = store
        self._rules = rules
        self._retain_s = resolved_retain_s
        self._memory = Memory()
        self._version = -1
        self._load()

    def _load(self) -> None:
        memory = self._memory
        for row in self._store.healths():
            memory.healths[row.health.site] = row.health
            memory.places[row.health.site] = (row.district, row.isp)
        for incident in self._store.firing():
            memory.firing[incident.site, incident.kind] = incident

    def _draft(self) -> Draft:
        return Draft(self._memory, self._store, self._rules, self._retain_s)

    def take(self, messages: list[Message], now: float, *, caught_up: bool) -> Taken:
        """Commit a batch. Only afterwards may it be acknowledged.

        A message on which our own code fails is set aside alone, so that one
        message never stops the stream.

        Raises:
            StoreError: nothing was committed; try the same batch again.
        """
        try:
            return self._take(messages, now, caught_up=caught_up)
        except StoreError:
            raise
        except Exception:
            if len(messages) == 1:
                log.exception("a message on %s could not be handled", messages[0].topic)
                return self._set_aside(messages[0], now)
        whole = Taken()
        for message in messages:
            part = self.take([message], now, caught_up=caught_up)
            whole.progress.update(part.progress)
            whole.echoes += part.echoes
            whole.posts += part.posts
        return whole

    def _take(self, messages: list[Message], now: float, *, caught_up: bool) -> Taken:
        taken = Taken()
        draft = self._draft()
        with self._store.transaction():
            for message in messages:
                try:
                    self._one(draft, taken, message, caught_up=caught_up)
                except wire.Invalid as err:
                    self._store.quarantine(
                        message.received_at, message.topic, str(err), message.payload
                    )
            draft.save(now)
        draft.merge()
        self._report(draft, taken)
        return taken

    def _set_aside(self, message: Message, now: float) -> Taken:
        with self._store.transaction():
            self._store.quarantine(now, message.topic, "internal error, see log", message.payload)
        return Taken()

    def _one(self, draft: Draft, taken: Taken, message: Message, *, caught_up: bool) -> None:
        site, leaf = wire.split_site_topic(message.topic)
        if leaf == "readings":
            self._readings(draft, taken, site, message)
        elif leaf == "presence":
            if not message.payload:
                return
            presence = wire.decode(wire.Presence, message.payload, site=site)
            step = health.meet(
                draft.health(site),
                presence,
                message.received_at,
                self._rules,
                retained=message.retain,
                caught_up=caught_up,
            )
            draft.apply(*step)
        elif leaf == "replies":
            reply = wire.decode(wire.Reply, message.payload, site=site)
            if reply.echo is True:
                taken.echoes.append((site, reply.id))
        else:
            raise wire.Invalid(f"no device publishes {leaf!r}")

    def _readings(self, draft: Draft, taken: Taken, site: str, message: Message) -> None:
        batch = wire.decode_readings(message.payload, site=site)
        envelope = batch.envelope
        now = message.received_at
        row = draft.stream(site, envelope.stream)
        anchors = draft.anchors.get(site) or self._memory.anchors.get(site, ())
        anchors = clock.anchored(anchors, envelope, now)
        draft.anchors[site] = anchors
        seqs, lost = row.seqs.forget_below(envelope.oldest)
        state = draft.health(site)
        for good in batch.good:
            reading = good.reading
            if seqs.has(reading.seq) and not self._is_new(draft, row, good, message):
                continue
            seqs = seqs.add(reading.seq)
            when = clock.when(good, anchors)
            flags = FLAG_CORRECTED * when.corrected | FLAG_UNCERTAIN * when.uncertain
            draft.add_reading(ReadingRow(row.id, reading.seq, now, when.taken_at, flags, good.raw))
            state, events = health.observe(state, reading, envelope, now, self._rules)
            if events:
                draft.apply(state, events)
        for bad in batch.bad:
            self._store.quarantine(now, message.topic, bad.reason, bad.raw)
            if bad.seq is not None:
                seqs = seqs.add(bad.seq)
        draft.put_health(state)
        draft.put_stream(row._replace(seqs=seqs, lost=row.lost + lost))
        taken.progress[site, envelope.stream] = Progress(
            site, envelope.stream, 0, None, newest=True
        )

    def _is_new(
        self, draft: Draft, row: StreamRow, good: wire.GoodReading, message: Message
    ) -> bool:
        """Whether a name that is accounted for has no reading yet.

        The same reading again changes nothing; another under its name is set aside.
        """
        stored = draft.body(row.id, good.reading.seq)
        if stored is None:
            return True  # known lost, or quarantined, and yet it came
        if stored != good.raw and msgspec.json.decode(stored) != msgspec.json.decode(good.raw):
            reason = f"seq {good.reading.seq} is already stored with other content"
            self._store.quarantine(message.received_at, message.topic, reason, good.raw)
        return False

    def _report(self, draft: Draft, taken: Taken) -> None:
        """Fill in what became of each stream, now that it is committed."""
        taken.posts = draft.posts
        for site, stream in taken.progress:
            seqs = self._memory.streams[site, stream].seqs
            seen = self._memory.healths[site].seen
            newest = seen is None or seen.stream == stream
            taken.progress[site, stream] = Progress(site, stream, seqs.through, seqs.gap(), newest)

    def tick(self, now: float, proven_at: float, posted: Iterable[int] = ()) -> Ticked:
        """What time alone does: silences run out, old alerts are cleared.

        Args:
            now: the server's time.
            proven_at: everything that reached the broker until then has been
                taken in; a site whose due time is later is not judged yet.
            posted: letters that the broker has acknowledged.

        """
        draft = self._draft()
        unproven = False
        with self._store.transaction():
            self._store.set_alive_at(now)
            self._store.posted(posted)
            for site in self._store.due(now):
                one = draft.health(site)
                due_at = health.due_at(one, self._rules)
                if due_at is not None and due_at > proven_at:
                    unproven = True
                else:
                    draft.apply(*health.expire(one, now, self._rules))
            for topic in self._store.clear_due(now):
                draft.post(topic, b"")
            draft.save(now)
        draft.merge()
        return Ticked(draft.posts, unproven)

    def absent(self, from_at: float, to_at: float, reason: str) -> None:
        """Record our own absence and give every site time to show itself."""
        draft = self._draft()
        with self._store.transaction():
            self._store.add_absence(from_at, to_at, reason)
            for one in self._memory.healths.values():
                draft.put_health(health.absent(one, to_at))
            draft.save(to_at)
        draft.merge()

    def alive_at(self) -> float | None:
        """When ingest last said that it lives, before this start."""
        return self._store.alive_at()

    def refresh_registry(self, now: float) -> int:
        """Take over what the registry's commands changed; gives letters added."""
        version = self._store.registry_version()
        if version == self._version:
            return 0
        memory = self._memory
        before, memory.registry = memory.registry, self._store.sites()
        try:
            posts = self._apply_registry(now)
        except StoreError:
            memory.registry = before
            raise
        self._version = version
        return posts

    def _apply_registry(self, now: float) -> int:
        draft = self._draft()
        with self._store.transaction():
            for site in self._memory.registry.values():
                self._apply_site(draft, site, now)
            draft.save(now)
        draft.merge()
        return draft.posts

    def _apply_site(self, draft: Draft, site: Site, now: float) -> None:
        for kind in Kind:
            incident = draft.firing(site.id, kind)
            if incident is None:
                continue
            if site.retired:
                draft.put_incident(incident.revised(resolved_at=now))
            elif (incident.district, incident.isp) != (site.district, site.isp):
                topic = wire.alert_topic(incident.district, incident.isp, incident.id)
                draft.post(topic, b"")
                draft.put_incident(incident.revised(district=site.district, isp=site.isp))
        if site.retired:
            if site.id in self._memory.places:
                draft.move(site.id, None)
            return
        place = (site.district, site.isp)
        if self._memory.places.get(site.id) == place:
            return
        draft.move(site.id, place)
        known: Health = draft.health(site.id)
        if known.status is Status.OFFLINE and draft.firing(site.id, Kind.SITE_OFFLINE) is None:
            draft.open(site.id, Opened(Kind.SITE_OFFLINE, known.since, now, known.reasons))
