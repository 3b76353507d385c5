"""What one transaction is about to change, on top of what ingest remembers.

The draft is thrown away when the transaction fails, so memory never runs ahead
of the disk. `save` writes it, `merge` makes it the memory once it is durable.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from agent.wire import state_topic
from server import payloads, voice
from server.clock import Anchors
from server.events import Amended, Changed, Event, Opened, Resolved
from server.health import Health, due_at
from server.memory import Memory
from server.model import Cause, Incident, Kind, Rules
from server.past import Past
from server.store import HealthRow, NewReading, Store, StreamRow


class Draft:
    """The changes of one transaction."""

    def __init__(
        self, memory: Memory, store: Store, retain_s: float, *, blind: bool = False
    ) -> None:
        self._memory = memory
        self._store = store
        self.retain_s = retain_s
        self._healths: dict[str, Health] = {}
        self._streams: dict[tuple[str, str], StreamRow] = {}
        self._firing: dict[tuple[str, Kind], Incident | None] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._dropped: set[str] = set()
        self._changed: dict[str, None] = {}  # in the order of the decisions
        self._revisions: list[Incident] = []
        self._held: set[str] = set()
        self._blind = blind  # not caught up: what is found now may be over, and is not told yet
        self._bodies: dict[tuple[int, int], bytes] = {}
        self.rows: list[NewReading] = []
        self._anchors: dict[str, Anchors] = {}
        self._dues: dict[str, float | None] = {}
        self.past = Past(memory.runs, store)
        self.posts = 0

    def health(self, site: str) -> Health:
        """The health of a site as this transaction sees it."""
        found = self._healths.get(site) or self._memory.healths.get(site)
        return found or Health(site)

    def put_health(self, health: Health) -> None:
        """Change a site's health."""
        self._healths[health.site] = health

    def rules(self, site: str) -> Rules:
        """The rules that judge a site."""
        return self._memory.rules(site)

    def in_work(self, site: str) -> bool:
        """Whether announced work goes on there."""
        return site in self._memory.worked_on

    def anchors(self, site: str) -> Anchors:
        """What anchors the times of a site's boots."""
        return self._anchors.get(site) or self._memory.anchors.get(site, ())

    def put_anchors(self, site: str, anchors: Anchors) -> None:
        """Change them."""
        self._anchors[site] = anchors

    def stream(self, site: str, stream: str) -> StreamRow:
        """A stream as this transaction sees it; made where it is new."""
        key = (site, stream)
        row = self._streams.get(key) or self._memory.streams.get(site, {}).get(stream)
        if row is None:
            row = self._store.stream(site, stream) or self._store.add_stream(site, stream)
            self._streams[key] = row
        return row

    def put_stream(self, row: StreamRow) -> None:
        """Change what is accounted for of a stream."""
        self._streams[row.site, row.stream] = row

    def add_reading(self, row: NewReading, body: bytes) -> None:
        """Store a reading whose name is new."""
        self.rows.append(row)
        self._bodies[row.stream_id, row.seq] = body

    def write_readings(self) -> None:
        """Store them now, so that what is asked of the store is told of them as well."""
        if self.rows:
            self._store.add_readings(self.rows)
            self.rows = []

    def body(self, stream_id: int, seq: int) -> bytes | None:
        """The reading that already has this name, or None."""
        return self._bodies.get((stream_id, seq)) or self._store.body(stream_id, seq)

    def apply(self, health: Health, events: tuple[Event, ...]) -> None:
        """One step of the state machine: the new health and what follows from it."""
        self._healths[health.site] = health
        for event in events:
            match event:
                case Changed():
                    self.show(health.site)
                case Opened():
                    self.open(health.site, event)
                case Amended():
                    self._amend(health.site, event)
                case Resolved():
                    self._resolve(health.site, event)

    def show(self, site: str) -> None:
        """Publish the site's state when the transaction ends."""
        self._changed[site] = None

    def firing(self, site: str, kind: Kind) -> Incident | None:
        """The open incident of a site, if there is one."""
        key = (site, kind)
        return self._firing[key] if key in self._firing else self._memory.firing.get(key)

    def open(self, site: str, event: Opened) -> None:
        """A new incident; an unregistered site has none."""
        place = self._memory.site(site)
        if not place.registered:
            return
        incident = Incident(
            id=str(uuid.uuid4()),
            kind=event.kind,
            site=site,
            district=place.district,
            isp=place.isp,
            title=payloads.title(place, event.kind, event.reasons),
            opened_at=event.opened_at,
            detected_at=max(event.detected_at, event.opened_at),  # our clock may go back
            reasons=event.reasons,
            cause=event.cause or Cause(),
        )
        self.put_incident(incident)
        if event.kind is Kind.SITE_FLAPPING:
            self._stand_for(site, None, incident.id, "the site flaps")

    def _stand_for(self, site: str, old: str | None, new: str | None, why: str) -> None:
        """Let the site's flapping cover its other incidents, or cover them no more."""
        for kind in Kind:
            one = self.firing(site, kind)
            if one is not None and one.group == old and kind is not Kind.SITE_FLAPPING:
                self.put_incident(one.revised(group=new, why=why))

    def _amend(self, site: str, event: Amended) -> None:
        incident = self.firing(site, event.kind)
        if incident is not None:
            told = payloads.title(self._memory.site(site), event.kind, event.reasons)
            cause = event.cause or incident.cause
            self.put_incident(incident.revised(reasons=event.reasons, title=told, cause=cause))

    def _resolve(self, site: str, event: Resolved) -> None:
        incident = self.firing(site, event.kind)
        if incident is not None:
            self.put_incident(incident.resolved(event.resolved_at, event.cause or incident.cause))
            if event.kind is Kind.SITE_FLAPPING:
                why = "the site has calmed, and it still lasts"
                self._stand_for(site, incident.id, None, why)

    def put_incident(self, incident: Incident) -> None:
        """A new incident or its next revision: stored, and published unless work covers it."""
        if incident.firing:
            flaps = self.firing(incident.site, Kind.SITE_FLAPPING)
            group = incident.group
            if group is None and flaps is not None and flaps.id != incident.id:
                group = flaps.id
            work = self._memory.in_work(incident)
            incident = replace(incident, maintenance=work, group=group)
        self._firing[incident.site, incident.kind] = incident if incident.firing else None
        self._revisions.append(incident)

    def hold(self, site: str) -> None:
        """A site's own outage is not told yet: a group may take it over."""
        self._held.add(site)

    def revises(self, incident: Incident) -> bool:
        """Whether this transaction makes this revision of it, and so may tell it."""
        return any(one is incident for one in self._revisions)

    def remark(self, incident: Incident) -> None:
        """The next revision of an incident that may have ended: another may fire by now."""
        current = self.firing(incident.site, incident.kind)
        if current is not None and current.id == incident.id:
            self.put_incident(incident)
        else:
            self._revisions.append(incident)

    def post(self, topic: str, payload: bytes) -> None:
        """Publish retained, once the transaction has ended."""
        self._store.post(topic, payload)
        self.posts += 1

    def move(self, site: str, place: tuple[str, str] | None) -> None:
        """Clear the state topic where it stood; `None`: the site is gone."""
        old = self._memory.places.get(site)
        if old is not None and old != place:
            self.post(state_topic(*old, site), b"")
        if place is None:
            self.past.end(site)
            self._dropped.add(site)
            self._healths.pop(site, None)
            self._changed.pop(site, None)
            self._store.drop_health(site)
        else:
            self._places[site] = place
            self.show(site)

    def save(self, now: float) -> None:
        """Write everything; only inside a transaction."""
        store = self._store
        self.write_readings()
        for one, anchors in self._anchors.items():
            store.put_boots(one, anchors)
            self.past.put_right(one, self._memory.anchors.get(one, ()), anchors, now)
        self.past.save()
        self._unsettle(now)
        if self._streams:
            store.put_streams(self._streams.values())
        newest = {incident.id: incident for incident in self._revisions}
        for incident in self._revisions:
            if incident is newest[incident.id]:
                self._tell(incident, now)
            else:
                store.put_incident(incident, now)
        for site in self._healths:
            if site not in self._memory.places and site not in self._places:
                place = self._memory.site(site)
                self._places[site] = (place.district, place.isp)
                self.show(site)
        for site in self._changed:
            offline = self.firing(site, Kind.SITE_OFFLINE)
            where, work = self._memory.site(site), self.in_work(site)
            self.post(*payloads.state(where, self.health(site), offline, maintenance=work))
        store.put_healths(self._health_rows())

    def _unsettle(self, now: float) -> None:
        """Outages that ended, and all whose past is known better, are looked at again later."""
        for site, parts in self.past.painted.items():
            from_at = min(part.from_at for part in parts)
            self._store.unsettle(site, from_at, max(part.to_at for part in parts), now)
        for one in self._revisions:
            if one.kind is Kind.SITE_OFFLINE and one.resolved_at is not None:
                self._store.unsettle(one.site, one.opened_at, one.resolved_at, now)

    def _tell(self, incident: Incident, now: float) -> None:
        grouping = incident.kind is Kind.SITE_OFFLINE and incident.site in self._held
        held = grouping or self._blind
        spoken = voice.speak(incident, held=held, cleared=self._cleared(incident))
        self._store.put_incident(spoken.incident, now)
        if incident.firing:
            self._firing[incident.site, incident.kind] = spoken.incident
        for topic, payload in spoken.letters:
            self.post(topic, payload)
            if incident.resolved_at is not None:
                self._store.clear_later(topic, incident.resolved_at + self.retain_s)

    def _cleared(self, incident: Incident) -> bool:
        """Whether an alert that ended earlier stands no more: in time, or as its site moved."""
        before = self._memory.firing.get((incident.site, incident.kind))
        if incident.firing or (before is not None and before.id == incident.id):
            return False
        return not any(self._store.clears(topic) for topic, _ in voice.letters(incident))

    def _health_rows(self) -> list[HealthRow]:
        touched = {**{site: self.health(site) for site in self._places}, **self._healths}
        rows = []
        for site, health in touched.items():
            district, isp = self._places.get(site) or self._memory.places[site]
            run = self.past.run(site)
            due = self._dues[site] = due_at(health, self.rules(site))
            rows.append(HealthRow(health, due, district, isp, run))
        return rows

    def merge(self) -> None:
        """The transaction is durable: remember it."""
        memory = self._memory
        memory.keep(self._streams.values())
        memory.places.update(self._places)
        memory.anchors.update(self._anchors)
        memory.dues.update(self._dues)
        self.past.merge()
        for site in self._places:
            memory.healths.setdefault(site, Health(site))
        memory.healths.update(self._healths)
        for key, incident in self._firing.items():
            if incident is None:
                memory.firing.pop(key, None)
            else:
                memory.firing[key] = incident
        for site in self._dropped:
            memory.healths.pop(site, None)
            memory.places.pop(site, None)
            memory.dues.pop(site, None)
