"""``pantau incidents``: the ledger, what happened and why, and what people say of it."""

from __future__ import annotations

import argparse
import getpass
import time
from dataclasses import fields, replace

import msgspec

from agent.wire import iso
from server import notes, payloads
from server.dates import DateError, instant
from server.model import Incident, Note, NoteKind, Site, unregistered
from server.show import CommandError, UsageError, incident_table, local, open_for
from server.store import Store

_SAYS: dict[NoteKind, tuple[str, str]] = {
    "ack": ("ack", "somebody has seen it and looks after it"),
    "note": ("note", "add a remark"),
    "dispute": ("dispute", "somebody holds it to be wrong; the figures stay"),
    "settled": ("settle", "the dispute is over"),
}
_UNTOLD = ("id", "revision", "site", "held_until", "told", "places")
"""Fields of a revision that say nothing to a person."""


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau incidents …``."""
    ledger = commands.add_parser("incidents", help="the ledger: what happened, and why")
    ledger.add_argument("--json", action="store_true", help="one object a line")
    ledger.set_defaults(run=incidents)
    verbs = ledger.add_subparsers(dest="verb", metavar="VERB")
    one = verbs.add_parser("show", help="one incident: edges, cause, revisions, notes")
    one.add_argument("id", metavar="ID", help="the id, or as much of it as tells it from others")
    one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one object")
    one.set_defaults(run=show)
    for kind, (verb, told) in _SAYS.items():
        one = verbs.add_parser(verb, help=told)
        one.add_argument("id", metavar="ID")
        one.add_argument("text", metavar="TEXT", nargs="?" if kind == "ack" else None, default="")
        _add_who(one)
        one.set_defaults(run=say, kind=kind)
    one = verbs.add_parser("ticket", help="the ISP's reference, and when it answered and repaired")
    one.add_argument("id", metavar="ID")
    one.add_argument("text", metavar="REFERENCE", help="as the ISP gave it")
    for name, told in (("responded", "the ISP answered"), ("restored", "the ISP had repaired it")):
        one.add_argument(f"--{name}", metavar="TIME", help=f"when {told}, by its own account")
    _add_who(one)
    one.set_defaults(run=say, kind="ticket")


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--who", metavar="NAME", help="who says so (default: who is logged in)")


def incidents(args: argparse.Namespace) -> int:
    """All incidents, oldest first; in JSON with every revision."""
    with open_for(args) as store:
        registry = store.sites()
        found = [(one, store.revisions(one.id)) for one in store.incidents()]
    if not args.json:
        incident_table([incident for incident, _ in found], registry)
        return 0
    for incident, revisions in found:
        print(msgspec.json.encode(_body(incident, revisions)).decode())
    return 0


def _body(incident: Incident, revisions: list[tuple[float, Incident]]) -> dict[str, object]:
    body = payloads.alert_body(incident)
    body["revisions"] = [{"at": iso(at), **payloads.alert_body(one)} for at, one in revisions]
    return body


def _find(store: Store, prefix: str) -> Incident:
    found = store.find_incidents(prefix) if prefix else []
    if not found:
        raise CommandError(f"no incident {prefix!r}; see 'pantau incidents'")
    if len(found) > 1:
        raise CommandError(f"more than one incident begins with {prefix!r}; give more of its id")
    return found[0]


def say(args: argparse.Namespace) -> int:
    """Keep what somebody says of an incident; a running ingest publishes it within 10 s."""
    text = args.text.strip()
    if not text and args.kind != "ack":
        raise UsageError("TEXT: is empty")
    with open_for(args) as store, store.transaction():
        incident = _find(store, args.id)
        site = _site(store, incident)
        note = Note(
            incident=incident.id,
            at=time.time(),
            who=args.who or getpass.getuser(),
            kind=args.kind,
            text=text,
            responded_at=_moment("--responded", getattr(args, "responded", None), site),
            restored_at=_moment("--restored", getattr(args, "restored", None), site),
        )
        if note.kind == "settled" and notes.said(store.notes(incident.id)).disputed is None:
            raise CommandError(f"incident {incident.id} is not disputed")
        store.add_note(note)
    print(f"{incident.id}: {_told(note, site)}")
    return 0


def _moment(option: str, text: str | None, site: Site) -> float | None:
    try:
        return None if text is None else instant(text, site.timezone)
    except DateError as err:
        raise UsageError(f"{option}: {err}") from None


def _site(store: Store, incident: Incident) -> Site:
    return store.sites().get(incident.site) or unregistered(incident.site)


def show(args: argparse.Namespace) -> int:
    """Everything that the ledger has on one incident."""
    with open_for(args) as store:
        incident = _find(store, args.id)
        revisions = store.revisions(incident.id)
        spoken = store.notes(incident.id)
        site = _site(store, incident)
    incident = replace(incident, said=notes.said(spoken))
    if args.json:
        body = _body(incident, revisions)
        body["down"] = [
            {"from": iso(begin), "to": None if end is None else iso(end)}
            for begin, end in incident.down or ()
        ]
        body["down_known"] = incident.down is not None
        body["notes"] = [payloads.note(one) for one in spoken]
        body["changes"] = [
            {"revision": one.revision, "at": iso(at), "changed": changed}
            for (at, one), changed in zip(revisions, _changes(revisions), strict=True)
        ]
        print(msgspec.json.encode(body).decode())
        return 0
    _print_incident(incident, site)
    print("revisions")
    for (at, one), changed in zip(revisions, _changes(revisions), strict=True):
        print(f"  {one.revision:<4} {local(site, at)}  {', '.join(changed) or 'opened'}")
    if spoken:
        print("notes")
    for said in spoken:
        print(f"  {local(site, said.at)}  {said.who}: {_told(said, site)}")
    return 0


def _print_incident(one: Incident, site: Site) -> None:
    lines = {
        "id": one.id,
        "what": f"{one.kind}: {one.title}",
        "where": f"{one.district}, {one.isp}",
        "opened": f"{local(site, one.opened_at)} (the last sign of life before)",
        "detected": local(site, one.detected_at),
        "resolved": "still firing" if one.resolved_at is None else local(site, one.resolved_at),
        "cause": f"{one.cause.verdict}, confidence {one.cause.confidence:g}",
    }
    for name, value in lines.items():
        print(f"{name:<12} {value}")
    for line in one.cause.evidence:
        print(f"{'':<12} {line}")
    if one.down is None:
        print(f"{'down':<12} not known: no reading tells of it")
    for begin, end in one.down or ():
        print(f"{'down':<12} {local(site, begin)} to {'now' if end is None else local(site, end)}")
    if one.group is not None:
        print(f"{'part of':<12} {one.group}")
    if one.sites:
        print(f"{'sites':<12} {', '.join(one.sites)}")
    if one.maintenance:
        print(f"{'maintenance':<12} it fell into announced work, and was not alerted")
    for name, said in (("ticket", one.said.ticket), ("disputed", one.said.disputed)):
        if said is not None:
            print(f"{name:<12} {_told(said, site)}")


def _told(note: Note, site: Site) -> str:
    """A note in a line."""
    parts = [note.text if note.kind == "note" else f"{note.kind} {note.text}".rstrip()]
    for word, at in (("responded", note.responded_at), ("restored", note.restored_at)):
        if at is not None:
            parts.append(f"{word} {local(site, at)}")
    return ", ".join(parts)


def _changes(revisions: list[tuple[float, Incident]]) -> list[list[str]]:
    """What each revision changed: the fields that differ, the cause in words."""
    found: list[list[str]] = []
    before: Incident | None = None
    for _, one in revisions:
        found.append([] if before is None else _changed(before, one))
        before = one
    return found


def _changed(before: Incident, after: Incident) -> list[str]:
    found = []
    for name in (one.name for one in fields(Incident) if one.name not in _UNTOLD):
        was, now = getattr(before, name), getattr(after, name)
        if was == now:
            continue
        if name == "cause":
            found.append(f"cause {was.verdict} -> {now.verdict} ({now.confidence:g})")
        elif name == "resolved_at":
            found.append("firing again" if now is None else "resolved")
        else:
            found.append(name)
    return found
