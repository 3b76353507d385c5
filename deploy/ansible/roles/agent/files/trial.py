"""A release on trial: it proves itself within a time, or the device goes back by itself.

    trial.py begin VERSION WITHIN_S   arm it; afterwards `current` may move to VERSION
    trial.py watch                    judge it (pantau-trial.service); goes back where it must
    trial.py verdict VERSION          one line; exit code 0 proved, 1 went back, 3 still under way

Rules
 1. Proved: the agent that runs is of VERSION, and its status tells of a finished window, of a
    broker that it is connected to, and of a centre that confirms what it sends. The agent says so
    itself, and only then. (A release from before that word says nothing of the centre.)
 2. It must run within the time, which begins anew as it first does: a play over a slow line
    takes none of it. Whatever keeps it from proving itself (a crash, silence, a play that was cut
    off before `current` moved or before the restart) ends in the old release, with the unit and
    configuration that it had.
 3. A power cut changes nothing of that: the unit begins anew at boot, and a way back that was
    begun is gone to its end.
 4. Where only the centre's word is missing, the centre is asked for an echo, by another way than
    readings take. If not even that comes, the centre is away, and the time begins anew: that is no
    release's fault, and going back would not help. If it answers, and again after half the time
    without confirming a reading, the release is at fault.

Debian's Python alone, since either release may be broken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

_OPT = Path("/opt/pantau")
_TRIAL = _OPT / "trial"
_RECORD, _VERDICT, _KEPT = _TRIAL / "record.json", _TRIAL / "verdict.json", _TRIAL / "kept"
_FILES = (
    Path("/etc/pantau/agent.toml"),
    Path("/etc/pantau/walk.password"),
    Path("/etc/systemd/system/pantau-agent.service"),
    Path("/etc/systemd/system/pantau-agent.service.d"),
    Path("/etc/systemd/system/pantau-card.service"),
    Path("/etc/systemd/system/multi-user.target.wants/pantau-card.service"),
    Path("/etc/systemd/system/systemd-time-wait-sync.service.d"),
)
"""What a play changes along with the release; certificate and key belong to none."""
_STARTS = Path("/var/lib/pantau/spool/starts.json")
_UNCONFIRMED = "is connected, and the centre confirms none of its readings"
_AWAY = "stays on trial: it is connected, but the centre does not answer; is pantau-ingest running?"
_LOOK_S, _ASK_S = 1.0, 150.0
_PROVED, _WENT_BACK, _UNDER_WAY = 0, 1, 3


@dataclass(frozen=True)
class Record:
    """A trial under way; `why` tells, once it is set, why the device is going back.

    `away`: the centre did not answer when it was asked.
    """

    old: str
    new: str
    within_s: float
    why: str = ""
    away: bool = False


@dataclass(frozen=True)
class Agent:
    """The agent's unit as systemd shows it, and the path of the program that runs in it."""

    active: str
    result: str
    status: str
    program: str


def main(arguments: list[str]) -> int:
    """One command; its exit code."""
    try:
        match arguments:
            case ["begin", version, within_s]:
                return _begin(version, float(within_s))
            case ["watch"]:
                return _watch()
            case ["verdict", version]:
                return _verdict(version)
    except OSError as err:
        print(f"{err.filename or _OPT}: {err.strerror}; mend the disk, and run this again")
        return 1
    print("trial: begin VERSION WITHIN_S, watch, or verdict VERSION", file=sys.stderr)
    return 2


def runs(version: str, agent: Agent) -> bool:
    """Whether the program is of that release."""
    return agent.program.startswith(f"{_OPT}/{version}/")


def missing(version: str, agent: Agent) -> str:
    """What a release still owes, in words that follow its number; empty when it proved itself."""
    if not runs(version, agent):
        if agent.active == "active":
            return "was not started: the play was cut off"
        return f"does not stay up (result {agent.result})"
    if agent.active != "active":
        return "does not become ready"
    if not agent.status:
        return "finished no window"
    if not agent.status.startswith("connected"):
        return f"says: {agent.status}"
    if "the centre confirmed nothing yet" in agent.status:
        return _UNCONFIRMED
    return ""


def _begin(version: str, within_s: float) -> int:
    """Keep what is there, and start to watch; again with more time where it is on trial already."""
    record = _record()
    if record is not None and record.away:
        record = replace(record, away=False)
    if record is not None and (record.new != version or record.why):
        print(f"{record.new} is on trial; run this again in {2 * within_s:.0f} s")
        return 1
    if record is None:
        shutil.rmtree(_KEPT, ignore_errors=True)
        _KEPT.mkdir(mode=0o700)
        for file in _FILES:
            _copy(file, _kept(file))
        _VERDICT.unlink(missing_ok=True)
        record = Record(str((_OPT / "current").readlink()), version, within_s)
    _write(_RECORD, asdict(replace(record, within_s=within_s)))
    _systemctl("restart", "pantau-trial")
    return 0


def _watch() -> int:
    record = _record()
    if record is None:
        return 0
    armed_s = begun_s = time.monotonic()
    limit_s, answered, started = record.within_s, False, False
    while not record.why:
        agent = _agent()
        if not started and runs(record.new, agent):
            started, begun_s = True, time.monotonic()
        why = missing(record.new, agent)
        if not why:
            took_s = time.monotonic() - armed_s
            _end(record, proved=True, said=f"{record.new} proved itself after {took_s:.0f} s")
            return 0
        if time.monotonic() - begun_s >= limit_s:
            if why == _UNCONFIRMED:
                before, answered = answered, _centre_answers(record.new)
                # It may have come back just now: then the readings are still on their way.
                spared = not (answered and before)
                limit_s = record.within_s / 2 if answered else record.within_s
            else:
                spared = False
            record = replace(record, why="" if spared else why, away=spared and not answered)
            begun_s = time.monotonic()
            with suppress(OSError):  # a disk without room keeps nobody from going back
                _write(_RECORD, asdict(record))
        time.sleep(_LOOK_S)
    _go_back(record.old)
    _end(record, proved=False, said=f"{record.new} {record.why}; {record.old} runs again")
    return 0


def _go_back(old: str) -> None:
    """The old release with its unit and configuration; harmless when done twice."""
    beside = _OPT / "current.new"
    beside.unlink(missing_ok=True)
    beside.symlink_to(old)
    beside.replace(_OPT / "current")
    for file in _FILES:
        _copy(_kept(file), file)
    os.sync()
    # What runs says goodbye as an upgrade does, if it is able to: no outage for 300 s.
    _systemctl("kill", "--kill-whom=main", "--signal=SIGUSR1", "pantau-agent")
    _systemctl("stop", "pantau-agent")
    # The crashes were the other release's: they must not send this one into safe mode.
    _STARTS.unlink(missing_ok=True)
    _systemctl("daemon-reload")
    _systemctl("start", "--no-block", "pantau-agent")


def _verdict(version: str) -> int:
    """Say what came of it."""
    record = _record()
    if record is not None:
        print(f"{record.new} {_AWAY if record.away and not record.why else 'is on trial'}")
        return _UNDER_WAY
    done = _read(_VERDICT)
    if done is None or done["version"] != version:
        print(f"{version} was not on trial")
        return _WENT_BACK
    print(done["said"])
    return _PROVED if done["proved"] else _WENT_BACK


def _end(record: Record, *, proved: bool, said: str) -> None:
    with suppress(OSError):
        _write(_VERDICT, {"version": record.new, "proved": proved, "said": said})
    _RECORD.unlink()
    os.sync()  # else a power cut within half an hour brings it back, and the old release
    print(said)


def _agent() -> Agent:
    asked = "ActiveState,Result,StatusText,MainPID"
    said = _systemctl("show", "pantau-agent", f"--property={asked}")
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    try:
        words = Path("/proc", found.get("MainPID", "0"), "cmdline").read_bytes().split(b"\0")
    except OSError:
        words = [b""]  # it ended just now, or does not run at all
    state = [found.get(name, "") for name in ("ActiveState", "Result", "StatusText")]
    return Agent(*state, program=os.fsdecode(words[0]))


def _centre_answers(version: str) -> bool:
    """Whether an echo came back, by the agent's own check; True where that is not to be had."""
    command = [str(_OPT / version / "bin/pantau-agent"), "check", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ASK_S, check=False)
        rows = json.loads(done.stdout)["checks"]
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired):
        return True  # a release that cannot say is not spared
    return any(row["name"] == "echo" and row["ok"] for row in rows)


def _systemctl(*arguments: str) -> str:
    """What it says. Its exit code tells us nothing that the next look does not."""
    command = ["systemctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _kept(file: Path) -> Path:
    """Where the copy of a file is; its name alone would not tell a unit from the link to it."""
    return _KEPT / "-".join(file.parts[1:])


def _copy(source: Path, target: Path) -> None:
    """Make `target` what `source` is: a file, a link, a folder, or nothing."""
    if target.is_dir():
        shutil.rmtree(target)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists() or source.is_symlink():
        unfinished = target.with_name(f".{target.name}.trial")
        unfinished.unlink(missing_ok=True)
        shutil.copy2(source, unfinished, follow_symlinks=False)
        unfinished.replace(target)
    else:
        target.unlink(missing_ok=True)


def _write(file: Path, value: dict[str, object]) -> None:
    """Whole or not at all, also where the power is cut."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(value), encoding="utf-8")
    os.sync()
    unfinished.replace(file)
    os.sync()


def _record() -> Record | None:
    found = _read(_RECORD)
    return None if found is None else Record(**found)


def _read(file: Path) -> dict[str, object] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
