"""Broker, ingest and fleet of one run, and what each phase of it shows."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.storming import certificates
from bench.storming.bound import BROKER, bounded, elsewhere
from bench.storming.meter import Meter, Sample, cores, peak_rss_mib
from bench.storming.probe import SITE, Probe
from bench.storming.story import START_OVER_S, Phase, phases, story
from bench.truth.centre import PANTAU
from tests.lab.broker import Broker
from tests.lab.pki import Authority
from tests.lab.process import Service

_NAMES = ("broker", "ingest", "simulator")
_BACKLOG_MOST_S = 3600.0
_FIRST_WINDOW_S = 20.0
_LOWER = ("nice", "-n", "5")
"""The devices' half of the work is done on the devices, not on the centre's processors."""


class Run:
    """Broker, ingest, simulator, probe and meter.

    Args:
        ends: ends all of them.
    """

    def __init__(self, args: argparse.Namespace, folder: Path, ends: contextlib.ExitStack) -> None:
        self._args, self._folder = args, folder
        sites = folder / "sites.csv"
        self._run("simulate", "--sites", str(args.sites), "--write-registry", str(sites))
        names = [line.partition(",")[0] for line in sites.read_text().splitlines()[1:]]
        authority = None if args.plain else Authority(folder / "authority")
        self._certificates: Path | None = None
        if authority is not None:
            self._certificates = certificates.sign(
                authority, [*names, "_ingest", SITE], folder / "certificates"
            )
        self._ends = ends
        self._before = ends.enter_context(elsewhere())
        self.broker = ends.enter_context(
            Broker(folder / "broker", authority=authority, host=BROKER)
        )
        if args.connects_per_s:
            ends.enter_context(bounded(self.broker.port, args.connects_per_s))
        store = f'[store]\nurl = "sqlite:///{folder}/pantau.db"\n'
        config = folder / "server.toml"
        config.write_text(self._mqtt(authority, "_ingest") + store)
        self._at_broker = folder / "fleet.toml"
        self._at_broker.write_text(self._mqtt(authority, SITE))
        with sites.open("a") as file:
            columns = sites.read_text().partition("\n")[0].count(",")
            file.write(f"{SITE},Probe,girian,telkom{',' * (columns - 3)}\n")
        self._run("sites", "import", str(sites), "--config", str(config))
        command = [str(PANTAU), "ingest", "--config", str(config)]
        self.ingest = Service("ingest", command, folder / "ingest.log")
        self.ingest.start()
        ends.callback(self.ingest.discard)
        time.sleep(5)
        tls = None
        if authority is not None and self._certificates is not None:
            own = self._certificates
            tls = (authority.ca, own / f"{SITE}.crt", own / f"{SITE}.key")
        self.probe = Probe(self.broker.host, self.broker.port, tls)
        ends.callback(self.probe.close)
        self._registry = folder / "fleet.csv"
        self._registry.write_text("".join(sites.read_text().splitlines(True)[:-1]))
        self._spools = Path(tempfile.mkdtemp(prefix="pantau-storms-", dir="/dev/shm"))
        ends.callback(shutil.rmtree, self._spools, ignore_errors=True)
        self._simulator: subprocess.Popen[str] | None = None

    def _mqtt(self, authority: Authority | None, name: str) -> str:
        lines = ["[mqtt]", f'url = "{self.broker.url}"']
        if authority is not None and self._certificates is not None:
            lines.append(f'ca_file = "{authority.ca}"')
            for key, end in (("cert_file", "crt"), ("key_file", "key")):
                lines.append(f'{key} = "{self._certificates / name}.{end}"')
        return "\n".join([*lines, ""])

    @staticmethod
    def _run(*arguments: str) -> None:
        subprocess.run([str(PANTAU), *arguments], check=True, stdout=subprocess.DEVNULL)

    def _simulate(self, minutes: float, *more: str) -> None:
        args = self._args
        command = [
            *(*self._before, *_LOWER, str(PANTAU), "simulate", "--json"),
            *("--registry", str(self._registry), "--config", str(self._at_broker)),
            *("--minutes", str(minutes)),
            *("--window-s", str(args.window_s), "--processes", str(args.processes), *more),
        ]
        if self._certificates is not None:
            command += ["--certificates", str(self._certificates)]
        log = (self._folder / "simulator.log").open("w")
        self._simulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.meter = Meter(self._pids, self._simulator)
        self._ends.callback(self._end_simulator)

    def _pids(self) -> dict[str, int]:
        found = {}
        for name, one in (("broker", self.broker), ("ingest", self.ingest)):
            try:
                found[name] = one.pid
            except AssertionError:
                continue
        if self._simulator is not None:
            found["simulator"] = self._simulator.pid
        return found

    def storms(self) -> list[dict[str, Any]]:
        """Everything but the backlog, one after the other."""
        run = phases(lossy=not self._args.no_lossy)
        if self._args.rest:
            run = run[:2]
        file = self._folder / "story.toml"
        begins = time.time() + 5
        begins_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begins))
        told = story(self._registry.read_text(), run, 0.0)
        file.write_text(f'{told}\n[fleet]\nbegins_at = "{begins_at}"\n')
        minutes = run[-1].to_s / 60 + 1
        more = ("--story", str(file), "--starts-over-s", str(START_OVER_S))
        self._simulate(minutes, *more)
        rows = []
        while not self.meter.fleet:
            time.sleep(0.1)
        first = time.time() - begins if run else 0.0  # loading takes its time; so the sites start
        for phase in run:
            from_s = phase.from_s + (first if phase.from_s == 0 else 0)
            time.sleep(max(0.0, begins + from_s - time.time()))
            if phase.restart:
                self.broker.stop()
                self.broker.start()
            time.sleep(max(0.0, begins + phase.to_s - time.time()))
            rows.append(self._row(phase, begins + from_s, begins + phase.to_s))
            print(f"{phase.name}: done", file=sys.stderr, flush=True)
        return rows

    def backlog(self) -> list[dict[str, Any]]:
        """Every site begins with hours of readings that nobody has, as soon as it is connected."""
        spools = ("--spools", str(self._spools))
        # First as on any other day, so that the centre knows every site, and keeps its acks.
        over_s = str(self._args.sites / (self._args.connects_per_s or 150))
        first = ("--window-s", str(_FIRST_WINDOW_S), "--starts-over-s", over_s)
        self._simulate(_BACKLOG_MOST_S / 60, *first, *spools)
        self._until_drained(1.0)
        self._end_simulator()
        self._simulate(_BACKLOG_MOST_S / 60, "--backlog-h", str(self._args.backlog_h), *spools)
        while self.meter.fleet.get("connected", 0) == 0:
            time.sleep(0.5)
        began = time.time()
        self._until_drained(0.98)
        time.sleep(5)
        name = f"{self._args.backlog_h:g} h of backlog"
        row = self._row(Phase(name, 0, 0), began, time.time())
        made = self.meter.samples[-1].fleet["made"]
        return [{**row, "readings": made, "readings_per_s": round(made / (time.time() - began))}]

    def _until_drained(self, share: float) -> None:
        """Until that part of all is in and nothing waits, or for as long as anybody would."""
        end, sites = time.time() + _BACKLOG_MOST_S, self._args.sites
        while time.time() < end:
            time.sleep(1)
            fleet = self.meter.fleet
            if fleet.get("connected", 0) >= share * sites and fleet["unreleased"] <= sites / 10:
                return

    def _row(self, phase: Phase, from_at: float, to_at: float) -> dict[str, Any]:
        taken = self.meter.between(from_at, to_at)
        sites = self._args.sites
        late = sorted(self.probe.between(from_at, to_at))
        row: dict[str, Any] = {
            "phase": phase.name,
            "connected_98_s": _since(taken, from_at, lambda one: one["connected"] >= 0.98 * sites),
            "all_connected_s": _since(taken, from_at, lambda one: one["connected"] >= sites),
            # A reading may wait for its ack for a moment, also at rest.
            "drained_s": _since(taken, from_at, lambda one: one["unreleased"] <= sites / 10),
            "unreleased_most": max((one.fleet.get("unreleased", 0) for one in taken), default=0),
            "late_p50_s": round(late[len(late) // 2], 1) if late else None,
            "late_p95_s": round(late[len(late) * 95 // 100], 1) if late else None,
            "late_max_s": round(late[-1], 1) if late else None,
            # What the fleet itself does too late, since it shares the machine, is in all of these.
            "fleet_late_max_s": round(
                max((one.fleet.get("late_s", 0) for one in taken), default=0), 1
            ),
            "late_n": len(late),
        }
        for name in _NAMES:
            mean, most = cores(taken, name)
            row[name] = {
                "cores_mean": round(mean, 3),
                "cores_5s_most": round(most, 3),
                "rss_mib_most": round(peak_rss_mib(taken, name)),
            }
        folder = sum(file.stat().st_size for file in self._folder.glob("pantau.db*"))
        return {**row, "store_mib": round(folder / 2**20)}

    def _end_simulator(self) -> None:
        assert self._simulator is not None
        if self._simulator.poll() is None:
            self._simulator.terminate()
            self._simulator.wait(120)
        self.meter.close()


def _since(taken: list[Sample], from_at: float, holds: Any) -> float | None:
    """How long until it held for the rest of the phase; None: it does not hold at the end."""
    since: float | None = None
    for one in taken:
        if not one.fleet or not holds(one.fleet):
            since = None
        elif since is None:
            since = one.at - from_at
    return None if since is None else round(since, 1)
