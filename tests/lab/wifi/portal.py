"""A captive portal in a box, with a fault to order.

`/generate_204` answers 204 to who fetched `/pass`, and 302 to who did not. The file at
FAULT names the step that is to fail, or is empty.

    python -m tests.lab.wifi.portal ADDRESS FAULT
"""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Portal(BaseHTTPRequestHandler):
    """Answers one device; whoever asks `/forget` is a stranger again."""

    known: set[str] = set()  # noqa: RUF012 - one portal a process
    fault: Path

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        device = self.client_address[0]
        fault = self.fault.read_text()
        if self.path == "/forget":
            self.known.clear()
            return self._answer(200)
        if fault == "portal":
            return self.connection.close()
        if self.path == "/pass":
            if fault != "web":
                self.known.add(device)
            return self._answer(500 if fault == "pass" else 200)
        if device not in self.known:
            return self._answer(302)
        self._answer(204)
        if fault == "leave":
            stop_walker()
        return None

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/login")
        self.send_header("Content-Length", "0")
        self.end_headers()


def stop_walker() -> None:
    """Halt the walk's own wpa_supplicant, so that it cannot let go of the network."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes()
        if words.startswith(b"wpa_supplicant") and b"pantau-walk-" in words:
            os.kill(int(path.parent.name), signal.SIGSTOP)


if __name__ == "__main__":
    Portal.fault = Path(sys.argv[2])
    ThreadingHTTPServer((sys.argv[1], 80), Portal).serve_forever()
