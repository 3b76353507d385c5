"""Logging in: what goes wrong is one line with the place and the mend."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import schedule
from agent.config import ConfigError
from agent.publish import BrokerError, Connection, Protocol, patience, tls_context
from tests.agent.publish_helper import SITE, WAIT_S, mqtt, rig
from tests.lab.broker import Broker
from tests.lab.pki import Authority
from tests.wait import until


def test_what_the_acl_refuses_is_told_once_where_the_broker_says_so(
    tls_broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the certificate of another site nothing of ours gets through."""
    with rig(tmp_path, tls_broker, held=2, **_paths(tls_broker, "bitung-0124")) as agent:
        told = "the broker refuses what we publish: Not authorized; check its ACL"
        until(lambda: agent.publisher.state() == (False, told), WAIT_S, "the refusal")

    assert [record.message for record in caplog.records].count(told) == 1


@pytest.mark.parametrize("asked", [False, True], ids=["after a time", "when somebody asks"])
def test_what_was_mended_at_the_broker_shows_on_a_new_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    monkeypatch.setattr(patience, "ANEW_S", 1e6 if asked else 1.0)
    acl = tmp_path / "acl"
    others = "topic readwrite #\nuser _watcher\ntopic readwrite #\n"
    acl.write_text(f"{others}user {SITE}\ntopic read #\n")
    acl.chmod(0o644)
    with (
        Broker(tmp_path / "broker", extra=[f"acl_file {acl}"]) as broker,
        rig(tmp_path, broker, held=2) as agent,
    ):
        until(lambda: "refuses" in agent.publisher.state()[1], WAIT_S, "the refusal")
        acl.write_text(f"{others}user {SITE}\ntopic readwrite #\n")
        os.kill(broker.pid, signal.SIGHUP)
        if asked:
            until(
                lambda: "Reloading config" in broker.log.read_text(), WAIT_S, "the broker to read"
            )
            agent.publisher.hurry()
        until(lambda: agent.publisher.state()[0] and agent.messages("readings"), WAIT_S, "readings")
        assert agent.publisher.state()[1].startswith("connected")


LEAKS = pytest.mark.filterwarnings(
    # paho leaves the socket of a failed handshake to the garbage collector
    "ignore:unclosed <ssl.SSLSocket:ResourceWarning"
)


def _login(url: str, protocol: Protocol = "5", **changed: Any) -> Connection:
    settings = mqtt(url, **changed)
    return Connection(SITE, settings, protocol, will=None, receive=lambda *_: None)


def _paths(broker: Broker, user: str) -> dict[str, Path]:
    keys = broker.settings(user)
    return {key: Path(value) for key, value in keys.items() if key != "url"}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_mutual_tls_gets_in(tls_broker: Broker, protocol: Protocol) -> None:
    connection = _login(tls_broker.url, protocol, **_paths(tls_broker, SITE))

    assert connection.logged_in
    connection.close()
    assert not connection.alive


def test_a_certificate_of_another_authority_is_refused_by_the_broker(
    tls_broker: Broker, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path / "foreign").client(SITE)
    paths = _paths(tls_broker, SITE) | {"cert_file": foreign.cert, "key_file": foreign.key}

    with pytest.raises(BrokerError, match=r"no answer to the login .*; check the certificate"):
        _login(tls_broker.url, **paths)


@LEAKS
def test_a_broker_signed_by_another_authority_is_refused_by_us(
    tls_broker: Broker, tmp_path: Path
) -> None:
    paths = _paths(tls_broker, SITE) | {"ca_file": Authority(tmp_path / "foreign").ca}

    with pytest.raises(
        BrokerError, match=r"its certificate is not accepted: .*; check mqtt.ca_file"
    ):
        _login(tls_broker.url, **paths)


@LEAKS
def test_a_broker_whose_certificate_names_another_host_is_refused(
    tls_broker: Broker,
) -> None:
    with (
        _relay("127.0.0.2", tls_broker.port) as port,
        pytest.raises(
            BrokerError, match=r"not accepted: IP address mismatch.*the host in mqtt.url"
        ),
    ):
        _login(f"mqtts://127.0.0.2:{port}", **_paths(tls_broker, SITE))


@contextmanager
def _relay(host: str, to_port: int) -> Iterator[int]:
    """One connection on another address, handed through to a local port."""
    with socket.create_server((host, 0)) as listening:

        def run() -> None:
            near, _ = listening.accept()
            with near, socket.create_connection(("127.0.0.1", to_port)) as far:
                back = threading.Thread(target=_copy, args=(far, near), daemon=True)
                back.start()
                _copy(near, far)
                back.join()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(WAIT_S)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def password_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker with a password for the site."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    folder = tmp_path / "with-passwords"
    folder.mkdir()
    file = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", file, SITE, "right"], check=True)
    file.chmod(0o644)
    extra = ["allow_anonymous false", f"password_file {file}"]
    with Broker(folder, extra=extra) as running:
        yield running


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_right_password_gets_in_and_the_wrong_one_is_told(
    password_broker: Broker, tmp_path: Path, protocol: Protocol
) -> None:
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")

    _login(password_broker.url, protocol, password_file=tmp_path / "right").close()
    with pytest.raises(
        BrokerError,
        match=rf"refuses the login of {SITE}: Not authorized; check mqtt.username",
    ):
        _login(password_broker.url, protocol, password_file=tmp_path / "wrong")


def test_a_name_that_does_not_resolve_is_told() -> None:
    with pytest.raises(BrokerError, match=r"broker nowhere.invalid:1883: .*; check mqtt.url"):
        _login("mqtt://nowhere.invalid")


Answer = Callable[[socket.socket], None]


def _says(data: bytes) -> Answer:
    def answer(connected: socket.socket) -> None:
        connected.recv(4096)
        connected.sendall(data)

    return answer


@contextmanager
def _strange_broker(answer: Answer) -> Iterator[str]:
    """Something that listens, and answers each connection in its own way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            try:
                while True:
                    connected, _ = listening.accept()
                    with connected:
                        connected.settimeout(WAIT_S)
                        answer(connected)
            except OSError:
                pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"mqtt://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(WAIT_S)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (_says(b"\x20\x02\x00\x01"), "Unsupported protocol version"),  # as 3.1.1 says it
        (_says(b"\x20\x03\x00\x84\x00"), "Unsupported protocol version"),  # as 5 says it
        (_says(b""), "no answer to the login"),
        (_says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no answer to the login"),
    ],
)
def test_a_broker_that_may_only_not_speak_mqtt_5_is_recognised(answer: Answer, text: str) -> None:
    with _strange_broker(answer) as url, pytest.raises(BrokerError, match=text) as refused:
        _login(url)

    assert refused.value.other_protocol


def test_where_mqtt_5_is_refused_the_agent_goes_on_with_3_1_1(
    tmp_path: Path, broker: Broker
) -> None:
    """A door that shuts out version 5 before a broker that would let anyone in."""

    def door(connected: socket.socket) -> None:
        hello = connected.recv(4096)
        if hello[hello.index(b"MQTT") + 4] == 5:
            connected.sendall(b"\x20\x02\x00\x01")
            return
        with socket.create_connection(("127.0.0.1", broker.port)) as far:
            far.sendall(hello)
            back = threading.Thread(target=_copy, args=(far, connected), daemon=True)
            back.start()
            _copy(connected, far)
            back.join()

    with _strange_broker(door) as url, rig(tmp_path, broker, url=url) as agent:
        until(
            lambda: agent.publisher.state() == (True, "connected with MQTT 3.1.1"),
            WAIT_S,
            "a connection with 3.1.1",
        )
        agent.append(3)
        agent.wait_seqs(3)


def test_a_certificate_file_without_a_certificate_is_a_mistake_of_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(ConfigError, match=r"^mqtt.ca_file: .*/ca.pem: .*; put a PEM file there$"):
        tls_context(mqtt("mqtts://broker.example", ca_file=tmp_path / "ca.pem"))


def test_a_key_of_another_certificate_is_a_mistake_of_configuration(
    authority: Authority,
) -> None:
    mine, other = authority.client(SITE), authority.client("bitung-0124")

    with pytest.raises(
        ConfigError, match=r"^mqtt.cert_file, mqtt.key_file: .*its own, unencrypted"
    ):
        tls_context(
            mqtt(
                "mqtts://broker.example",
                ca_file=authority.ca,
                cert_file=mine.cert,
                key_file=other.key,
            )
        )


def test_an_encrypted_key_does_not_ask_at_the_terminal(
    authority: Authority, tmp_path: Path
) -> None:
    mine = authority.client(SITE)
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", mine.key, "-aes256", "-passout", "pass:x", "-out", locked],
        check=True,
        capture_output=True,
    )

    with pytest.raises(ConfigError, match=re.escape(str(locked))):
        tls_context(
            mqtt(
                "mqtts://broker.example",
                ca_file=authority.ca,
                cert_file=mine.cert,
                key_file=locked,
            )
        )


def _refused_by(broker: Broker, **changed: Any) -> bool | None:
    try:
        _login(broker.url, **changed)
    except BrokerError as err:
        return err.refused
    raise AssertionError("it let us in")


@LEAKS
def test_refusals_that_stay_are_told_from_a_network_that_may_come_back(
    tls_broker: Broker, password_broker: Broker, tmp_path: Path
) -> None:
    right = _paths(tls_broker, SITE)
    stranger = Authority(tmp_path / "stranger")
    own = stranger.client(SITE)
    foreign = right | {"cert_file": own.cert, "key_file": own.key}
    (tmp_path / "wrong").write_text("wrong\n")
    until(lambda: _refused_by(tls_broker, **foreign), WAIT_S, "an alert that is not lost")
    assert _refused_by(tls_broker, **foreign) is not False, "the alert can get lost on the way"
    assert _refused_by(tls_broker, **(right | {"ca_file": stranger.ca})) is True
    assert _refused_by(password_broker, password_file=tmp_path / "wrong") is True
    tls_broker.stop()
    assert _refused_by(tls_broker, **right) is False
    gc.collect()  # where the warning is expected


@pytest.mark.parametrize("mended", ["file", "asked", "clock"])
def test_a_refusal_is_waited_out_until_somebody_mends_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mended: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    monkeypatch.setattr(patience, "_LOOK_S", 0.01)
    monkeypatch.setattr(schedule, "refused_delay", lambda *_: 1e6)
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    settings = mqtt("mqtt://127.0.0.1", password_file=secret)
    waits = patience.Patience(settings, wake, lambda: False, metered=True)
    thread = threading.Thread(
        target=waits.wait, kwargs={"refused": True, "held": False}, daemon=True
    )
    begun_s = waits.progress_s
    thread.start()
    until(lambda: waits.progress_s > begun_s, WAIT_S, "the wait to be told as progress")
    assert thread.is_alive()
    if mended == "file":
        os.utime(secret, (1, 1))
    elif mended == "asked":
        waits.hurry()
    else:
        now_s = time.time()
        monkeypatch.setattr(time, "time", lambda: now_s + 86_400)
    thread.join(WAIT_S)
    assert not thread.is_alive()
    os.close(wake)


def test_a_broker_that_hangs_up_is_patiently_waited_for_only_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(schedule, "refused_delay", lambda *_: asked.append("refused") or 0.0)
    monkeypatch.setattr(schedule, "reconnect_delay", lambda *_: asked.append("lost") or 0.0)
    waits = patience.Patience(mqtt("mqtts://127.0.0.1"), -1, lambda: False, metered=True)
    for refused in (None, True, None, False, None):
        waits.wait(refused=refused, held=False)
    assert asked == ["lost", "refused", "refused", "lost", "lost"]


def test_refusals_in_a_row_are_no_further_apart_than_60_s_where_the_link_is_not_metered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class _Most(random.Random):
        def uniform(self, _a: float, b: float) -> float:
            asked.append(b)
            return 0.0

    asked: list[float] = []
    monkeypatch.setattr(patience.random, "Random", _Most)
    for metered in (False, True):
        waits = patience.Patience(mqtt("mqtts://b"), -1, lambda: False, metered=metered)
        for _ in range(10):
            waits.wait(refused=True, held=True)
    assert asked[:10] == [3, 6, 12, 24, 48, 60, 60, 60, 60, 60]
    assert asked[10:] == [3, 6, 12, 24, 48, 96, 192, 384, 600, 600]
