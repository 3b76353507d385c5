"""A small city of real parts: mosquitto, ``pantau ingest`` and ``pantau-agent run``.

    with City(tmp_path, authority, ["maesa-0001"]) as city:
        city.agents["maesa-0001"].start()

Every part is a process of its own with mutual TLS and the shipped ACL. With ``apart`` the
centre (broker and ingest) and each site live in namespaces of their own, joined by cables
that can be cut. What all parts said is printed when a test fails.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent import clock
from tests.lab.broker import Broker
from tests.lab.net import Namespace, cable, child_environment
from tests.lab.pki import Authority
from tests.lab.process import Service

_BIN = Path(sys.executable).parent
PANTAU, PANTAU_AGENT = str(_BIN / "pantau"), str(_BIN / "pantau-agent")
_CENTRE = "10.99.0.1"
_PLACES = (("Maesa", "Telkom"), ("Girian", "Biznet"), ("Lembeh Selatan", "Icon"))
_COMMAND_S = 60.0
HEALTH = {"offline_confirm_s": 2, "silence_windows": 20}
"""With windows of 1 s: a will tells of an outage long before silence does."""


class Agent(Service):
    """``pantau-agent run`` of one site; change `tables` before the start to configure it.

    Args:
        city: where it lives.
        site: its id.
        number: counts the sites of a city, from 1.
    """

    def __init__(self, city: City, site: str, number: int) -> None:
        folder = city.folder / site
        folder.mkdir()
        super().__init__(site, (), folder / "agent.log")
        self.site = site
        self.config = folder / "agent.toml"
        self.command_prefix: list[str] = []
        self.program = [PANTAU_AGENT]
        self.tables: dict[str, dict[str, Any]] = {
            "mqtt": {**city.broker.settings(site), "keepalive_s": 2},
            "reading": {"window_s": 1},
        }
        self.spool_in(folder / "spool")
        self._city = city
        self._number = number
        self._cable = ""
        self.namespace: Namespace | None = None

    def spool_in(self, folder: Path) -> None:
        """Have it keep its readings there."""
        self.spool = folder
        self.tables["spool"] = {"path": str(folder), "max_mb": 16}

    def join(self, stack: contextlib.ExitStack, centre: Namespace) -> None:
        """Give the site a namespace, and a cable to the centre."""
        self.namespace = stack.enter_context(Namespace())
        net = f"10.99.{self._number}"
        self._cable, _ = cable(centre, f"{net}.1/30", self.namespace, f"{net}.2/30")
        self.namespace.route("default", f"{net}.1")

    def start(self) -> None:
        self.config.write_text(toml({"site": self.site}, self.tables))
        run = [*self.command_prefix, *self.program, "run", "--config", str(self.config)]
        self.command = run if self.namespace is None else self.namespace.within(*run)
        super().start()

    def cut(self) -> None:
        """Nothing passes to or from the site any more, and nobody is told."""
        rules = [f"add table inet {self._cable}"]
        for hook, way in (("input", "iifname"), ("output", "oifname")):
            chain = f"inet {self._cable} {hook}"
            rules.append(f"add chain {chain} {{ type filter hook {hook} priority 0; }}")
            rules.append(f"add rule {chain} {way} {self._cable} drop")
        self._centre().run("nft", "; ".join(rules))  # all at one instant

    def mend(self) -> None:
        """Everything passes again."""
        self._centre().run("nft", f"delete table inet {self._cable}")

    def boot_anew(self, boot_id: str) -> None:
        """Start it in what is to it a kernel that has just booted under this id."""
        file = self.config.parent / "boot_id"
        file.write_text(boot_id + "\n")
        script = f'mount --bind {file} /proc/sys/kernel/random/boot_id && exec "$@"'
        just_booted = str(-int(clock.uptime_s() - 1))
        self.command_prefix = [
            *("unshare", "--mount", "--time", "--boottime", just_booted, "--fork", "--kill-child"),
            *("sh", "-c", script, "sh"),
        ]
        self.start()

    def _centre(self) -> Namespace:
        assert self._city.namespace is not None, "only sites of a city that is apart have a cable"
        return self._city.namespace


class City:
    """See the module. On entering, broker and ingest start; agents are started by the test.

    Args:
        folder: everything is kept here.
        authority: who signs the certificates; None: no TLS, no ACL.
        sites: ids, all of them registered; each has an agent.
        also: further registered sites, for whom a test speaks itself.
        apart: give every site a namespace, and a cable to cut (needs root).
        idle: start neither broker nor ingest on entering.
        health: keys of ``[health]`` besides `HEALTH`.
        broker_extra: further lines for mosquitto.conf.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority | None,
        sites: Sequence[str],
        *,
        also: Sequence[str] = (),
        apart: bool = False,
        idle: bool = False,
        health: Mapping[str, float] | None = None,
        broker_extra: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.namespace: Namespace | None = None
        self._stack = contextlib.ExitStack()
        host: dict[str, Any] = {}
        if apart:
            self.namespace = self._stack.enter_context(Namespace())
            self.namespace.ip("addr", "add", f"{_CENTRE}/32", "dev", "lo")
            host = {"host": _CENTRE, "port": 8883, "prefix": self.namespace.within()}
        self.broker = Broker(folder / "broker", authority=authority, extra=broker_extra, **host)
        self.config = folder / "server.toml"
        self.database = folder / "store" / "pantau.db"
        self.database.parent.mkdir()
        self.tables: dict[str, dict[str, Any]] = {
            "mqtt": {**self.broker.settings("_ingest"), "keepalive_s": 5},
            "store": {"url": f"sqlite:///{self.database}"},
            "health": {**HEALTH, **(health or {})},
        }
        self.ingest = Service("ingest", self._ingest_command(), folder / "ingest.log")
        self.agents = {site: Agent(self, site, n) for n, site in enumerate(sites, 1)}
        self._registered = [*sites, *also]
        self._idle = idle

    def _ingest_command(self) -> list[str]:
        run = [PANTAU, "ingest", "--config", str(self.config)]
        return run if self.namespace is None else self.namespace.within(*run)

    def _register(self) -> None:
        """Write the configuration, and import the sites; makes the database."""
        self.config.write_text(toml({}, self.tables))
        table = self.folder / "sites.csv"
        rows = [
            f"{site},Site {site},{district},{isp}"
            for n, site in enumerate(self._registered)
            for district, isp in [_PLACES[n % len(_PLACES)]]
        ]
        table.write_text("\n".join(["site,name,district,isp", *rows, ""]))
        self.pantau("sites", "import", str(table))

    def __enter__(self) -> Self:
        try:
            if self.namespace is not None:
                for agent in self.agents.values():
                    agent.join(self._stack, self.namespace)
            self._register()
            if not self._idle:
                self.broker.start()
                self.ingest.start()
                self.at_work()
        except BaseException as err:
            self.__exit__(type(err), err, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._stack:  # the namespaces go last
            for service in (*self.agents.values(), self.ingest):
                service.discard()
            self.broker.__exit__(None, None, None)
        if kind is not None:
            for service in (*self.agents.values(), self.ingest):
                print(service)
            print(Service("broker", (), self.broker.log))

    def at_work(self) -> None:
        """Wait until ingest has said, since its last start, that it is connected."""
        self.ingest.wait_for("connected to mqtt")

    def pantau(self, *arguments: str) -> str:
        """The output of a ``pantau`` command that must succeed."""
        return _output(PANTAU, *arguments, "--config", str(self.config))

    def rows(self, *arguments: str) -> Iterator[dict[str, Any]]:
        """The objects that a ``pantau`` command prints with ``--json``, one a line.

        Numbers with a point stay text, so that they can be compared to the last digit.
        """
        text = self.pantau(*arguments, "--json")
        for line in text.removesuffix("\n").split("\n") if text else ():  # U+2028 ends no line
            yield json.loads(line, parse_float=str)

    def status(self) -> dict[str, str]:
        """The verdict on each site, as ``pantau status`` tells it."""
        told = json.loads(self.pantau("status", "--json"))
        return {row["site"]: row["status"] for row in told["sites"]}


def spooled(agent: Agent) -> Iterator[dict[str, Any]]:
    """What ``pantau-agent spool`` prints of an agent, one object a reading."""
    text = _output(PANTAU_AGENT, "spool", "--json", "--config", str(agent.config))
    for line in text.splitlines():
        yield json.loads(line, parse_float=str)


def _output(*command: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        check=False,
        env=child_environment(),
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def toml(keys: Mapping[str, object], tables: Mapping[str, Mapping[str, object]]) -> str:
    """A TOML document of flat tables."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join([*lines, ""])
