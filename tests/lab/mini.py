"""A Speedtest Mini server: its page, its pictures to load, its upload; over HTTP or TLS.

    python -m tests.lab.mini ADDRESS PORT [CERT KEY] [--bad page|download|upload]

It prints a line once it listens. ``--bad`` breaks one part: the page is another one, or the
pictures or the upload are refused with 500.
"""

from __future__ import annotations

import argparse
import re
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_BLOCK = b"\xa5" * 65536
_PAGE = b'<script>var settings = {upload_extension: "php"}</script>'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bad = ""

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the test's time was over

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        picture = re.search(r"/random(\d+)x\1\.jpg$", path)
        if picture and self.bad != "download":
            self._send_picture(2 * int(picture[1]) ** 2)
        elif path.endswith("/latency.txt"):
            self._answer(200, b"test=test\n")
        elif path.endswith("/mini"):
            self._answer(200, _PAGE if self.bad != "page" else b"It works!")
        else:
            self._answer(500 if picture else 404, b"no such page")

    def do_POST(self) -> None:
        if self.bad == "upload":
            self.close_connection = True
            self._answer(500, b"no room")
            return
        left = size = int(self.headers["Content-Length"])
        while left > 0 and (got := len(self.rfile.read1(min(left, 65536)))):
            left -= got
        self._answer(200, b"size=%d" % (size - left))

    def _send_picture(self, size: int) -> None:
        self._head(200, size)
        for start in range(0, size, len(_BLOCK)):
            self.wfile.write(_BLOCK[: size - start])

    def _answer(self, status: int, body: bytes) -> None:
        self._head(status, len(body))
        self.wfile.write(body)

    def _head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(size))
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """One that went away; nothing to say."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("identity", nargs="*", type=Path)
    parser.add_argument("--bad", default="")
    given = parser.parse_args()
    _Handler.bad = given.bad
    with _Server((given.address, given.port), _Handler) as server:
        if given.identity:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*given.identity)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
