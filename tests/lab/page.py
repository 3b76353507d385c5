"""A page on a real HTTP server that counts who fetched it, and can refuse."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self


class Page:
    """Served while the context lasts; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.fetched: list[tuple[float, str]] = []
        page = self

        class _Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.fetched.append((time.time(), self.path))
                self.send_response(page.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}/ping/secret"

    def since(self, at: float) -> int:
        """How often it was fetched after `at`."""
        return sum(when > at for when, _ in list(self.fetched))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
