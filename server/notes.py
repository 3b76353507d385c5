"""What people said of an incident, in short. Pure.

The last word of each kind counts. A ticket keeps what its later notes leave out;
a dispute stands until it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from server.model import Note, Said


def said(notes: Iterable[Note]) -> Said:
    """What all notes of one incident come to.

    Args:
        notes: oldest first.
    """
    so_far = Said()
    for note in notes:
        match note.kind:
            case "ack":
                so_far = replace(so_far, acknowledged=note)
            case "dispute":
                so_far = replace(so_far, disputed=note)
            case "settled":
                so_far = replace(so_far, disputed=None)
            case "ticket":
                so_far = replace(so_far, ticket=_merged(so_far.ticket, note))
            case "note":
                pass
    return so_far


def _merged(before: Note | None, note: Note) -> Note:
    """The newer words on a ticket; another reference is another ticket."""
    if before is None or note.text not in ("", before.text):
        return note
    return replace(
        note,
        text=before.text,
        responded_at=before.responded_at if note.responded_at is None else note.responded_at,
        restored_at=before.restored_at if note.restored_at is None else note.restored_at,
    )
