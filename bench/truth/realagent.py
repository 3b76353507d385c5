"""One real site: the installed `pantau-agent run` as a process on a device of its own.

The device is a network namespace (`realnet.Place`) and, for what the agent reads of its kernel, a
mount and a time namespace: boot id and uptime are those of the device, and go on over a restart of
the agent alone. A site whose clock will be wrong runs the same agent with a shifted clock
(`tests.lab.wrong_clock`), for no namespace can shift the time of day.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.truth.realcore import PORT
from bench.truth.realnet import BROKER, DOMESTIC, RESOLVER, WEB, WORLD, Place
from tests.lab.process import Service

AGENT = Path(sysconfig.get_path("scripts")) / "pantau-agent"
_TICKS = os.sysconf("SC_CLK_TCK")
_READING_BYTES = 4096
"""More than one takes; released readings stay in the spool while there is room."""
_BOOT = """
mount --bind "$1" /proc/sys/kernel/random/boot_id && echo $$ > "$2" && shift 2 && exec "$@"
"""


@dataclass
class Cost:
    """What the agents of one site took so far."""

    cpu_s: float = 0.0
    lived_s: float = 0.0
    peak_rss_mib: float = 0.0


class Made(NamedTuple):
    """A reading in the spool; times are seconds since 1970, by the true clock."""

    stream: str
    seq: int
    from_at: float
    to_at: float
    sha256: str


@dataclass(frozen=True)
class Timing:
    """How long windows are, and what else the configuration holds of time."""

    window_s: float
    keepalive_s: float
    minutes: float


@dataclass
class RealSite:
    """One site; use in the order of a device's life.

    Attributes:
        clock_shifts: its clock will be wrong at times.
        cost: what its agents took, as far as they have ended.
    """

    site: str
    folder: Path
    place: Place
    isp_address: str
    timing: Timing
    clock_shifts: bool = False
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._boots: dict[str, float] = {}  # when the time of day was at uptime 0
        self._booted_s = 0
        self._started_s = 0.0
        self._pid_file = self.folder / "pid"
        self._shift = self.folder / "clock_shift"
        self._shift.write_text("0")
        self.config = self.folder / "agent.toml"
        self.config.write_text(self._toml())
        self.agent = Service(self.site, (), self.folder / "agent.log")

    # Its life

    def boot(self) -> None:
        """A device that has just booted; its agent is to be started."""
        self.place.build()
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._booted_s = int(now_s) - 1
        boot = str(uuid.uuid4())
        self._boots[boot] = time.time() - (now_s - self._booted_s)
        (self.folder / "boot_id").write_text(f"{boot}\n")

    def start(self) -> None:
        """The agent, on the device as it is."""
        assert self.place.device is not None
        self._pid_file.unlink(missing_ok=True)
        program = [str(AGENT)]
        if self.clock_shifts:
            program = [sys.executable, "-m", "tests.lab.wrong_clock", str(self._shift)]
        boot = (str(self.folder / "boot_id"), str(self._pid_file))
        self.agent.command = [
            *("setpriv", "--pdeathsig", "KILL"),  # it does not outlive the bench
            *self.place.device.within("unshare", "--mount", "--time"),
            *("--boottime", str(-self._booted_s), "--fork", "--kill-child"),
            *("sh", "-c", _BOOT, "sh", *boot, *program, "run", "--config", str(self.config)),
        ]
        self._started_s = time.monotonic()
        self.agent.start()

    def kill(self) -> None:
        """The agent is gone; its kernel closes what it held. Harmless where none runs."""
        if self.running:
            self._count()
            os.kill(self._pid() or self.agent.pid, signal.SIGKILL)
            self.agent.ended()

    def tell_to_stop(self) -> None:
        """Ask the agent to end in order; `ended` waits for it."""
        self._count()
        os.kill(self._pid() or self.agent.pid, signal.SIGTERM)

    def ended(self) -> None:
        """Wait until the agent has ended."""
        self.agent.ended()

    def hang(self) -> None:
        """The agent stands still; its kernel goes on."""
        os.kill(self._pid() or self.agent.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """And moves again."""
        os.kill(self._pid() or self.agent.pid, signal.SIGCONT)

    def shift_clock(self, offset_s: float) -> None:
        """Its clock is wrong by so much; 0: right."""
        beside = self._shift.with_suffix(".new")
        beside.write_text(str(round(offset_s)))
        beside.replace(self._shift)

    @property
    def running(self) -> bool:
        """Whether the agent runs, or hangs."""
        return self.agent.running

    # What it left

    def readings(self) -> Iterator[Made]:
        """All that the agent's own spool holds, as it tells itself; times are true ones.

        Raises:
            RuntimeError: the agent cannot tell.
        """
        command = [str(AGENT), "spool", "--json", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.site}: {done.stderr.strip()}")
        for line in done.stdout.splitlines():
            row = json.loads(line)
            reading = row["reading"]
            to_at = self._boots[reading["boot"]] + reading["uptime_s"]
            yield Made(row["stream"], row["seq"], to_at - reading["window_s"], to_at, row["sha256"])

    def rested_s(self) -> float:
        """Seconds since the agent last wrote a reading; infinite when it never did."""
        files = (self.folder / "spool").glob("*.seg")
        newest = max((file.stat().st_mtime for file in files), default=-float("inf"))
        return time.time() - newest

    # Within

    def _pid(self) -> int | None:
        """The agent's, that of `Service` is its parent's; None before it is one."""
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None

    def _count(self) -> None:
        """Add what the agent took."""
        self.cost.lived_s += time.monotonic() - self._started_s
        with contextlib.suppress(OSError):
            proc = Path(f"/proc/{self._pid()}")
            fields = (proc / "stat").read_text().rpartition(")")[2].split()
            self.cost.cpu_s += sum(map(int, fields[11:15])) / _TICKS  # its own and its helpers'
            for line in (proc / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak_mib = int(line.split()[1]) / 1024
                    self.cost.peak_rss_mib = max(self.cost.peak_rss_mib, peak_mib)

    def _toml(self) -> str:
        timing = self.timing
        max_mb = 16 + int(timing.minutes * 60 / timing.window_s * _READING_BYTES / 2**20)
        tables: dict[str, dict[str, object]] = {
            "mqtt": {"url": f"mqtt://{BROKER}:{PORT}", "keepalive_s": round(timing.keepalive_s)},
            "spool": {"path": str(self.folder / "spool"), "max_mb": max_mb},
            "reading": {"window_s": _whole(timing.window_s)},
            "targets": {
                "gateway": "auto",
                "isp": [self.isp_address],
                "domestic": DOMESTIC,
                "world": WORLD,
            },
            "dns": {"names": ["city.example"], "resolver": RESOLVER},
            "web": {"url": f"http://{WEB}/generate_204"},
        }
        if self.place.points:
            tables["access_points.addresses"] = dict(self.place.points)
        lines = [f'site = "{self.site}"']
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in table.items())]
        return "\n".join([*lines, ""])


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
