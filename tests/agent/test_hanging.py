"""What really hangs: a thread in a call of the kernel's, a process that is stopped or mute."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import wire
from agent.probes import Context, ProbeError, Runner, ending, path
from agent.probes.host import HostProbe
from agent.probes.path import Goal
from agent.probes.web import web
from agent.spool import held
from tests.lab.city import PANTAU_AGENT, toml
from tests.lab.net import Namespace, cable
from tests.lab.process import Service
from tests.wait import until


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """A file of the board's that hangs whoever opens it; ended after the test."""
    file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    yield file
    until(lambda: give(file, "0\n") or not _threads(), 20, "the threads to end")


def give(fifo: Path, text: str) -> bool:
    """Write to all who wait there; whether no thread of the probe is left."""
    try:
        out = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return not _threads()
    os.write(out, text.encode())
    os.close(out)
    return not _threads()


def _threads() -> int:
    return sum(thread.name == "host" for thread in threading.enumerate())


def test_a_thread_stuck_in_the_kernel_is_abandoned_told_and_never_doubled(
    tmp_path: Path, fifo: Path
) -> None:
    runner = Runner({"host": HostProbe(tmp_path / "sys")})
    said = [runner.run("host", Context(), 0.1).error for _ in range(5)]

    assert said[0] == "timeout after 0.1 s"
    assert [text and text.partition(" since ")[0] for text in said[1:]] == ["still hangs"] * 4
    assert _threads() == 1

    until(lambda: give(fifo, "1\n"), 10, "the thread to end")
    fifo.unlink()
    fifo.write_text("1\n")
    outcome = runner.run("host", Context(), 5.0)
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Host)
    assert outcome.value.undervoltage is True


def test_one_that_was_given_up_is_tried_again_but_three_at_most_hang_in_the_process(
    tmp_path: Path, fifo: Path
) -> None:
    assert fifo.is_fifo()
    runner = Runner({"host": HostProbe(tmp_path / "sys")}, give_up_s=0.0)
    said = [runner.run("host", Context(), 0.1).error for _ in range(5)]
    others = Runner({"host": HostProbe(tmp_path / "sys")}).run("host", Context(), 0.1)

    assert said[:3] == ["timeout after 0.1 s"] * 3
    assert {*said[3:], others.error} == {"3 runs of it still hang; only a restart ends them"}
    assert _threads() == 3


def test_a_server_that_never_answers_costs_the_deadline_and_no_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        runner = Runner({"web": web})
        outcome = runner.run("web", Context(url=url), 0.3)
        until(lambda: "web" not in [t.name for t in threading.enumerate()], 10, "its thread's end")

    assert outcome.error is not None
    assert "0.3 s" in outcome.error


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _child(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


@pytest.mark.parametrize("script", ["sleep 1000 & kill -STOP $$", "trap '' TERM; sleep 1000"])
def test_a_helper_that_is_stopped_or_deaf_is_killed_with_its_children(script: str) -> None:
    helper = ending.start(["sh", "-c", f"echo so far; {script}; :"])
    child = until(lambda: _child(helper.pid), 10, "its child")
    if "STOP" in script:
        os.waitid(os.P_PID, helper.pid, os.WSTOPPED | os.WNOWAIT)
    out, _ = ending.kill(helper)

    assert (out, helper.returncode) == (b"so far\n", -signal.SIGKILL)
    until(lambda: _ended(child), 10, "the child to end")


def test_a_child_that_went_away_with_our_pipes_keeps_nobody_waiting(tmp_path: Path) -> None:
    away = f"import os, time; os.setsid(); open({str(tmp_path / 'pid')!r}, 'w').write("
    away += "str(os.getpid()) + '.'); time.sleep(1000)"
    helper = ending.start(["sh", "-c", f'{sys.executable} -c "{away}" & sleep 1000'])
    try:
        until(lambda: (tmp_path / "pid").exists() and _pid(tmp_path), 20, "the child")
        begun_s = time.monotonic()
        assert ending.kill(helper) == (b"", b"")
        assert time.monotonic() - begun_s < 10
        assert helper.returncode == -signal.SIGKILL
    finally:
        os.kill(_pid(tmp_path), signal.SIGKILL)


def _pid(folder: Path) -> int:
    text = (folder / "pid").read_text()
    return int(text[:-1]) if text.endswith(".") else 0


def test_while_too_many_cannot_even_be_killed_nothing_more_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck = [ending.start(["sleep", "1000"]) for _ in range(3)]
    try:
        monkeypatch.setattr(ending, "_left", list(stuck))
        with pytest.raises(ProbeError, match="3 processes hang inside the kernel"):
            ending.output(["true"], 5)
        ending.kill(stuck[0])
        assert ending.output(["true"], 5) == ""
    finally:
        for process in stuck:
            ending.kill(process)


def test_a_trace_that_hangs_is_killed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "DEADLINE_S", 0.05)

    assert path.trace([Goal("127.0.0.1")], "command", ()) == (
        [],
        "the trace helper ended early: it hung and was killed",
    )


@pytest.mark.needs_root
@pytest.mark.slow
def test_windows_go_on_beside_a_probe_that_hangs_and_the_probe_comes_back(tmp_path: Path) -> None:
    leases, config = tmp_path / "leases", tmp_path / "agent.toml"
    os.mkfifo(leases)
    tables = {
        "mqtt": {"url": "mqtt://127.0.0.1:1"},
        "spool": {"path": str(tmp_path / "spool")},
        "reading": {"window_s": 1},
        "targets": {"domestic": ["10.0.0.2"]},
        "clients": {"leases": str(leases)},
    }
    config.write_text(toml({"site": "bitung-0123"}, tables))

    def readings() -> list[dict[str, dict[str, str]]]:
        return [json.loads(data) for _, _, data in held(tmp_path / "spool")]

    with Namespace() as site, Namespace() as far, Namespace() as guest:
        cable(site, "10.0.0.1/24", far, "10.0.0.2/24")
        cable(site, "192.168.77.1/24", guest, "192.168.77.2/24")
        site.route("default", "10.0.0.2")
        command = site.within(PANTAU_AGENT, "run", "--config", str(config))
        agent = Service("agent", command, tmp_path / "agent.log")
        agent.start()
        try:
            until(lambda: len(readings()) >= 5, 60, "five readings")
            assert {one["ladder"]["domestic"] for one in readings()} == {"ok"}
            first, *more = [one["errors"]["clients"] for one in readings()]
            assert first == "timeout after 0.9 s"
            assert all(text.startswith("still hangs since ") for text in more)

            with leases.open("w"):
                leases.unlink()
            until(lambda: "clients" not in readings()[-1].get("errors", {}), 60, "its recovery")
        finally:
            agent.discard()
