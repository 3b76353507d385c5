"""Ingest takes notice of what people said of incidents: each gets another revision."""

from __future__ import annotations

from server import notes
from server.draft import Draft
from server.store import Store


def heed(draft: Draft, store: Store) -> None:
    """Put what was said since the last time into the incidents; inside a transaction."""
    through, incidents = store.noted()
    if not incidents:
        return
    for name in incidents:
        said = notes.said(store.notes(name))
        found = [one for one in store.find_incidents(name) if one.id == name]
        for incident in found:
            current = draft.firing(incident.site, incident.kind)
            if current is not None and current.id == name:
                incident = current
            if said != incident.said:
                draft.remark(incident.revised(said=said))
    store.set_noted(through)
