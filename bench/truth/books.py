"""The books: readings against the agents' journal, alerts against the ledger. Pure but for SQL.

Read from the store are the tables `readings` and `streams`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.truth.ending import Heard, seconds

Name = tuple[str, str, int]
"""Site, stream and seq of one reading."""
Json = dict[str, Any]


class Journal:
    """What the simulator wrote down while it ran.

    Attributes:
        made: every reading that an agent ever made, as often as it made one of that name.
        played: when each event began and ended, seconds since 1970.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.made: Counter[Name] = Counter()
        self.played: dict[str, tuple[float, float | None]] = {}
        for line in lines:
            row = json.loads(line)
            if "seq" in row:
                self.made[row["site"], row["stream"], row["seq"]] += 1
            elif "event" in row:
                self._event(row)

    def _event(self, row: Json) -> None:
        """An event that strikes many is noted by each process that plays some of them."""
        at, name = seconds(row["at"]), row["event"]
        began, ended = self.played.get(name, (at, None))
        if row["edge"] == "begin":
            self.played[name] = min(began, at), ended
        else:
            self.played[name] = began, at if ended is None else max(ended, at)


def stored(database: Path) -> Counter[Name]:
    """Every reading in the store, as often as it is there."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return Counter(
            db.execute(
                "SELECT site, stream, seq FROM readings JOIN streams ON streams.id = stream_id"
            )
        )


def readings(made: Counter[Name], kept: Counter[Name], waiting: set[str]) -> list[str]:
    """What is wrong with the readings, one line a fault; empty: none lost, none double.

    Args:
        waiting: sites that were cut off when the run ended: theirs may be missing still.
    """
    faults = {
        "lost": [n for n in made if n not in kept and n[0] not in waiting],
        "stored twice": [n for n, count in kept.items() if count > 1],
        "stored and never made": [n for n in kept if n not in made],
        "made twice under one name": [n for n, count in made.items() if count > 1],
    }
    return [
        f"{len(names)} readings {what}, such as {min(names)}"
        for what, names in faults.items()
        if names
    ]


_CONTENT = ("kind", "status", "sites", "opened_at", "detected_at", "resolved_at", "cause")


def alerts(heard: Iterable[Heard], ledger: Iterable[Json]) -> list[str]:
    """What was published and does not stand in the ledger, or the other way round.

    A group's alert is published once for each district and ISP, with its own sites,
    so sites are compared over all copies of a revision.
    """
    last: dict[str, Json] = {incident["id"]: incident for incident in ledger}
    told: dict[tuple[str, int], set[str]] = {}
    faults = []
    for one in heard:
        alert = one.alert
        key = alert["id"], alert["revision"]
        content = {name: alert.get(name) for name in _CONTENT if name != "sites"}
        told.setdefault(key, set()).add(json.dumps(content, sort_keys=True))
        if alert["id"] not in last:
            faults.append(f"alert {alert['id']} was published and is not in the ledger")
        elif alert["revision"] > last[alert["id"]]["revision"]:
            faults.append(f"alert {key} was published, the ledger ends before it")
    for key, contents in told.items():
        if len(contents) > 1:
            faults.append(f"alert {key} was published with {len(contents)} different contents")
    return sorted(set(faults))


def unlike(with_chaos: Json, without: Json) -> list[str]:
    """Sites whose final status differs between two runs of one story (`pantau status --json`)."""
    one = {row["site"]: row["status"] for row in with_chaos["sites"]}
    other = {row["site"]: row["status"] for row in without["sites"]}
    return [
        f"{site} is {one.get(site)} with chaos and {other.get(site)} without"
        for site in sorted(one.keys() | other.keys())
        if one.get(site) != other.get(site)
    ]
