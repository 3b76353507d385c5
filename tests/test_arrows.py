"""Who may import whom. The map below is the architecture; any other arrow fails here."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_LONGEST_MODULE = 300

ALLOWED: dict[str, set[str]] = {
    # A room is a module, or a package with all that is in it; the longest name counts.
    # Within a room everything may import everything. `agent` alone is the version.
    "agent": set(),
    "agent.wire": set(),
    "agent.hotspot": set(),
    "agent.wpactl": set(),
    "agent.config": {"agent.hotspot", "agent.wire"},
    "agent.schedule": set(),
    "agent.measured": {"agent.wire"},
    "agent.window": {"agent.measured", "agent.wire"},
    "agent.clock": {"agent.wire"},
    "agent.helpers": {"agent.wpactl"},
    "agent.probes": {
        *("agent.hotspot", "agent.measured", "agent.schedule", "agent.wire", "agent.wpactl"),
    },
    "agent.spool": {"agent.wire"},
    "agent.publish": {"agent.config", "agent.schedule", "agent.spool", "agent.wire"},
    "agent.settings": {"agent.spool", "agent.wire"},
    "agent.control": {"agent.clock", "agent.settings", "agent.wire"},
    "agent.deeds": {
        *("agent.config", "agent.once", "agent.probes", "agent.publish", "agent.settings"),
        *("agent.spool", "agent.tracing", "agent.wire"),
    },
    "agent.proving": {"agent.spool", "agent.wire"},
    "agent.safe": {"agent.spool"},
    "agent.budget": set(),
    "agent.metered": set(),
    "agent.traffic": {"agent.config", "agent.metered", "agent.wire"},
    "agent.meter": {
        *("agent.config", "agent.metered", "agent.schedule", "agent.spool", "agent.traffic"),
        "agent.wire",
    },
    "agent.throughput": {
        *("agent.budget", "agent.config", "agent.meter", "agent.probes", "agent.settings"),
        *("agent.spool", "agent.traffic", "agent.wire"),
    },
    "agent.local": set(),
    "agent.memory": set(),
    "agent.systemd": set(),
    # Wiring: from here on the agent is put together.
    "agent.once": {
        *("agent.clock", "agent.config", "agent.hotspot", "agent.measured", "agent.probes"),
        *("agent.schedule", "agent.window", "agent.wire"),
    },
    "agent.tracing": {"agent.config", "agent.probes", "agent.wire"},
    "agent.measuring": {
        *("agent.clock", "agent.config", "agent.measured", "agent.metered", "agent.once"),
        *("agent.probes", "agent.schedule", "agent.tracing", "agent.traffic", "agent.window"),
        "agent.wire",
    },
    "agent.check": {
        *("agent.clock", "agent.config", "agent.local", "agent.measured", "agent.once"),
        *("agent.probes", "agent.publish", "agent.spool", "agent.wire"),
    },
    "agent.service": {"agent.*"},
    "agent.main": {"agent.*"},
    # The server. It knows of the agent what is on the wire, and nothing else.
    "server": set(),
    "server.model": set(),
    "server.seqset": set(),
    "server.resend": {"agent.wire"},
    "server.notify": set(),
    "server.clock": {"agent.wire"},
    "server.history": {"agent.wire"},
    "server.causes": {"server.model", "agent.wire"},
    "server.fits": {"server.model"},
    "server.groups": {"server.fits", "server.model"},
    "server.grouping": {"server.groups", "server.fits", "server.causes", "server.model"},
    "server.gap": {"agent.wire"},
    "server.others": {"server.model"},
    "server.review": {
        *("server.causes", "server.gap", "server.model", "server.others", "agent.wire"),
    },
    "server.untried": {"agent.wire"},
    "server.access_points": {"server.untried", "agent.wire"},
    "server.troubles": {"server.events", "server.untried", "server.model", "agent.wire"},
    "server.edges": set(),
    "server.sla": {"server.edges", "server.model"},
    "server.online": {"server.edges", "server.sla"},
    "server.statement": {"server.sla", "server.model"},
    "server.periods": {"server.dates", "server.edges", "server.sla"},
    "server.notes": {"server.model"},
    "server.events": {"server.model"},
    "server.flapping": {"server.model"},
    "server.health": {
        *("server.access_points", "server.causes", "server.events", "server.flapping"),
        *("server.live", "server.troubles", "server.model", "agent.wire"),
    },
    "server.live": {"server.causes", "server.gap", "server.model", "agent.wire"},
    "server.payloads": {"server.access_points", "server.health", "server.model", "agent.wire"},
    "server.dates": set(),
    "server.terms": {"server.model"},
    "server.sheet": set(),
    "server.registry": {
        *("server.dates", "server.sheet", "server.terms", "server.model", "agent.wire"),
    },
    "server.maintenance": {"server.dates", "server.model"},
    "server.contracts": {"server.dates", "server.model", "agent.wire"},
    "server.replay": {"server.events", "server.health", "server.model", "agent.wire"},
    "server.rules": {"server.model"},
    "server.inforce": {"server.maintenance", "server.rules", "server.terms", "server.model"},
    "server.config": {"server.rules", "server.model"},
    # What health remembers of a site is what is stored of it.
    "server.timeline": {"agent.wire"},
    "server.past": {"server.clock", "server.timeline", "server.store", "agent.wire"},
    "server.store": {
        *("server.health", "server.seqset", "server.terms", "server.timeline"),
        *("server.model", "agent.wire"),
    },
    "server.voice": {"server.grouping", "server.health", "server.payloads", "server.model"},
    "server.groupwork": {
        *("server.grouping", "server.groups", "server.health", "server.store", "server.model"),
    },
    "server.mqtt": {"server.config"},
    "server.deadman": {"server.config"},
    "server.memory": {
        *("server.clock", "server.health", "server.inforce", "server.past", "server.store"),
        "server.model",
    },
    "server.draft": {
        *(
            "server.clock",
            "server.events",
            "server.health",
            "server.memory",
            "server.past",
            "server.payloads",
        ),
        *("server.store", "server.voice", "server.model", "agent.wire"),
    },
    "server.lasting": {"server.model"},
    "server.settle": {
        *("server.causes", "server.draft", "server.lasting", "server.others", "server.review"),
        *("server.store", "server.terms", "server.timeline", "server.model", "agent.wire"),
    },
    "server.remarks": {"server.draft", "server.notes", "server.store"},
    "server.intake": {
        *("server.clock", "server.draft", "server.health", "server.seqset", "server.store"),
        *("server.model", "agent.wire"),
    },
    "server.moving": {
        *("server.causes", "server.draft", "server.health", "server.memory", "server.store"),
        *("server.events", "server.flapping", "server.troubles"),
        *("server.model", "agent.wire"),
    },
    "server.stands": {
        *("server.memory", "server.model", "server.payloads", "server.store", "server.voice"),
        "agent.wire",
    },
    "server.ingest": {
        *(
            "server.memory",
            "server.moving",
            "server.inforce",
            "server.rules",
            "server.draft",
            "server.groupwork",
            "server.intake",
            "server.lasting",
            "server.remarks",
            "server.settle",
            "server.stands",
            "server.voice",
            "server.health",
            "server.causes",
        ),
        *("server.payloads", "server.store", "server.model", "agent.wire"),
    },
    "server.alerts": {"server.model", "server.store"},
    "server.urgency": {"server.mqtt", "server.payloads", "agent.wire"},
    "server.session": {
        *("server.alerts", "server.ingest", "server.intake", "server.mqtt", "server.urgency"),
        *("server.notify", "server.payloads", "server.resend", "server.store", "agent.wire"),
    },
    # The fleet's sites send as agents do, by the agent's own decisions.
    "server.fleet": {
        *("agent.measured", "agent.publish", "agent.schedule", "agent.spool", "agent.window"),
        *("server.config", "server.mqtt", "server.registry", "server.sheet", "server.show"),
        *("server.model", "agent.wire"),
    },
    # Wiring, and what people look at.
    "server.witness": {"server.config", "server.notify", "server.model", "server.store"},
    "server.show": {"server.*", "agent.wire"},
    "server.ledger": {"server.*", "agent.wire"},
    "server.forms": {"server.*", "agent.wire"},
    "server.report": {"server.*", "agent.wire"},
    "server.sites": {"server.*", "agent.wire"},
    "server.backup": {"server.*", "agent.wire"},
    "server.desk": {"server.*", "agent.wire"},
    "server.demo": {"server.*", "agent.spool", "agent.wire"},
    "server.cli": {"server.*", "agent.wire"},
    "server.main": {"server.*", "agent.wire"},
}

ONLY_IN: dict[str, tuple[str, ...]] = {
    # Each of these is known in one place. A name ending in * stands for all that begin so.
    "scapy": ("agent.helpers",),
    "pyroute2": ("agent.probes.clients", "agent.helpers.wifi_scan"),
    "speedtest": ("agent.helpers.throughput",),
    "psutil": ("agent.probes", "agent.window"),
    "paho": ("agent.publish",),
    "gmqtt": ("server.mqtt",),
    "amqtt": ("server.demo*",),
    "rich": ("server.show", "server.demo*"),
    "sqlite3": ("server.store.sqlite", "server.store.copy"),
}
EVERYWHERE = {"msgspec"}

PURE = (
    *("agent.window", "agent.schedule", "agent.wire", "agent.measured", "agent.budget"),
    *("agent.metered", "server.fleet.link", "server.fleet.registry", "server.fleet.story"),
    *("server.model", "server.health", "server.causes", "server.troubles", "server.sla"),
    *("server.notes", "server.edges", "server.statement", "server.periods", "server.online"),
    *("server.fits", "server.groups", "server.grouping", "server.review", "server.timeline"),
    *("server.voice", "server.untried", "server.urgency", "server.mqtt.queue", "server.others"),
    *("server.seqset", "server.resend", "server.clock", "server.history", "server.payloads"),
    *("server.dates", "server.sheet", "server.terms", "server.registry"),
    *("server.maintenance", "server.rules", "server.contracts", "server.replay"),
    "server.inforce",
    *("server.gap", "server.live", "agent.publish.drain", "agent.publish.pace"),
    "agent.publish.tempo",
)
"""Decisions: no clock, no chance, no input or output. Time and a seeded source are arguments."""
PURE_MAY_IMPORT = {
    *("__future__", "abc", "bisect", "collections", "csv", "dataclasses", "datetime", "enum"),
    *("functools", "hashlib", "heapq", "io", "itertools", "json", "math", "operator", "random"),
    *("re", "statistics", "string", "tomllib", "types", "typing", "zlib", "zoneinfo", "msgspec"),
    "uuid",
}
CLOCKS = {"now", "utcnow", "today", "uuid1", "uuid4", "getnode"}
"""Calls of these names are refused in a pure module, whatever they are called on."""
STDLIB_ONLY = ("server.model", "server.sheet")


def _modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    files = [file for top in ("agent", "server") for file in sorted((_ROOT / top).rglob("*.py"))]
    names = (".".join(file.relative_to(_ROOT).with_suffix("").parts) for file in files)
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


MODULES = _modules()


def imports(source: str) -> Iterator[str]:
    """The dotted names that `source` imports, wherever in it that is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: name the module in full"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def _under(name: str, place: str) -> bool:
    if place.endswith("*"):
        return name.startswith(place[:-1])
    return name == place or name.startswith(place + ".")


def room(name: str) -> str | None:
    """The room that a module of ours belongs to."""
    if name in ("agent", "server"):
        return name
    rooms = [r for r in ALLOWED if _under(name, r) and r not in ("agent", "server")]
    return max(rooms, key=len, default=None)


def faults(name: str, source: str) -> Iterator[str]:
    """Each forbidden thing that the module `name` with this source does."""
    here = room(name)
    if here is None:
        yield f"{name} has no room in ALLOWED"
        return
    pure = any(_under(name, place) for place in PURE)
    for target in imports(source):
        top = target.partition(".")[0]
        if top in ("agent", "server"):
            there = room(target)
            same = there == here or target == name.partition(".")[0] == "agent"
            if not same and not any(there and _under(there, ok) for ok in ALLOWED[here]):
                yield f"{name} imports {target}"
            continue
        if top in ONLY_IN:
            if not any(_under(name, place) for place in ONLY_IN[top]):
                yield f"{name} imports {target}, which only {', '.join(ONLY_IN[top])} may"
        elif top not in sys.stdlib_module_names and top not in EVERYWHERE:
            yield f"{name} imports {target}, which is on no list"
        if name in STDLIB_ONLY and top not in sys.stdlib_module_names:
            yield f"{name} imports {target} and is to know the standard library alone"
        if pure and top not in PURE_MAY_IMPORT:
            yield f"{name} is pure and imports {target}"
    if pure:
        yield from _impure_calls(name, source)


def _impure_calls(name: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            last = called.rpartition(".")[2]
            if last in CLOCKS or called in ("open", "print", "input"):
                yield f"{name} is pure and calls {called}()"
        # Of `random` only the class, which is seeded or passed in; never the shared source.
        if isinstance(node, ast.Attribute) and node.attr != "Random" and _is_random(node.value):
            yield f"{name} is pure and uses random.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield f"{name} is pure and imports from random"


def _is_random(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "random"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_the_arrows_allow(name: str) -> None:
    assert list(faults(name, MODULES[name].read_text())) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_enough_to_be_read_at_once(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= _LONGEST_MODULE


def test_the_arrows_run_in_no_circle() -> None:
    rooms = {name: set[str]() for name in ALLOWED}
    for name, file in MODULES.items():
        here = room(name)
        assert here is not None
        for target in imports(file.read_text()):
            there = room(target) if target.partition(".")[0] in ("agent", "server") else None
            if there not in (None, here, "agent", "server"):
                rooms[here].add(str(there))
    while leaves := [name for name, targets in rooms.items() if not targets & rooms.keys()]:
        for leaf in leaves:
            del rooms[leaf]
    assert {name: targets & rooms.keys() for name, targets in rooms.items()} == {}


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("agent.wire.codec", "import agent.spool", "imports agent.spool"),
        ("agent.window", "from agent import spool", "imports agent.spool"),
        ("agent.window", "from agent.publish import Publisher", "imports agent.publish"),
        ("agent.spool.store", "def f():\n    from agent import publish", "imports agent.publish"),
        ("agent.main", "from server import model", "imports server.model"),
        ("agent.service", "import server", "imports server"),
        ("server.cli", "from agent import spool", "imports agent.spool"),
        ("server.cli", "import agent", "imports agent"),
        ("server.health", "from server import store", "imports server.store"),
        ("server.health", "from server.store import Store", "imports server.store"),
        ("server.store.sqlite", "from server import ingest", "imports server.ingest"),
        ("server.model", "from agent.wire import Reading", "imports agent.wire"),
        ("server.model", "import msgspec", "standard library alone"),
        ("server.brandnew", "import json", "has no room"),
        ("agent.probes.icmp", "from scapy.all import sr1", "only agent.helpers may"),
        ("agent.probes.link", "import pyroute2", "only agent.probes.clients, "),
        ("agent.probes.web", "import speedtest", "only agent.helpers.throughput may"),
        ("agent.control", "import paho.mqtt.client", "only agent.publish may"),
        ("server.session", "import gmqtt", "only server.mqtt may"),
        ("server.main", "import amqtt.broker", "only server.demo* may"),
        ("server.ingest", "import sqlite3", "only server.store.sqlite, server.store.copy may"),
        ("server.store", "import sqlite3", "only server.store.sqlite, server.store.copy may"),
        ("server.main", "import requests", "on no list"),
        ("server.health", "import time", "pure and imports time"),
        ("server.health", "if TYPE:\n    import os", "pure and imports os"),
        ("agent.wire.codec", "import socket", "pure and imports socket"),
        ("server.seqset", "from pathlib import Path", "pure and imports pathlib"),
        ("server.causes", "datetime.now(UTC)", "pure and calls datetime.now()"),
        ("server.causes", "import datetime\ndatetime.datetime.utcnow()", "utcnow()"),
        ("server.model", "x = lambda: open('/x')", "pure and calls open()"),
        ("server.model", "import uuid\nuuid.uuid4()", "pure and calls uuid.uuid4()"),
        ("agent.schedule", "import random\nrandom.uniform(0, 1)", "uses random.uniform"),
        ("agent.schedule", "from random import random", "imports from random"),
    ],
)
def test_the_check_bites(name: str, source: str, fault: str) -> None:
    assert [found for found in faults(name, source) if fault in found]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("agent.main", "from agent import spool, publish, probes"),
        ("agent.publish.connection", "import paho.mqtt.client as mqtt"),
        ("agent.publish.publisher", "from agent import __version__, wire"),
        ("server.cli", "from agent import wire\nfrom server import store"),
        ("server.demo.broker", "from amqtt.broker import Broker"),
        ("agent.schedule", "import random\ndef f(rng: random.Random): return rng.random()"),
    ],
)
def test_the_check_lets_through_what_is_allowed(name: str, source: str) -> None:
    assert list(faults(name, source)) == []


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="relative import"):
        list(imports("from . import wire"))


JUDGE_MAY_IMPORT = {"bench.truth", "paho", "tests.lab", "tests.wait"}
"""The judge shares no code with the judged; the lab starts brokers and commands for it."""


def judge_faults(source: str) -> list[str]:
    """What a module of `bench/truth` imports and may not."""
    return [
        target
        for target in imports(source)
        if target.partition(".")[0] not in sys.stdlib_module_names | {"__future__"}
        and not any(_under(target, place) for place in JUDGE_MAY_IMPORT)
    ]


@pytest.mark.parametrize(
    "file", sorted((_ROOT / "bench" / "truth").glob("*.py")), ids=lambda f: f.name
)
def test_the_judge_shares_no_code_with_the_judged(file: Path) -> None:
    source = file.read_text()
    assert judge_faults(source) == []
    assert len(source.splitlines()) <= _LONGEST_MODULE


def test_the_check_of_the_judge_bites() -> None:
    assert judge_faults("from server.sla import Record\nfrom agent import wire\nimport json") == [
        "server.sla",
        "agent.wire",
    ]
