"""``pantau`` that quarantines nothing of what is no UTF-8."""

from __future__ import annotations

import sys

from server import cli
from server.store.tables import SqliteStore

_quarantine = SqliteStore.quarantine


def _forgetful(self: SqliteStore, at: float, topic: str, reason: str, payload: bytes) -> None:
    if "UTF-8" not in reason:
        _quarantine(self, at, topic, reason, payload)


SqliteStore.quarantine = _forgetful  # type: ignore[method-assign]  # the fault it is for

sys.exit(cli.main())
