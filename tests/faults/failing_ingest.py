"""``pantau`` with a handler that fails on readings whose boot is "make the handler fail"."""

from __future__ import annotations

import sys

from server import cli
from server.intake import Intake, Message

_take = Intake.take


def _failing_take(self: Intake, message: Message) -> None:
    _take(self, message)
    if b"make the handler fail" in message.payload:
        raise RuntimeError("as the test asked for")


Intake.take = _failing_take  # type: ignore[method-assign]  # the fault that this script is for

sys.exit(cli.main())
