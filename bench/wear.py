"""What a day costs an SD card, and a metered link.

    bench/wear [--only flash|wire] [--windows 600]

**flash**: the agent's spool writes typical readings to an ext4 (4 KiB blocks) on a loop
device; bytes and flushes are the kernel's own count of that device, after unmounting. Time
is sped up together with the journal: ext4 commits what a write leaves in the journal (the
file's time of change) 5 s later by default, so at windows of a minute each window has a
commit of its own. `defaults` therefore writes a window each 7 s. `commit=1800` writes a
window each 0.1 s on `commit=3`, thirty windows to a commit, as there. Segments are
laid out, and positions saved, as often for a window as in a real day.

**wire**: spool and publisher send typical readings over mutual TLS to a real mosquitto and
`pantau ingest` in another namespace; an nft counter on each way counts whole IP packets.
Windows of 4 s with a keepalive of 1 s stand for 60 s with 15 s. Connecting is not counted.

Figures are a day's: the mean window times 1,440. Raw samples are kept in
bench/results/wear.json. Needs root.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.probes.echo import COOKIE_BYTES
from agent.spool import Spool
from bench.typical import BOOT, Typical
from tests.lab.city import City, toml
from tests.lab.net import Namespace, child_environment, sh
from tests.lab.pki import Authority

A_DAY = 1440
RESULTS = Path(__file__).parent / "results" / "wear.json"
SAVES_A_DAY = 4
_SEGMENT = 1 << 20
_TABLE = "wear"


# Flash


@contextmanager
def card(folder: Path, options: str) -> Iterator[tuple[Path, str]]:
    """A mounted ext4 on a loop device of its own, unmounted on leaving but not detached."""
    image, place = folder / "card.img", folder / "card"
    place.mkdir(exist_ok=True)
    sh("truncate", "-s", "256M", str(image))
    sh("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))  # fmt: skip  # noqa: E501  # one command
    loop = sh("losetup", "--find", "--show", str(image)).strip()
    try:
        sh("mount", "-o", options, loop, str(place))
        try:
            yield place, loop
        finally:
            subprocess.run(["umount", str(place)], check=False, capture_output=True)
    finally:
        sh("losetup", "--detach", loop)
        image.unlink()


def written(loop: str) -> tuple[int, int]:
    """Bytes written to a block device, and flushes done, since it was made."""
    fields = Path(f"/sys/block/{Path(loop).name}/stat").read_text().split()
    return int(fields[6]) * 512, int(fields[15])


def flash(folder: Path, options: str, windows: int, every_s: float) -> dict[str, float]:
    """A day's bytes and flushes; `windows` of them are really written."""
    with card(folder, options) as (place, loop):
        # as many layouts to a window as where 1 MiB is shared by all that fit into it
        typical = Typical()
        a_segment = _SEGMENT / (len(typical(1)) + 16)
        size = min(_SEGMENT, int(_SEGMENT * windows / a_segment))
        spool = Spool(place / "spool", 64 << 20, boot=BOOT, segment_bytes=size)
        sh("sync", "-f", str(place))
        before = written(loop)
        for i in range(windows):
            spool.append(typical)
            if (i + 1) % (A_DAY // SAVES_A_DAY) == 0:
                spool.release(spool.streams()[0].stream, i)
                spool.save()
            time.sleep(every_s)
        spool.close()
        sh("umount", str(place))
        after = written(loop)
    size_b, flushes = (y - x for x, y in zip(before, after, strict=True))
    return {
        "windows": windows,
        "every_s": every_s,
        "bytes": size_b,
        "flushes": flushes,
        "mb_a_day": round(size_b / windows * A_DAY / 1e6, 2),
        "flushes_a_day": round(flushes / windows * A_DAY),
    }


# Wire


def count_packets(namespace: Namespace) -> None:
    """Begin to count what passes to and from the broker, whole IP packets."""
    namespace.run("nft", f"add table ip {_TABLE}")
    for hook, port in (("input", "sport"), ("output", "dport")):
        chain = f"ip {_TABLE} {hook}"
        namespace.run("nft", f"add chain {chain} {{ type filter hook {hook} priority 0; }}")
        namespace.run("nft", f"add rule {chain} tcp {port} 8883 counter")


def counted(namespace: Namespace) -> list[tuple[int, int]]:
    """Packets and bytes of each way, in and out."""
    listing = namespace.run("nft", "list", "table", "ip", _TABLE)
    found = re.findall(r"counter packets (\d+) bytes (\d+)", listing)
    return [(int(packets), int(size)) for packets, size in found]


def wire(folder: Path, windows: int) -> dict[str, object]:
    """A day's payload and IP bytes; `windows` of them are really sent."""
    site = "maesa-0001"
    with City(folder / "city", Authority(folder / "pki"), [site], apart=True) as city:
        agent = city.agents[site]
        assert agent.namespace is not None
        agent.tables["mqtt"]["keepalive_s"] = 1
        agent.config.write_text(toml({"site": site}, agent.tables))
        command = [sys.executable, "-m", "bench.wear_sender", str(agent.config), str(windows), "4"]
        sender = agent.namespace.popen(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        with sender:
            assert sender.stdin is not None
            assert sender.stdout is not None
            assert sender.stdout.readline(), "the sender did not connect"
            count_packets(agent.namespace)
            sender.stdin.write("\n")
            sender.stdin.flush()
            told = json.loads(sender.stdout.readline())
            ways = counted(agent.namespace)
            sender.communicate("\n", timeout=30)
    payload = sum(told["payload_bytes"])
    ip = sum(size for _, size in ways)
    return {
        "windows": windows,
        "payload_bytes": told["payload_bytes"],
        "ip_packets_and_bytes": ways,
        "waiting_at_the_end": told["waiting"],
        "payload_mb_a_day": round(payload / windows * A_DAY / 1e6, 3),
        "ip_mb_a_day": round(ip / windows * A_DAY / 1e6, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["flash", "wire"])
    parser.add_argument("--windows", type=int, default=600)
    given = parser.parse_args()
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="pantau-wear-") as name:
        folder = Path(name)
        if given.only != "wire":
            few = max(30, given.windows // 20)
            results["defaults"] = flash(folder, "defaults", few, 7.0)
            print("flash, mounted with defaults: ", results["defaults"], flush=True)
            results["commit=1800"] = flash(folder, "commit=3", given.windows, 0.1)
            print("flash, mounted with commit=1800: ", results["commit=1800"], flush=True)
        if given.only != "flash":
            told = wire(folder, max(30, given.windows // 15))
            results["wire"] = told
            print("wire: ", {k: v for k, v in told.items() if k != "payload_bytes"}, flush=True)
    echoes_mb = 2 * (20 + 8 + COOKIE_BYTES) * 86_400 / 1e6
    print(f"beside that, an echo a second costs {echoes_mb:.1f} MB a day for each far target")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
