"""From messages to committed facts: one batch, one transaction.

`Ingest` is synchronous and knows no broker: it is handed what arrived and the
server's time, commits, and returns what may now be acknowledged and said. It
is used by one thread at a time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agent import wire
from server import health, inforce, moving, remarks, rules, settle, stands, voice
from server.draft import Draft
from server.groupwork import Groupwork
from server.inforce import InForce
from server.intake import Intake, Message, Progress, Taken
from server.lasting import Lasting
from server.memory import Memory
from server.model import GroupRules, Kind, Rules
from server.rules import RuleBook, RulesError
from server.store import Letter, Store, StoreError

_ALIVE_S = 5.0
"""How often the sign of our own life is written, when nothing else is."""

log = logging.getLogger(__name__)


class Ticked(NamedTuple):
    """What a tick did."""

    posts: int  # letters added to the outbox
    unproven: bool  # a site is due, but a message of it may still be under way


class Ingest:
    """The single writer of a store."""

    def __init__(
        self,
        store: Store,
        default: Rules,
        resolved_retain_s: float,
        group_rules: GroupRules = GroupRules(),  # noqa: B008  # frozen
    ) -> None:
        self._store = store
        self._retain_s = resolved_retain_s
        self._default = default
        self._memory = Memory(inforce.of_default(default))
        self._version = -1
        self._changes_at = math.inf
        self._alive_at = 0.0
        self._blind = False
        self._untold: set[tuple[str, Kind]] = set()
        self._groupwork = Groupwork(store, group_rules)
        self._lasting = Lasting()
        self._load()

    def _load(self) -> None:
        memory = self._memory
        for row in self._store.healths():
            memory.healths[row.health.site] = row.health
            memory.places[row.health.site] = (row.district, row.isp)
            memory.dues[row.health.site] = row.due_at
            if row.run is not None:
                memory.runs[row.health.site] = row.run
        memory.anchors = dict(self._store.boots())
        for incident in self._store.firing():
            memory.firing[incident.site, incident.kind] = incident

    def _draft(self) -> Draft:
        return Draft(self._memory, self._store, self._retain_s, blind=self._blind)

    def sees(self, *, caught_up: bool) -> None:
        """Whether we are caught up: while we are not, nothing new is told."""
        self._blind = not caught_up
        firing = self._memory.firing.items()
        self._untold = {key for key, one in firing if caught_up and voice.waits(one)}

    def take(self, messages: Sequence[Message], now: float, *, caught_up: bool) -> Taken:
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
                return self._set_aside(messages[0])
        whole = Taken()
        for message in messages:
            part = self.take([message], now, caught_up=caught_up)
            whole.progress.update(part.progress)
            whole.echoes += part.echoes
            whole.posts += part.posts
        return whole

    def _take(self, messages: Sequence[Message], now: float, *, caught_up: bool) -> Taken:
        draft = self._draft()
        intake = Intake(draft, self._store, caught_up=caught_up)
        with self._store.transaction():
            for message in messages:
                try:
                    intake.take(message)
                except wire.Invalid as err:
                    self._store.quarantine(
                        message.received_at, message.topic, str(err), message.payload
                    )
            draft.save(now)
        draft.merge()
        return self._reported(draft, intake)

    def _set_aside(self, message: Message) -> Taken:
        at, reason = message.received_at, "internal error, see log"
        with self._store.transaction():
            self._store.quarantine(at, message.topic, reason, message.payload)
        return Taken()

    def _reported(self, draft: Draft, intake: Intake) -> Taken:
        """What may be said now: among it where each stream stands."""
        taken = intake.taken
        taken.posts = draft.posts
        for site, stream in intake.touched:
            seqs = draft.stream(site, stream).seqs
            seen = self._memory.healths[site].seen
            newest = seen is None or seen.stream == stream
            taken.progress[site, stream] = Progress(site, stream, seqs.through, seqs.gap(), newest)
        return taken

    def tick(self, now: float, proven_at: float, posted: Sequence[int] = ()) -> Ticked:
        """What time alone does: silences run out, old alerts are cleared.

        Args:
            now: the server's time.
            proven_at: everything that reached the broker until then has been
                taken in; a site whose due time is later is not judged yet.
            posted: letters that the broker has acknowledged.

        """
        due = self._store.due(now)
        grouping = bool(due) or self._groupwork.is_due(self._memory.firing.values(), now)
        idle = not grouping and not posted and not self._store.clear_due(now)
        if idle and proven_at - self._alive_at < _ALIVE_S:
            return Ticked(0, unproven=False)
        draft, firing = self._draft(), self._memory.firing
        unproven = False
        with self._store.transaction():
            self._store.set_alive_at(proven_at)
            self._store.posted(posted)
            for site in due:
                one = draft.health(site)
                judged_by = draft.rules(site)
                due_at = health.due_at(one, judged_by)
                if due_at is not None and due_at > proven_at:
                    unproven = True
                else:
                    draft.apply(*health.expire(one, now, judged_by))
            if grouping:
                fired = [one for one in firing.values() if one.kind is Kind.GROUP_OUTAGE]
                self._groupwork.step(draft, self._memory.registry.values(), fired, now)
            for topic in self._store.clear_due(now):
                draft.post(topic, b"")
                self._store.cleared(topic)
            draft.save(now)
        draft.merge()
        self._alive_at = proven_at
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

    def letters(self, after: int) -> list[Letter]:
        """Letters of the outbox with an id above `after`, in order."""
        return self._store.outbox(after)

    def standing(self) -> Iterator[tuple[str, bytes]]:
        """Topic and payload of all that should stand retained."""
        return stands.everything(self._memory, self._store)

    def sweep(self, stood: Sequence[str]) -> int:
        """Clear what stands at the broker though it should not; gives letters added.

        After a restore that is what came after the backup; after a crash of the broker, what it
        had not yet saved as cleared.
        """
        right = {topic for topic, _ in self.standing()}.union(self._store.clear_due(math.inf))
        wrong = [topic for topic in stood if topic not in right]
        with self._store.transaction():
            for topic in wrong:
                log.info("clearing %s, which stands at the broker and should not", topic)
                self._store.post(topic, b"")
        return len(wrong)

    def refresh_registry(self, now: float) -> int:
        """Take over what the registry's commands changed, or what becomes valid by now.

        Gives the letters added, among them what waited until we were caught up.
        """
        return self._follow_registry(now) + self._tell_untold(now)

    def _tell_untold(self, now: float) -> int:
        """What was found before we were caught up, once its site shows that it lasts."""
        firing, healths = self._memory.firing, self._memory.healths
        waiting = [one for key in self._untold if (one := firing.get(key)) and voice.waits(one)]
        shown = [one for one in waiting if voice.still_lasts(one, healths[one.site])]
        if shown:
            draft = self._draft()
            with self._store.transaction():
                for one in shown:
                    draft.put_incident(one.revised(why="ingest is caught up, and it still lasts"))
                draft.save(now)
            draft.merge()
        self._untold = {(one.site, one.kind) for one in waiting if one not in shown}
        return draft.posts if shown else 0

    def _follow_registry(self, now: float) -> int:
        said = self._heed(now) + self._settle(now)
        if self._store.registry_version() == self._version and now < self._changes_at:
            return said
        with self._store.transaction():
            self._store.promote(now)
            version = self._store.registry_version()
        memory = self._memory
        before = (memory.registry, memory.in_force)
        read_otherwise = memory.take_over(self._store.sites(), self._in_force(now))
        try:
            posts = self._apply_registry(read_otherwise, now)
        except StoreError:
            memory.take_over(*before)
            raise
        self._version = version
        self._changes_at = self._store.next_change_at(now) or math.inf
        return said + posts

    def _in_force(self, now: float) -> InForce:
        """What judges from now on. Rules that [health] has made impossible are left out."""
        store = self._store
        try:
            book = rules.parse(store.rules_text(), self._default)
        except RulesError as err:
            log.error("the imported rules are left out, import them again: %s", err)
            book = RuleBook(self._default)
        return InForce(book, store.contracts(), store.maintenances(), now)

    def _heed(self, now: float) -> int:
        """Take notice of what people said of incidents; gives letters added."""
        if not self._store.noted()[1]:
            return 0
        draft = self._draft()
        with self._store.transaction():
            remarks.heed(draft, self._store)
            draft.save(now)
        draft.merge()
        return draft.posts

    def _settle(self, now: float) -> int:
        """Look again at outages of which more is known by now; gives letters added."""
        due = self._store.unsettled(now - settle.QUIET_S, now, settle.AT_ONCE)
        lasting = self._lasting.due(self._memory.firing.values(), now)
        if not due and not lasting:
            return 0
        draft = self._draft()
        with self._store.transaction():
            settle.ask(draft, self._store, self._memory.registry, lasting)
            settle.step(draft, self._store, self._memory.registry, due)
            draft.save(now)
            self._store.settled(one.site for one in due)
        draft.merge()
        self._lasting.asked(lasting, now)
        return draft.posts

    def _apply_registry(self, read_otherwise: set[str], now: float) -> int:
        draft = self._draft()
        with self._store.transaction():
            moving.apply(draft, self._memory, self._store, read_otherwise, now)
            draft.save(now)
        draft.merge()
        return draft.posts
