"""``pantau witness``: pings the sites' addresses from the centre, and keeps what it saw.

A service of its own, so that ingest never waits for an echo. fping does the pinging:
one process a round for all addresses. What it complains of (a name that does not
resolve, a network that cannot be reached) is no silence of a site, and a round in which
nobody answers at all, of ten addresses or more, is more likely our own.
"""

from __future__ import annotations

import argparse
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from server import config, notify
from server.config import ConfigError, WitnessConfig
from server.model import Site, Witnessed
from server.store import Store, StoreError, open_store

_WHOLE = 10
_AWAY_ROUNDS = 2.5
"""After so many rounds without one of ours nothing is known of the time between."""
_ROUND_MOST_S = 300.0
_TRIES = 2
"""To each address, where it is silent."""
_PACE_MS = 1

log = logging.getLogger(__name__)


class Watch(NamedTuple):
    """What the witness knows: the span of each site that still goes on."""

    spans: Mapping[str, Witnessed] = {}
    looked_at: float = 0.0


class Change(NamedTuple):
    """What one round changes."""

    watch: Watch
    rows: list[Witnessed]  # to write; a span that goes on ends at infinity
    ended_at: float | None  # before that, all spans that went on ended then


def look(watch: Watch, results: Mapping[str, bool], now: float, every_s: float) -> Change:
    """Take in one round. Pure.

    Args:
        watch: what was known before.
        results: for each site whether its address answered; a site that is not
            there gave no result, and its span ends with the last round.
        now: when the round began.
        every_s: how often there is a round, at least.
    """
    was_away = now - watch.looked_at > _AWAY_ROUNDS * every_s
    known = {} if was_away else watch.spans
    rows = []
    spans = {}
    for site, answered in results.items():
        span = known.get(site)
        if span is None or span.answered != answered:
            if span is not None:
                rows.append(_ended(span, watch.looked_at))
            span = Witnessed(site, now, math.inf, answered)
            rows.append(span)
        spans[site] = span
    for site, span in known.items():
        if site not in results:
            rows.append(_ended(span, watch.looked_at))
    return Change(Watch(spans, now), rows, watch.looked_at if was_away else None)


def _ended(span: Witnessed, at: float) -> Witnessed:
    """A span that ended at `at`: of the time between two looks nothing is known."""
    return replace(span, to_at=at)


def read(stdout: str, stderr: str) -> dict[str, bool]:
    """Whether each target answered, by what fping printed. Pure."""
    unsure = {line.partition(": ")[0] for line in stderr.splitlines()}
    results = {}
    for line in stdout.splitlines():
        target, _, verdict = line.partition(" is ")
        if verdict in ("alive", "unreachable") and target not in unsure:
            results[target] = verdict == "alive"
    blind = len(results) >= _WHOLE and not any(results.values())
    return {} if blind else results


def ping(addresses: Iterable[str], timeout_s: float) -> dict[str, bool]:
    """One round.

    Raises:
        OSError: fping is not there, was refused its socket, or did not end.
    """
    targets = sorted(set(addresses))
    if not targets:
        return {}
    retries, timeout_ms = str(_TRIES - 1), f"{timeout_s * 1000:.0f}"
    command = ["fping", "-r", retries, "-B", "1", "-i", str(_PACE_MS), "-t", timeout_ms]
    try:
        done = subprocess.run(
            command,
            input="\n".join(targets),
            capture_output=True,
            text=True,
            timeout=_ROUND_MOST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"fping did not end within {_ROUND_MOST_S:.0f} s") from None
    if done.returncode > 2:  # 1: somebody did not answer; 2: a name was not found
        raise OSError(done.stderr.strip().partition("\n")[0] or f"fping gave {done.returncode}")
    return read(done.stdout, done.stderr)


class Witness:
    """The rounds; `round` is one of them."""

    def __init__(self, store: Store, settings: WitnessConfig) -> None:
        self._store = store
        self._settings = settings
        self._watch = Watch(looked_at=store.witness_at() or 0.0)
        self._version = -1
        self._sites: list[Site] = []
        self._begun = False
        self._said = ""

    def round(self, now: float) -> None:
        """Ping everybody, and write what changed. What fails is said once, and tried again."""
        try:
            self._round(now)
        except (StoreError, OSError) as err:
            if str(err) != self._said:
                log.error("%s; trying again every %.0f s", err, self._settings.every_s)
            self._said = str(err)
        else:
            if self._said:
                log.warning("it works again")
            self._said = ""

    def _round(self, now: float) -> None:
        self._refresh()
        answers = ping((site.address for site in self._sites), self._settings.timeout_s)
        if self._sites and not answers:
            return
        results = {
            site.id: answers[site.address] for site in self._sites if site.address in answers
        }
        # A round in which somebody is silent may take longer than from one to the next.
        pace_s = len(self._sites) * _PACE_MS / 1000
        apart_s = max(self._settings.every_s, _TRIES * (self._settings.timeout_s + pace_s))
        change = look(self._watch, results, now, apart_s)
        with self._store.transaction():
            if not self._begun:  # spans of an earlier process
                self._store.end_witnessed(self._watch.looked_at)
            elif change.ended_at is not None:
                self._store.end_witnessed(change.ended_at)
            self._store.put_witnessed(change.rows)
            self._store.set_witness_at(now)
        self._watch, self._begun = change.watch, True

    def _refresh(self) -> None:
        version = self._store.registry_version()
        if version == self._version:
            return
        sites = self._store.sites().values()
        self._sites = [site for site in sites if site.registered and site.address]
        self._version = version
        log.info("watching the addresses of %d sites", len(self._sites))


def run(args: argparse.Namespace) -> int:
    """Run the service until SIGTERM or SIGINT; gives the exit code.

    Raises:
        ConfigError: the configuration cannot be meant.
        StoreError: the database cannot be opened.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    settings = config.load(args.config, broker=False)
    store = open_store(settings.store.url, create=False)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    witness = Witness(store, settings.witness)
    notify.systemd("READY=1")
    while not stop.is_set():
        began_at = time.time()
        witness.round(began_at)
        notify.systemd("WATCHDOG=1")
        stop.wait(max(0.0, settings.witness.every_s - (time.time() - began_at)))
    notify.systemd("STOPPING=1")
    store.close()
    return 0


__all__ = ["ConfigError", "Witness", "look", "ping", "read", "run"]
