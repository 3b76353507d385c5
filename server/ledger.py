"""``pantau incidents``: the ledger, what happened and why."""

from __future__ import annotations

import argparse

import msgspec

from agent.wire import iso
from server import payloads
from server.show import incident_table, open_for


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``pantau incidents …``."""
    ledger = commands.add_parser("incidents", help="the ledger: what happened, and why")
    ledger.add_argument("--json", action="store_true", help="one object a line")
    ledger.set_defaults(run=incidents)


def incidents(args: argparse.Namespace) -> int:
    """All incidents, oldest first; in JSON with every revision."""
    with open_for(args) as store:
        registry = store.sites()
        found = [(one, store.revisions(one.id)) for one in store.incidents()]
    if not args.json:
        incident_table([incident for incident, _ in found], registry)
        return 0
    for incident, revisions in found:
        body = payloads.alert_body(incident)
        body["revisions"] = [
            {"at": iso(at), **payloads.alert_body(revision)} for at, revision in revisions
        ]
        print(msgspec.json.encode(body).decode())
    return 0
