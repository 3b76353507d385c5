"""``pantau simulate``: looks at everything first, then plays in several processes."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from agent import wire
from server import config
from server.config import Mqtt
from server.fleet import MOST_SITES, preflight, registry, story
from server.fleet.fleet import in_memory
from server.fleet.story import Story
from server.fleet.worker import Share, shares, work
from server.model import Site
from server.sheet import CsvError
from server.show import CommandError, UsageError

_SITES_A_PROCESS = 3000
_TELL_S = 5.0
_END_S = 10.0


def run(args: argparse.Namespace) -> int:
    """See `server.fleet.run`."""
    _check_usage(args)
    sites = _sites(args)
    if args.write_registry is not None:
        with preflight.usable(args.write_registry):
            args.write_registry.write_text(registry.to_csv(sites), encoding="utf-8")
        return 0
    settings = config.load(args.config).mqtt
    # Every site logs in as itself; only where and how is taken over.
    settings = replace(settings, username=None, password_file=None, cert_file=None, key_file=None)
    told = _story(args, sites)
    mine = [site for site in sites if site.id not in told.real]
    processes = min(len(mine), args.processes or -(-len(mine) // _SITES_A_PROCESS))
    preflight.limits(len(mine), processes)
    preflight.certificates(args.certificates, settings, mine)
    if told.begins_at is not None and wire.epoch(told.begins_at) + args.minutes * 60 < time.time():
        raise CommandError(f"{args.story}: fleet.begins_at is over by --minutes; set it anew")
    preflight.broker(args.certificates, settings, mine[0].id)
    if args.journal is not None:
        with preflight.usable(args.journal), args.journal.open("a"):
            pass
    begins = time.time() + told.start_after_s
    if told.begins_at is not None:
        begins = wire.epoch(told.begins_at)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the play takes it
    with _folder(args.spools) as spools:
        cast = [
            _share(args, mine[n::processes], told, settings, spools, begins)
            for n in range(processes)
        ]
        return _play(cast, len(mine), as_json=args.json)


def _check_usage(args: argparse.Namespace) -> None:
    if (args.sites is None) == (args.registry is None):
        raise UsageError("simulate: give --sites N or --registry FILE")
    if args.sites is not None and not 1 <= args.sites <= MOST_SITES:
        raise UsageError(f"simulate: --sites is {args.sites}; it goes from 1 to {MOST_SITES}")
    if args.story is not None and args.events is not None:
        raise UsageError("simulate: give --story FILE or --events N, not both")
    if not 1 <= args.window_s <= 3600:
        raise UsageError(f"simulate: --window-s is {args.window_s:g}; it goes from 1 to 3600")
    for name in ("minutes", "starts_over_s", "backlog_h", "events", "processes"):
        value = getattr(args, name)
        if value is not None and not 0 <= value < 1e6:
            raise UsageError(f"simulate: --{name.replace('_', '-')} is {value}; 0 or more, please")


def _sites(args: argparse.Namespace) -> list[Site]:
    if args.registry is None:
        return registry.made_up(args.seed, args.sites)
    try:
        sites = registry.read(_text(args.registry), time.time())
    except CsvError as err:
        raise CommandError(f"{args.registry}: {err}") from None
    if not sites:
        raise CommandError(f"{args.registry}: it holds no site")
    return sites


def _story(args: argparse.Namespace, sites: list[Site]) -> Story:
    try:
        if args.story is not None:
            told = story.parse(args.story.name, _text(args.story), sites)
            if told.real >= {site.id for site in sites}:
                raise story.BadStory(f"{args.story.name}: fleet.real leaves no site to model")
            return told
    except story.BadStory as err:
        raise CommandError(str(err)) from None
    return story.made_up(args.seed, sites, events=args.events or 0, over_s=args.minutes * 60)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        reason = getattr(err, "strerror", None) or "it is not UTF-8"
        raise CommandError(f"{file}: {reason}; look at the name") from None


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        with preflight.usable(given):
            given.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=given).close()
        yield given
        return
    with in_memory() as made:
        yield Path(made)


def _share(
    args: argparse.Namespace,
    sites: list[Site],
    told: Story,
    settings: Mqtt,
    spools: Path,
    begins: float,
) -> Share:
    return Share(
        sites=tuple((site.id, story.points_of(site)) for site in sites),
        events=shares(told.events, {site.id for site in sites}),
        settings=settings,
        window_s=args.window_s,
        begins=begins,
        ends=begins + args.minutes * 60,
        spools=spools,
        spools_stay=args.spools is not None,
        journal=args.journal,
        certificates=args.certificates,
        starts_over_s=args.starts_over_s,
        backlog_s=args.backlog_h * 3600,
    )


def _play(cast: list[Share], sites: int, *, as_json: bool) -> int:
    """Run the processes to their end, and show how they stand."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Pipe] = []
    players: list[SpawnProcess] = []
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        for player in players:
            if player.is_alive():
                player.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    # Ctrl-C reaches the players as well, who may not yet be able to take it.
    resource_tracker.ensure_running()  # started later, it would let Ctrl-C through again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for share in cast:
        ours, theirs = context.Pipe(duplex=False)
        player = context.Process(target=work, args=(share, theirs.send), daemon=True)
        player.start()
        theirs.close()
        pipes.append(ours)
        players.append(player)

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if ending:
        end()
    _show(pipes, sites, as_json=as_json)
    end()
    for player in players:
        player.join(_END_S)
    for player in players:
        if player.is_alive():
            player.kill()
            player.join()
    if any(player.exitcode not in (0, -signal.SIGTERM) for player in players):
        raise CommandError("simulate: a process of the fleet ended by a fault; it is told above")
    return 0


def _show(pipes: list[Pipe], sites: int, *, as_json: bool) -> None:
    """Print what the processes tell, until one of them ends."""
    newest: dict[int, dict[str, float]] = {}
    shown = late_s = 0.0
    while True:
        waiting = wait(pipes)
        for number, pipe in enumerate(pipes):
            if pipe in waiting:
                try:
                    newest[number] = pipe.recv()
                except EOFError:
                    return
                late_s = max(late_s, newest[number].get("late_s", 0.0))
        if time.monotonic() - shown < (1.0 if as_json else _TELL_S) or len(newest) < len(pipes):
            continue
        shown = time.monotonic()
        names = ("connected", "made", "unreleased")
        sums = {name: sum(one.get(name, 0) for one in newest.values()) for name in names}
        if as_json:
            # By so much does a fleet that this machine is too slow for do everything too late.
            told = {"at": wire.iso(time.time()), "sites": sites, **sums, "late_s": round(late_s, 3)}
            print(json.dumps(told), flush=True)
        else:
            print(
                f"{sums['connected']} of {sites} sites connected, {sums['made']} readings made,"
                f" {sums['unreleased']} not yet acknowledged",
                file=sys.stderr,
                flush=True,
            )
        late_s = 0.0
