"""How fast does the ledger answer for a whole city?

Makes a store of 9,000 sites with 30 days of spans and outages (seeded), then times
``pantau status --json`` and ``pantau report availability --by isp,district``: each as a
whole process, and inside one that has been started already. The raw samples are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from server import cli
from server.health import Health
from server.model import Cause, Contract, Incident, Kind, Maintenance, Site, SiteTerm, Status
from server.store import HealthRow, Store, open_store
from server.timeline import FAILING, SILENT, UP, Span

_ROOT = Path(__file__).parents[1]
_PANTAU = Path(sys.executable).with_name("pantau")
_DAY_S = 86_400
_ISPS = ("telkom", "biznet", "icon", "indosat", "lokal-net")
_DISTRICTS = 8
_CONTRACTS = 12
_HEALTHY = 0.6
"""Share of the sites with few outages; the others make the city's figure."""


def main() -> int:
    """Build, time, tell."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench/ledger")
    parser.add_argument("--sites", type=int, default=9000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="show where the report's time goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _bench(args, Path(folder))


def _bench(args: argparse.Namespace, folder: Path) -> int:
    end = int(time.time()) // 60 * 60
    begin = end - args.days * _DAY_S
    config = folder / "server.toml"
    config.write_text(f'[store]\nurl = "sqlite://{folder}/pantau.db"\n')
    store = open_store(f"sqlite://{folder}/pantau.db")
    spans, outages = _fill(store, args, begin, end)
    store.close()
    size_mb = (folder / "pantau.db").stat().st_size / 1e6
    print(
        f"{args.sites} sites, {args.days} days, seed {args.seed}: {spans} spans,"
        f" {outages} outages, {size_mb:.0f} MB; load {os.getloadavg()[0]:.1f}"
    )
    period = ["--from", _utc(begin), "--to", _utc(end), "--zone", "UTC"]
    report = ["report", "availability", "--by", "isp,district", "--json", *period]
    commands = {
        "python that does nothing": ([sys.executable, "-c", "pass"], None),
        "pantau --version": ([_PANTAU, "--version"], None),
        "status --json": (None, ["status", "--json"]),
        "availability by isp,district": (None, report),
        "report online, 1h": (None, ["report", "online", "--json", *period]),
    }
    samples: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for name, (plain, words) in commands.items():
            if plain is not None:
                samples.setdefault(f"{name}, process", []).append(_process(plain))
            if words is not None:
                words = [*words, "--config", str(config)]
                samples.setdefault(f"{name}, process", []).append(_process([_PANTAU, *words]))
                samples.setdefault(f"{name}, inside", []).append(_inside(words))
    for name, taken in samples.items():
        low, middle, high = min(taken), statistics.median(taken), max(taken)
        print(f"{name:<40} {low:7.1f} {middle:7.1f} {high:7.1f} ms (min, median, max)")
    results = _ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    kept = results / f"ledger-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    kept.write_text(json.dumps({"options": vars(args), "samples_ms": samples}, indent=1))
    print(f"raw samples: {kept.relative_to(_ROOT)}")
    if args.profile:
        _profile([*report, "--config", str(config)])
    return 0


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1000


def _process(words: list[Path | str]) -> float:
    return _timed(lambda: subprocess.run(words, stdout=subprocess.DEVNULL, check=True))


def _inside(words: list[str]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        return _timed(lambda: cli.main(words))


def _profile(words: list[str]) -> None:
    import cProfile
    import pstats

    profile = cProfile.Profile()
    with contextlib.redirect_stdout(io.StringIO()):
        profile.runcall(cli.main, words)
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)


def _fill(store: Store, args: argparse.Namespace, begin: int, end: int) -> tuple[int, int]:
    """A city's month; gives how many spans and outages it has."""
    luck = random.Random(args.seed)  # noqa: S311  # a seeded city, not a secret
    span_count = outage_count = 0
    with store.transaction():
        for number in range(_CONTRACTS):
            store.put_contract(f"contract-{number}", [_contract(number)], begin)
        for number in range(20):
            at = luck.uniform(begin, end)
            where = f"district-{number % _DISTRICTS}"
            store.put_maintenance(Maintenance(f"m{number}", "district", where, at, at + 7200))
        for number in range(args.sites):
            site = _site(number, luck)
            terms = [SiteTerm(site, 0.0)]
            if luck.random() < 0.02:  # changes its ISP within the period
                at = luck.uniform(begin, end)
                other = _site(number + 1, luck)
                terms = [
                    SiteTerm(site, 0.0, at),
                    SiteTerm(
                        Site(site.id, site.name, site.district, other.isp, other.contract), at
                    ),
                ]
            store.put_terms(site.id, terms)
            store.add_stream(site.id, f"stream-{number}")
            spans, outages = _history(site, luck, begin, end)
            away = bool(outages) and outages[-1].firing
            status = Status.OFFLINE if away else Status.ONLINE
            health = Health(site.id, status=status, since=float(begin), last_reading_at=float(end))
            run = None if away or not spans else (spans[-1].from_at, spans[-1].to_at)
            store.put_healths([HealthRow(health, None, site.district, site.isp, run)])
            stored = spans if run is None else spans[:-1]
            if stored:
                store.paint(site.id, stored)
            for one in outages:
                store.put_incident(one, one.detected_at)
            span_count += len(spans)
            outage_count += len(outages)
        store.promote(float(end))
        store.add_absence(begin + 86_400, begin + 86_700, "the broker was away")
        store.set_alive_at(float(end))
    return span_count, outage_count


def _contract(number: int) -> Contract:
    return Contract(
        f"contract-{number}",
        0.0,
        isp=_ISPS[number % len(_ISPS)],
        availability_ratio=0.95,
        grace_s=300.0,
        excludes=("maintenance", "power") if number % 2 else ("maintenance",),
        price=350_000.0,
        restitution=((0.95, 0.05), (0.9, 0.1), (0.8, 0.25)),
    )


def _site(number: int, luck: random.Random) -> Site:
    return Site(
        f"bitung-{number:05}",
        f"Hotspot {number}",
        f"district-{number % _DISTRICTS}",
        _ISPS[number % len(_ISPS)],
        f"contract-{number % _CONTRACTS}",
        latitude=1.4 + luck.random() / 10,
        longitude=125.1 + luck.random() / 10,
        power_area=f"area-{number % 40}",
    )


def _history(
    site: Site, luck: random.Random, begin: int, end: int
) -> tuple[list[Span], list[Incident]]:
    """Spans and outages of one site; about every fourth day of the worse ones is lost."""
    spans: list[Span] = []
    outages: list[Incident] = []
    healthy = luck.random() < _HEALTHY
    between_s, lasts_s = (5 * _DAY_S, 900.0) if healthy else (1.5 * _DAY_S, 6 * 3600.0)
    at = float(begin)
    while at < end:
        until = min(float(end), float(round(at + luck.expovariate(1 / between_s)) + 60))
        spans.append(Span(at, until, UP))
        if until >= end:
            break
        back = until + round(luck.expovariate(1 / lasts_s)) + 40.0
        verdict = luck.choices(("link", "power", "isp", "agent", "unknown"), (40, 30, 15, 10, 5))[0]
        if verdict in ("link", "isp"):
            lost = min(back, float(end))
            if luck.random() < 0.3 and lost - until > 60:
                spans += [Span(until, lost - 30, SILENT), Span(lost - 30, lost, FAILING)]
            else:
                spans.append(Span(until, lost, SILENT))
        resolved = back if back < end else None
        outages.append(_outage(site, len(outages), until, resolved, verdict))
        at = back
    return spans, outages


def _outage(
    site: Site, number: int, opened_at: float, resolved_at: float | None, verdict: str
) -> Incident:
    return Incident(
        id=f"{site.id}-{number:04}",
        kind=Kind.SITE_OFFLINE,
        site=site.id,
        district=site.district,
        isp=site.isp,
        title=f"{site.name} is offline",
        opened_at=opened_at,
        detected_at=opened_at + 35,
        resolved_at=resolved_at,
        reasons=("connection lost",),
        cause=Cause(verdict, 0.9, ("same boot: uptime went on", "the agent measured on")),
    )


if __name__ == "__main__":
    sys.exit(main())
