"""The dead-man's call: a page elsewhere is fetched while ingest works.

When the calls stop, whoever keeps that page knows that the whole centre is silent,
which nobody at the centre could say. It runs in a thread of its own and decides
nothing; whatever goes wrong with it is logged once and harms nothing.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from server.config import Deadman

_LOOK_S = 0.5
_ANSWER_S = 10.0
"""How long an answer may take; a slow one must not hold up the next call for long."""

log = logging.getLogger(__name__)


class Caller:
    """Calls from `start` on until the process ends.

    Args:
        settings: whom, and how often.
        works: whether ingest is caught up and its store works, just now.
    """

    def __init__(self, settings: Deadman, works: Callable[[], bool]) -> None:
        self._settings = settings
        self._works = works
        self._said = ""

    def start(self) -> None:
        """Begin; without a url nothing is ever called."""
        if self._settings.url:
            threading.Thread(target=self._run, name="dead-man's call", daemon=True).start()

    def _run(self) -> None:
        called_at = -self._settings.every_s
        while True:
            now = time.monotonic()
            if now - called_at >= self._settings.every_s and self._works():
                called_at = now
                self._call()
            time.sleep(_LOOK_S)

    def _call(self) -> None:
        host = urlsplit(self._settings.url).hostname  # the path is often a secret
        try:
            with urllib.request.urlopen(self._settings.url, timeout=_ANSWER_S) as answer:  # noqa: S310  # config takes http and https alone
                answer.read(1)
        except (OSError, http.client.HTTPException, ValueError) as err:
            failed = str(err) or type(err).__name__
            if failed != self._said:
                log.warning("the dead-man's call to %s failed: %s", host, failed)
            self._said = failed
        else:
            if self._said:
                log.warning("the dead-man's call to %s works again", host)
            self._said = ""
