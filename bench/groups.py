"""How long does ingest take to see that an ISP's sites went together?

    bench/groups [--sites 9000]

Every fifth site belongs to the ISP that goes: their wills come within 20 s. Each second
is one tick of ingest on a real store; told are how many outages were confirmed when the
group's one alert came, how long the longest tick took, and how many alerts were told.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from server.model import Kind, Site
from tests.server.centre import Centre
from tests.server.made import Device, Message, identity, presence, says

_BEGAN = 1000
_CUT = 1010
_SPREAD_S = 20
_BATCH = 500


def main() -> int:
    """Go through it once, and tell."""
    parser = argparse.ArgumentParser(prog="bench/groups", description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=9000)
    args = parser.parse_args()
    sites = [
        Site(f"s-{number:05d}", f"Site {number}", f"district-{number % 8}", f"isp-{number % 5}")
        for number in range(args.sites)
    ]
    with tempfile.TemporaryDirectory() as folder:
        centre = Centre(Path(folder), *sites)
        _live(centre, sites)
        gone = [site for site in sites if site.isp == "isp-2"]
        wills = [
            says(presence("offline", "one", reason="lost", site=site.id), _CUT + at % _SPREAD_S)
            for at, site in enumerate(gone)
        ]
        centre.hears(*sorted(wills, key=lambda one: one.received_at))
        return _watch(centre, len(gone))


def _live(centre: Centre, sites: list[Site]) -> None:
    messages: list[Message] = []
    for site in sites:
        device = Device(site=site.id, stream=identity(site.id))
        messages += [
            says(presence("online", "one", site=site.id), _BEGAN),
            device.live(_BEGAN),
        ]
    for at in range(0, len(messages), _BATCH):
        centre.hears(*messages[at : at + _BATCH])


def _watch(centre: Centre, gone: int) -> int:
    ticks_ms: list[float] = []
    first_at = found_at = confirmed = 0
    for now in range(_CUT, _CUT + 60):
        began = time.perf_counter()
        centre.waits(float(now))
        ticks_ms.append((time.perf_counter() - began) * 1000)
        firing = centre.store.firing()
        outages = sum(one.kind is Kind.SITE_OFFLINE for one in firing)
        if outages and not first_at:
            first_at = now
        if not found_at and any(one.kind is Kind.GROUP_OUTAGE for one in firing):
            found_at, confirmed = now, outages
    groups = [one for one in centre.store.firing() if one.kind is Kind.GROUP_OUTAGE]
    told = sum(one.told for one in centre.store.firing())
    print(f"the group of {gone} was told {found_at - first_at} s after the first confirmation,")
    print(f"{confirmed} of its outages being confirmed by then; {told} alert(s) were told in all;")
    print(f"longest tick {max(ticks_ms):.0f} ms, median {sorted(ticks_ms)[30]:.0f} ms")
    right = [len(one.sites) for one in groups] == [gone] and told == 1
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
