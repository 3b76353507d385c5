"""One fetch of a page that answers 204, to see whether the web is really there.

Only the status line is read (RFC 9112): no redirect is followed and no body fetched, and
the whole exchange stays under one deadline, also against a server that drips.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from urllib.parse import SplitResult, urlsplit

from agent import wire
from agent.probes.runner import Context, ProbeError

_MAX_LINE_BYTES = 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?\r?\n")


def web(context: Context) -> wire.Web | None:
    """Fetches the page: 204 is ok, any other status is a portal in between.

    The time runs from the name lookup to the status line.

    Raises:
        ProbeError: the URL is unusable, or the answer is not HTTP or half of it.
        OSError: name, connection or certificate failed, or the deadline passed.
    """
    if context.url is None:
        return None
    url = urlsplit(context.url)
    begun_s = time.monotonic()
    status = _status(url, begun_s + context.deadline_s)
    time_ms = round((time.monotonic() - begun_s) * 1000, 3)
    return wire.Web(ok=status == 204, status=status, time_ms=time_ms, portal=status != 204)


def _status(url: SplitResult, end_s: float) -> int:
    host, secure = url.hostname, url.scheme == "https"
    if host is None or url.scheme not in ("http", "https"):
        raise ProbeError(f"{url.geturl()!r} is no http or https URL")
    port = url.port or (443 if secure else 80)
    with socket.create_connection((host, port), timeout=_left_s(end_s)) as plain:
        if not secure:
            return _exchange(plain, url, end_s)
        plain.settimeout(_left_s(end_s))
        try:
            with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as sock:
                return _exchange(sock, url, end_s)
        except ssl.SSLCertVerificationError as err:
            raise ProbeError(f"certificate of {host} refused: {err.verify_message}") from None
        except ssl.SSLError as err:
            raise ProbeError(f"no TLS with {host}:{port}: {err.reason or err}") from None


def _exchange(sock: socket.socket, url: SplitResult, end_s: float) -> int:
    sock.settimeout(_left_s(end_s))
    sock.sendall(_request(url))
    received = b""
    while b"\n" not in received and len(received) < _MAX_LINE_BYTES:
        sock.settimeout(_left_s(end_s))
        part = sock.recv(_MAX_LINE_BYTES)
        if not part:
            raise ProbeError(f"{url.netloc} closed the connection before it answered")
        received += part
    found = _STATUS_LINE.match(received)
    if found is None:
        raise ProbeError(f"{url.netloc} answers something that is not HTTP")
    return int(found[1])


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
