"""`pantau demo` as a user runs it: the installed command, with its real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.wait import until

PANTAU = Path(sysconfig.get_path("scripts")) / "pantau"
END_S = 30.0
"""Far more than the demo takes to end, even on a busy machine."""

Play = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Starts the demo with `tmp_path` for its temporary folder; ends what is left."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        demo = subprocess.Popen(
            [str(PANTAU), "demo", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        started.append(demo)
        return demo

    yield start
    for demo in started:
        demo.kill()
        demo.communicate()


def children(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    """The demo's processes, once all of them run."""

    wanted = ("server.demo.broker", "ingest", "pantau-agent")

    def running() -> list[psutil.Process]:
        assert demo.poll() is None, demo.communicate()
        with contextlib.suppress(psutil.NoSuchProcess):  # one of them ended meanwhile
            found = psutil.Process(demo.pid).children(recursive=True)
            commands = [" ".join(child.cmdline()) for child in found]
            if all(any(one in command for command in commands) for one in wanted):
                return found
        return []

    return until(running, END_S, "broker, ingest and agent to run")


def wait_gone(processes: list[psutil.Process]) -> None:
    def gone(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.status() == psutil.STATUS_ZOMBIE  # dead, and its parent is too
        return True

    until(lambda: all(map(gone, processes)), END_S, "the children to end")


def test_the_story_comes_out_as_promised_and_every_reading_is_stored_once(
    play: Play, tmp_path: Path
) -> None:
    demo = play("--seconds", "60", "--json")
    output, errors = demo.communicate(timeout=120)
    assert errors == ""
    (line,) = output.splitlines()
    report = json.loads(line)
    assert report["failures"] == []
    assert (demo.returncode, report["ok"]) == (0, True)
    events = {event["event"]: event for event in report["events"]}
    assert all(event["met"] for event in events.values())
    must_be_told = {"lossy", "isp_cut", "power_cut", "healed", "isp_back", "power_back"}
    assert set(events) == must_be_told | {"blip", "restart"}
    cut = events["isp_cut"]["sites"]
    assert cut >= 3
    assert report["alerts"]["firing"] == {"site_degraded": 1, "site_offline": cut + 1}
    causes = report["alerts"]["causes"]
    # The ISP's, once all of its sites were looked at again
    assert (causes["power"], causes.get("link", 0) + causes.get("isp", 0)) == (1, cut)
    readings = report["readings"]
    assert readings["journalled"] == readings["acknowledged"] == readings["stored"] > 500
    assert (readings["missing"], readings["doubled"], readings["altered"]) == (0, 0, 0)
    assert report["agent"]["readings"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_every_process_and_leaves_no_folder(
    play: Play, tmp_path: Path, number: signal.Signals
) -> None:
    demo = play()
    processes = children(demo)
    demo.send_signal(number)
    output, errors = demo.communicate(timeout=END_S)
    assert demo.returncode == 130
    assert errors == ""
    assert output.endswith("The demo was interrupted before the story's end.\n")
    assert "\x1b" not in output
    wait_gone(processes)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_demo_still_prints_its_json_line(play: Play) -> None:
    demo = play("--json")
    children(demo)
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=END_S)
    report = json.loads(output)
    assert report["ok"] is False
    assert report["failures"] == ["interrupted before the story's end"]


def spools(demo: subprocess.Popen[str]) -> set[Path]:
    """The folders that hold spools of its sites."""
    opened = set()
    for link in Path(f"/proc/{demo.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            opened.add(link.readlink())
    return {one.parent for one in opened if one.parent.name.startswith("pantau-fleet-")}


def test_nothing_outlives_a_demo_that_is_killed_neither_a_process_nor_what_lies_in_memory(
    play: Play,
) -> None:
    demo = play()
    processes = children(demo)
    (folder,) = until(lambda: spools(demo), END_S, "the spools of its sites")
    demo.kill()
    wait_gone(processes)
    until(lambda: not folder.exists(), END_S, "the spools to go")


@pytest.mark.parametrize("name", ["ingest", "server.demo.broker", "pantau-agent"])
def test_a_process_that_dies_ends_the_demo_with_one_line(
    play: Play, tmp_path: Path, name: str
) -> None:
    demo = play()
    processes = children(demo)
    next(one for one in processes if name in " ".join(one.cmdline())).kill()
    _, errors = demo.communicate(timeout=END_S)
    assert demo.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("pantau demo: ")
    assert name.removeprefix("server.demo.").removeprefix("pantau-") in line
    assert "was ended by signal 9; its log ends: " in line
    wait_gone(processes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["demo"], "pantau demo: paho"), (["simulate", "--sites", "1"], "pantau: simulate: paho")],
)
def test_what_is_not_installed_is_named_in_one_line(arguments: list[str], said: str) -> None:
    without = (
        "import sys; sys.modules['paho'] = None; from server.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert "is missing: install pantau[agent,server]" in done.stderr


def test_a_folder_that_holds_something_is_refused(play: Play, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    demo = play("--keep", str(tmp_path))
    _, errors = demo.communicate(timeout=END_S)
    assert demo.returncode == 1
    assert errors == f"pantau demo: --keep {tmp_path}: it is not empty; name a new folder\n"


@pytest.mark.parametrize("seconds", ["44", "soon"])
def test_a_story_that_would_be_too_short_is_refused(play: Play, seconds: str) -> None:
    demo = play("--seconds", seconds)
    _, errors = demo.communicate(timeout=END_S)
    assert demo.returncode == 2
    assert f"'{seconds}' is no number from 45 on" in errors
