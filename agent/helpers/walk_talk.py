"""How a helper speaks: its request on stdin, one JSON object on stdout, one line for an error."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

NET_ADMIN, NET_RAW = "CAP_NET_ADMIN", "CAP_NET_RAW"
_BITS = {NET_ADMIN: 12, NET_RAW: 13}  # linux/capability.h


class HelperError(Exception):
    """What failed: one clear line; ``value`` is what there is all the same."""

    def __init__(self, text: str, value: object = None) -> None:
        super().__init__(text)
        self.value = value


def serve(work: Callable[[dict[str, Any]], object], needs: Sequence[str]) -> NoReturn:
    """Read the request, do the work within its time, print what came of it, and end.

    The time limit raises, so that the work can clean up behind itself.

    Args:
        work: gives the value.
        needs: the capabilities without which it cannot be done; who lacks one hears which.
    """
    request = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, _over)
    signal.alarm(max(1, round(request["limit_s"])))
    try:
        lacking = missing(Path("/proc/self/status").read_text(), needs)
        if lacking:
            raise HelperError(f"not permitted; grant {' and '.join(lacking)}")
        said: dict[str, object] = {"value": work(request)}
    except HelperError as err:
        said = {"error": str(err)} if err.value is None else {"error": str(err), "value": err.value}
    except PermissionError:
        said = {"error": f"not permitted, though {' and '.join(needs)} is granted"}
    except OSError as err:
        said = {"error": err.strerror or str(err)}
    signal.alarm(0)
    print(json.dumps(said))
    sys.exit(0)


def missing(status: str, needs: Sequence[str]) -> list[str]:
    """Which of the capabilities are not effective, by the text of ``/proc/self/status``."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    return [name for name in needs if not effective >> _BITS[name] & 1]


def _over(*_: object) -> NoReturn:
    raise HelperError("took too long")
