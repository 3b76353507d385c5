"""The installed command as processes: exit codes, one-line errors, the service's life."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.spool import held, lock
from tests.lab.broker import Broker
from tests.lab.peer import Peer
from tests.wait import until

SITE = "bitung-0123"
WAIT_S = 40.0
HANGS_S = 9.0
"""An end takes 2 s at most; after 10 s systemd kills (TimeoutStopSec)."""
AGENT = Path(sys.executable).with_name("pantau-agent")


@pytest.fixture
def folder(tmp_path: Path, broker: Broker) -> Path:
    """A folder with a configuration that measures this machine alone."""
    return configure(tmp_path, f'url = "{broker.url}"\nkeepalive_s = 2')


def configure(folder: Path, mqtt: str, window_s: int = 1) -> Path:
    (folder / "agent.toml").write_text(
        f'site = "{SITE}"\n[mqtt]\n{mqtt}\n[spool]\npath = "spool"\nmax_mb = 2\n'
        f'[reading]\nwindow_s = {window_s}\n[targets]\ndomestic = ["127.0.0.1"]\n'
    )
    return folder


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [AGENT, arguments[0], "--config", folder / "agent.toml", *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


class Service:
    """`pantau-agent run` in a process, and what it says."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.log = folder / "agent.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [AGENT, "run", "--config", folder / "agent.toml"],
                stderr=log,
                env={**os.environ, **environment},
            )

    def held(self) -> dict[tuple[str, int], bytes]:
        path = self.folder / "spool"
        return {(stream, seq): data for stream, seq, data in held(path)}

    def wait_held(self, count: int) -> None:
        until(lambda: len(self.held()) >= count, WAIT_S, f"{count} readings in the spool")

    def end(self, sign: signal.Signals) -> tuple[int, float]:
        """Exit code, and how long it took."""
        begun_s = time.monotonic()
        self.process.send_signal(sign)
        code = self.process.wait(WAIT_S)
        return code, time.monotonic() - begun_s


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Service]:
    service = Service(folder, **environment)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


@pytest.fixture
def server(broker: Broker) -> Iterator[Peer]:
    """The other side: it hears everything, and says what a test has it say."""
    with Peer(broker, "_server") as peer:
        peer.subscribe("pantau/v1/sites/+/+")
        yield peer


def heard(peer: Peer, leaf: str) -> list[dict[str, Any]]:
    topic = wire.site_topic(SITE, leaf)
    return [
        json.loads(wire.plain(heard.payload)) for heard in list(peer.heard) if heard.topic == topic
    ]


def give_command(peer: Peer, do: str, **args: Any) -> dict[str, Any]:
    """Give a command and wait for its reply."""
    command_id = str(uuid.uuid4())
    command = {"v": 1, "site": SITE, "id": command_id, "do": do, "args": args}
    command["expires_at"] = wire.iso(time.time() + 600)
    peer.publish(wire.site_topic(SITE, "commands"), json.dumps(command))
    return until(
        lambda: next((r for r in heard(peer, "replies") if r["id"] == command_id), None),
        WAIT_S,
        f"the reply to {do}",
    )


def test_the_service_measures_stores_sends_and_ends_cleanly_in_time(
    folder: Path, server: Peer
) -> None:
    with running(folder) as service:
        until(lambda: len(heard(server, "readings")) >= 3, WAIT_S, "three readings")
        code, took_s = service.end(signal.SIGTERM)
        until(lambda: len(heard(server, "presence")) == 2, WAIT_S, "the goodbye")

        assert (code, took_s < HANGS_S) == (0, True)
        online, offline = heard(server, "presence")
        assert (online["state"], offline["state"], offline["reason"]) == (
            "online",
            "offline",
            "stopped",
        )
        sent = {
            (message["stream"], reading["seq"]): reading
            for message in heard(server, "readings")
            for reading in message["readings"]
        }
        stored = {name: json.loads(data) for name, data in service.held().items()}
        assert sent == stored
        assert all(reading["ladder"]["domestic"] == "ok" for reading in sent.values())


@pytest.mark.parametrize(
    ("sign", "reason"), [(signal.SIGINT, "stopped"), (signal.SIGUSR1, "upgrade")]
)
def test_the_signal_tells_the_reason(
    folder: Path, server: Peer, sign: signal.Signals, reason: str
) -> None:
    with running(folder) as service:
        until(lambda: heard(server, "presence"), WAIT_S, "presence")
        code, _ = service.end(sign)
        until(lambda: len(heard(server, "presence")) == 2, WAIT_S, "the goodbye")

    assert code == 0
    assert heard(server, "presence")[1]["reason"] == reason


def test_of_two_signals_the_first_tells_the_reason(folder: Path, server: Peer) -> None:
    with running(folder) as service:
        until(lambda: heard(server, "presence"), WAIT_S, "presence")
        # as a play does: the goodbye of an upgrade, and the restart at its heels
        service.process.send_signal(signal.SIGUSR1)
        service.end(signal.SIGTERM)
        until(lambda: len(heard(server, "presence")) == 2, WAIT_S, "the goodbye")

    assert heard(server, "presence")[1]["reason"] == "upgrade"


def test_with_a_broker_that_is_gone_the_end_is_just_as_quick(tmp_path: Path) -> None:
    configure(tmp_path, 'url = "mqtt://127.0.0.1:1"')
    with running(tmp_path) as service:
        service.wait_held(2)
        code, took_s = service.end(signal.SIGTERM)

    assert (code, took_s < HANGS_S) == (0, True)
    assert service.log.read_text().count("Connection refused") == 1


def test_a_broker_that_stands_still_does_not_hold_up_the_end(folder: Path, broker: Broker) -> None:
    configure(folder, f'url = "{broker.url}"\nkeepalive_s = 60')
    with running(folder) as service:
        until(lambda: "connected to" in service.log.read_text(), WAIT_S, "a connection")
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            code, took_s = service.end(signal.SIGTERM)
        finally:
            os.kill(broker.pid, signal.SIGCONT)

    assert (code, took_s < HANGS_S) == (0, True)


def test_kill_9_lets_the_will_speak_and_the_stream_goes_on(folder: Path, server: Peer) -> None:
    with running(folder) as service:
        until(lambda: heard(server, "readings"), WAIT_S, "a reading")
        service.end(signal.SIGKILL)
        until(lambda: len(heard(server, "presence")) == 2, WAIT_S, "the will")
    with running(folder) as service:
        before = len(service.held())
        service.wait_held(before + 2)
        service.end(signal.SIGTERM)

    online, will, again, *_ = heard(server, "presence")
    assert (will["state"], will["reason"], will["session"]) == (
        "offline",
        "lost",
        online["session"],
    )
    assert again["session"] != online["session"]
    streams = {stream for stream, _ in service.held()}
    assert len(streams) == 1
    assert sorted(seq for _, seq in service.held()) == list(range(1, len(service.held()) + 1))


def test_commands_and_settings_are_done_and_answered(folder: Path, server: Peer) -> None:
    with running(folder) as service:
        until(lambda: len(heard(server, "readings")) >= 2, WAIT_S, "two readings")

        newest = give_command(server, "reading")["result"]
        assert newest["reading"]["seq"] >= 2
        assert give_command(server, "probe", name="host")["result"]["value"]["memory_ratio"] > 0
        assert "must be one of link," in give_command(server, "probe", name="x")["result"]["error"]
        again = give_command(server, "resend", **{"from": 1, "to": 2})["result"]
        assert again == {"stream": newest["stream"], "from": 1, "to": 2, "count": 2}
        assert (
            "from not above to" in give_command(server, "resend", **{"from": 2})["result"]["error"]
        )

        settings = {"v": 1, "site": SITE, "revision": 3, "window_s": 2}
        server.publish(wire.site_topic(SITE, "settings"), json.dumps(settings), retain=True)
        until(
            lambda: any(
                reading["window_s"] == 2 and reading["settings_revision"] == 3
                for message in heard(server, "readings")
                for reading in message["readings"]
            ),
            WAIT_S,
            "a window of 2 s",
        )
        assert any(r["id"] == "settings-3" and r["ok"] for r in heard(server, "replies"))

        assert give_command(server, "restart")["ok"]
        assert service.process.wait(WAIT_S) == 0


def _answer_echoes(server: Peer) -> None:
    """What the server does for `check`: the command `echo` with the reply's id."""
    reply = until(
        lambda: next((r for r in heard(server, "replies") if r.get("echo")), None),
        WAIT_S,
        "an echo",
    )
    command = {"v": 1, "site": SITE, "id": reply["id"], "do": "echo"}
    command["expires_at"] = wire.iso(time.time() + 600)
    server.publish(wire.site_topic(SITE, "commands"), json.dumps(command))


def _check(folder: Path, server: Peer | None) -> tuple[int, dict[str, Any]]:
    command = [AGENT, "check", "--config", folder / "agent.toml", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as checking:
        if server is not None:
            _answer_echoes(server)
        out, _ = checking.communicate(timeout=90)
    return checking.returncode, json.loads(out)


def test_check_alone_logs_in_and_leaves_no_trace_of_a_session(folder: Path, server: Peer) -> None:
    code, told = _check(folder, server)

    assert (code, told["ok"], told["service"]) == (0, True, False)
    tried = {row["name"] for row in told["checks"] if row["status"] == "pass"}
    assert tried >= {"config", "clock", "spool", "host", "domestic", "broker", "topics", "echo"}
    assert heard(server, "presence") == []
    assert not (folder / "spool").exists()


def test_check_asks_the_running_service_and_never_connects_beside_it(
    folder: Path, server: Peer
) -> None:
    with running(folder):
        until(lambda: heard(server, "readings"), WAIT_S, "a reading")
        code, told = _check(folder, server)

        assert (code, told["ok"], told["service"]) == (0, True, True)
        assert {row["name"] for row in told["checks"]} >= {"service", "spool", "broker", "echo"}
        assert len(heard(server, "presence")) == 1


def test_check_with_a_locked_spool_and_nobody_to_ask_does_not_log_in(
    folder: Path, server: Peer
) -> None:
    with lock(folder / "spool"):
        code, told = _check(folder, None)

    assert (code, told["codes"]) == (1, [132])
    assert "another pantau-agent uses it" in next(
        row["detail"] for row in told["checks"] if row["name"] == "spool"
    )
    assert {row["status"] for row in told["checks"] if row["name"] in ("broker", "echo")} == {
        "skipped"
    }
    assert not server.heard


def test_check_names_what_fails_and_exits_with_1(tmp_path: Path) -> None:
    configure(tmp_path, 'url = "mqtt://127.0.0.1:1"')
    done = _run(tmp_path, "check", "--lang", "en")

    assert done.returncode == 1
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert lines["domestic"].split()[1] == "ok"
    assert lines["broker port"].split()[2:4] == ["FAIL", "502"]
    assert "mend: look at host and port in mqtt.url" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("fails: broker port 502.")


def test_reading_prints_one_valid_reading_and_touches_nothing(tmp_path: Path) -> None:
    configure(tmp_path, 'url = "mqtt://127.0.0.1:1"')
    done = _run(tmp_path, "reading", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    shown = wire.decode_reading(done.stdout.encode()).reading
    assert shown.ladder.domestic == "ok"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml"]


def test_spool_lists_what_is_held(folder: Path) -> None:
    with running(folder) as service:
        service.wait_held(2)
        done = _run(folder, "spool", "--json")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seq"] for line in lines][:2] == [1, 2]
    assert lines[0]["reading"]["seq"] == 1
    assert "seq 1 to" in _run(folder, "spool").stdout


def test_a_second_service_on_the_same_spool_gives_up_with_one_line(
    folder: Path, server: Peer
) -> None:
    with running(folder):
        until(lambda: heard(server, "presence"), WAIT_S, "presence")
        second = _run(folder, "run")

    assert second.returncode == 1
    assert second.stderr == (
        f"pantau-agent: spool {folder / 'spool'}: another pantau-agent uses it;"
        " stop that one first\n"
    )


@pytest.mark.parametrize("command", ["run", "check", "reading", "spool"])
def test_a_mistake_in_the_configuration_is_one_line_and_exit_code_2(
    tmp_path: Path, command: str
) -> None:
    configure(tmp_path, 'url = "mqtts://127.0.0.1"\nca_file = "ca.pem"')
    done = _run(tmp_path, command)

    assert done.returncode == 2
    assert done.stderr == (
        f"pantau-agent: {tmp_path / 'agent.toml'}: mqtt.ca_file: cannot read {tmp_path / 'ca.pem'}:"
        " No such file or directory; put the file there or mend the path\n"
    )


def test_a_spool_that_cannot_be_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")
    configure(tmp_path, 'url = "mqtt://127.0.0.1"')
    done = _run(tmp_path, "run")

    assert done.returncode == 2
    assert done.stderr == (
        f"pantau-agent: {tmp_path / 'agent.toml'}: spool.path: {tmp_path / 'spool'}: File exists;"
        " mend spool.path or its permissions\n"
    )


def test_a_certificate_file_that_holds_none_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    configure(tmp_path, 'url = "mqtts://127.0.0.1"\nca_file = "ca.pem"')
    done = _run(tmp_path, "run")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path / 'agent.toml'}: mqtt.ca_file: " in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["dance"], ["run", "--dance"], ["check", "--js"], ["check", "--conf", "/x"]),
        *(["dan\nce"], ["run", "a\nb"], ["run", "--config", "/no\nwhere"]),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    done = subprocess.run([AGENT, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("pantau-agent")
    assert done.stderr.count("\n") == 1


def test_systemd_hears_of_ready_progress_and_the_end(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0pantau-test-{uuid.uuid4()}")
        manager.settimeout(WAIT_S)
        address = manager.getsockname().decode().replace("\0", "@", 1)
        with running(folder, NOTIFY_SOCKET=address) as service:
            first = manager.recv(4096).decode()
            second = manager.recv(4096).decode()
            service.end(signal.SIGTERM)
            manager.setblocking(False)
            last = [manager.recv(4096).decode()]
            while "STOPPING=1" not in last:
                last.append(manager.recv(4096).decode())

    assert first.splitlines() == ["READY=1", "WATCHDOG_USEC=63000000"]
    assert second.splitlines()[:2] == ["WATCHDOG=1", "WATCHDOG_USEC=33000000"]
    status = "STATUS=connected with MQTT 5; the centre confirmed nothing yet; 1 readings wait"
    assert status in second


def test_the_resident_process_knows_nothing_heavy() -> None:
    script = (
        "import sys, agent.service; print([m for m in ('scapy', 'pyroute2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
