"""The web probe against real servers: the page, a portal, and every way to answer badly."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from agent import wire
from agent.measured import Outcome
from agent.probes import Context, run
from tests.agent.servers import TcpAnswer, tcp_server, unused_tcp


def says(text: bytes) -> TcpAnswer:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)

    return answer


def fetch(answer: TcpAnswer, *, path: str = "/generate_204", deadline_s: float = 5.0) -> Outcome:
    with tcp_server(answer) as place:
        return run("web", Context(url=f"http://{place}{path}"), deadline_s)


def test_204_is_ok() -> None:
    outcome = fetch(says(b"HTTP/1.1 204 No Content\r\n\r\n"))
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Web)
    assert (outcome.value.ok, outcome.value.status, outcome.value.portal) == (True, 204, False)
    assert 0 < outcome.value.time_ms < 5000


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200 OK", 200),
        (b"HTTP/1.1 302 Found", 302),
        (b"HTTP/1.0 511 Network Authentication Required", 511),
        (b"HTTP/1.1 200 ", 200),
    ],
)
def test_another_success_and_a_redirect_are_a_portal(line: bytes, status: int) -> None:
    outcome = fetch(says(line + b"\r\nContent-Length: 5\r\n\r\nlogin"))
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Web)
    assert (outcome.value.ok, outcome.value.status, outcome.value.portal) == (False, status, True)


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_server_that_is_broken_is_no_portal(status: int) -> None:
    outcome = fetch(says(f"HTTP/1.1 {status} Sorry\r\n\r\n".encode()))
    assert isinstance(outcome.value, wire.Web)
    assert (outcome.value.ok, outcome.value.portal) == (False, False)
    assert (outcome.value.status, outcome.value.failure) == (status, "answer")
    assert outcome.error is not None
    assert outcome.error.endswith(f"answers {status}, which is neither 204 nor a portal")


def test_the_first_byte_is_timed_from_the_request() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        threading.Event().wait(0.2)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    outcome = fetch(answer)
    assert isinstance(outcome.value, wire.Web)
    assert 200 <= outcome.value.first_byte_ms <= outcome.value.time_ms


def test_a_server_that_keeps_silent_on_tls_is_a_timeout_and_no_tls_error() -> None:
    with tcp_server(lambda connection: connection.settimeout(0.6) or _wait(connection)) as place:
        outcome = run("web", Context(url=f"https://{place}/"), 0.3)
    assert outcome.value == wire.Web(ok=False, failure="timeout")


def test_a_server_that_hangs_up_on_tls_is_a_tls_error() -> None:
    with tcp_server(lambda _: None) as place:
        outcome = run("web", Context(url=f"https://{place}/"), 5.0)
    assert outcome.value == wire.Web(ok=False, failure="tls")
    assert outcome.error is not None
    assert outcome.error.startswith(f"no TLS with {place}: ")


def test_a_redirect_is_not_followed() -> None:
    with tcp_server(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as elsewhere:
        location = f"HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\n\r\n"
        outcome = fetch(says(location.encode()))
    assert isinstance(outcome.value, wire.Web)
    assert outcome.value.status == 302


def test_the_request_names_host_and_path_and_asks_for_no_more() -> None:
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        seen.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with tcp_server(answer) as place:
        run("web", Context(url=f"http://{place}/check?x=1#part"), 5.0)
    head, *rest = seen[0].split(b"\r\n")
    assert head == b"GET /check?x=1 HTTP/1.1"
    assert b"Host: " + place.encode() in rest
    assert b"Connection: close" in rest


def test_an_answer_that_comes_in_pieces_is_put_together() -> None:
    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(4096)
        for byte in b"HTTP/1.1 204 No Content\r\n":
            connection.sendall(bytes([byte]))

    outcome = fetch(answer)
    assert isinstance(outcome.value, wire.Web)
    assert outcome.value.ok


def test_a_body_without_end_is_not_read() -> None:
    enough = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not enough.is_set():
            connection.sendall(b"x" * 65536)  # ends with the probe's hanging up

    outcome = fetch(answer)
    enough.set()
    assert isinstance(outcome.value, wire.Web)
    assert outcome.value.status == 200


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(b""), "closed the connection before it answered"),
        (says(b"HTTP/1.1 20"), "closed the connection before it answered"),
        (says(b"220 mail.example ESMTP\r\n"), "answers something that is not HTTP"),
        (says(b"HTTP/1.1 2x4 No\r\n"), "answers something that is not HTTP"),
        (says(b"\x16\x03\x01\n"), "answers something that is not HTTP"),
        (says(b"x" * 5000), "answers something that is not HTTP"),
    ],
)
def test_half_an_answer_and_garbage_are_named(answer: TcpAnswer, error: str) -> None:
    outcome = fetch(answer)
    assert outcome.value == wire.Web(ok=False, failure="answer")
    assert outcome.error is not None
    assert outcome.error.endswith(error)
    assert outcome.error.startswith("127.0.0.1:")


def test_a_server_that_accepts_and_keeps_silent_is_a_timeout() -> None:
    outcome = fetch(
        lambda connection: connection.settimeout(0.6) or _wait(connection), deadline_s=0.3
    )
    assert outcome.value == wire.Web(ok=False, failure="timeout")
    assert outcome.error == "timeout after 0.3 s"


def test_a_server_that_drips_does_not_outlast_the_deadline() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.settimeout(0.05)
        for byte in b"HTTP/1.1 204 " + b"N" * 200:
            connection.sendall(bytes([byte]))
            _wait(connection)

    outcome = fetch(answer, deadline_s=0.4)
    assert outcome.value == wire.Web(ok=False, failure="timeout")
    assert outcome.error == "timeout after 0.4 s"


def _wait(connection: socket.socket) -> None:
    """Lets the connection's timeout pass, or returns when the other side hangs up."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return


def test_a_port_that_refuses_is_named_so() -> None:
    outcome = run("web", Context(url=f"http://{unused_tcp()}/"), 5.0)
    assert outcome.value == wire.Web(ok=False, failure="connect")
    assert outcome.error == "Connection refused"


@pytest.mark.parametrize("url", ["ftp://192.0.2.1/", "http:///x", "example.org"])
def test_a_url_that_is_none_is_named(url: str) -> None:
    outcome = run("web", Context(url=url), 1.0)
    assert outcome.error == f"{url!r} is no http or https URL"


def test_without_url_there_is_nothing_to_measure() -> None:
    outcome = run("web", Context(), 1.0)
    assert (outcome.value, outcome.error) == (None, None)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    assert openssl is not None
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=portal",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)

    def answer(connection: socket.socket) -> None:
        try:
            tls.wrap_socket(connection, server_side=True).close()
        except OSError:
            return  # the probe hung up, as it should

    with tcp_server(answer) as place:
        outcome = run("web", Context(url=f"https://{place}/"), 5.0)
    assert outcome.value == wire.Web(ok=False, failure="tls")
    assert outcome.error == "certificate of 127.0.0.1 refused: self-signed certificate"


def test_a_server_without_tls_on_an_https_url_is_named() -> None:
    with tcp_server(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as place:
        outcome = run("web", Context(url=f"https://{place}/"), 5.0)
    assert outcome.error is not None
    assert outcome.error.startswith(f"no TLS with {place}: ")
