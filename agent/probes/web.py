"""One fetch of a page that answers 204, to see whether the web is really there.

Only the status line is read (RFC 9112): no redirect is followed and no body fetched, and
the whole exchange stays under one deadline, also against a server that drips.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from msgspec.structs import replace

from agent import wire
from agent.probes.runner import Context, ProbeError

_MAX_LINE_BYTES = 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?\r?\n")


def web(context: Context) -> wire.Web | None:
    """Fetches the page: 204 is ok; another success or a redirect is a portal in between.

    Raises:
        ProbeError: the URL is unusable; or a step failed, then with which one.
    """
    if context.url is None:
        return None
    url = urlsplit(context.url)
    if url.hostname is None or url.scheme not in ("http", "https"):
        raise ProbeError(f"{url.geturl()!r} is no http or https URL")
    begun_s = time.monotonic()
    try:
        status, first_byte_s = _fetch(url, begun_s + context.deadline_s)
    except TimeoutError:
        text = f"timeout after {context.deadline_s:.1f} s"
        raise ProbeError(text, wire.Web(ok=False, failure="timeout")) from None
    except _StepError as err:
        raise ProbeError(str(err), wire.Web(ok=False, failure=err.step)) from None
    section = wire.Web(
        ok=status == 204,
        status=status,
        time_ms=round((time.monotonic() - begun_s) * 1000, 3),
        portal=is_portal(status),
        first_byte_ms=round(first_byte_s * 1000, 3),
    )
    if section.ok or section.portal:
        return section
    text = f"{url.netloc} answers {status}, which is neither 204 nor a portal"
    raise ProbeError(text, replace(section, failure="answer"))


def is_portal(status: int) -> bool:
    """Whether a status means that a portal answered (RFC 8952, 6585), not a broken server."""
    return (200 <= status < 400 and status != 204) or status == 511


class _StepError(Exception):
    """A step of the fetch failed."""

    def __init__(self, step: Literal["name", "connect", "tls", "answer"], text: str) -> None:
        super().__init__(text)
        self.step = step


def _fetch(url: SplitResult, end_s: float) -> tuple[int, float]:
    """The status, and the seconds from the request to the answer's first byte."""
    host, secure = url.hostname or "", url.scheme == "https"
    port = url.port or (443 if secure else 80)
    with _connected(host, port, end_s) as plain:
        if not secure:
            return _exchange(plain, url, end_s)
        plain.settimeout(_left_s(end_s))
        with _encrypted(plain, host, port) as sock:
            return _exchange(sock, url, end_s)


def _connected(host: str, port: int, end_s: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=_left_s(end_s))
    except TimeoutError:
        raise
    except socket.gaierror as err:
        raise _StepError("name", err.strerror or str(err)) from None
    except OSError as err:
        raise _StepError("connect", err.strerror or str(err)) from None


def _encrypted(plain: socket.socket, host: str, port: int) -> ssl.SSLSocket:
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except TimeoutError:
        raise
    except ssl.SSLCertVerificationError as err:
        text = f"certificate of {host} refused: {err.verify_message}"
        raise _StepError("tls", text) from None
    except ssl.SSLError as err:
        raise _StepError("tls", f"no TLS with {host}:{port}: {err.reason or err}") from None
    except OSError as err:
        text = f"no TLS with {host}:{port}: {err.strerror or 'connection closed'}"
        raise _StepError("tls", text) from None


def _exchange(sock: socket.socket, url: SplitResult, end_s: float) -> tuple[int, float]:
    try:
        sock.settimeout(_left_s(end_s))
        asked_s = time.monotonic()
        sock.sendall(_request(url))
        received = sock.recv(_MAX_LINE_BYTES)
        first_byte_s = time.monotonic() - asked_s
        more = received
        while more and b"\n" not in received and len(received) < _MAX_LINE_BYTES:
            sock.settimeout(_left_s(end_s))
            more = sock.recv(_MAX_LINE_BYTES)
            received += more
    except TimeoutError:
        raise
    except OSError as err:
        raise _StepError("answer", err.strerror or str(err)) from None
    if not more:
        raise _StepError("answer", f"{url.netloc} closed the connection before it answered")
    found = _STATUS_LINE.match(received)
    if found is None:
        raise _StepError("answer", f"{url.netloc} answers something that is not HTTP")
    return int(found[1]), first_byte_s


def _request(url: SplitResult) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = url.netloc.rpartition("@")[2]
    lines = (f"GET {target} HTTP/1.1", f"Host: {host}", "User-Agent: pantau", "Connection: close")
    return "\r\n".join((*lines, "", "")).encode()


def _left_s(end_s: float) -> float:
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
