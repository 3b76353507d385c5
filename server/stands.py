"""All that should stand retained at the broker, from what ingest remembers and has stored."""

from __future__ import annotations

import math
from collections.abc import Iterator

from agent import wire
from server import payloads, voice
from server.memory import Memory
from server.model import Kind
from server.store import Store

Letter = tuple[str, bytes]


def everything(memory: Memory, store: Store) -> Iterator[Letter]:
    """Alerts that fire, or ended and are not cleared yet; states, acks."""
    for incident in memory.firing.values():
        yield from voice.standing(incident)
    yield from _ended(store)
    for name, one in memory.healths.items():
        offline = memory.firing.get((name, Kind.SITE_OFFLINE))
        work = name in memory.worked_on
        yield payloads.state(memory.site(name), one, offline, maintenance=work)
    seen = {name: one.seen.stream for name, one in memory.healths.items() if one.seen}
    for site, stream, through in store.newest_streams(seen):
        ack = wire.Ack(v=wire.VERSION, stream=stream, through=through)
        yield wire.site_topic(site, "acks"), wire.encode(ack)


def _ended(store: Store) -> Iterator[Letter]:
    topics = set(store.clear_due(math.inf))
    for identity in sorted({topic.rpartition("/")[2] for topic in topics}):
        incident = store.incident(identity)
        if incident is not None:
            yield from (letter for letter in voice.letters(incident) if letter[0] in topics)
