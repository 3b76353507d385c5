"""How a helper speaks: its request on stdin, one JSON object on stdout, one line for an error."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class HelperError(Exception):
    """What failed: one clear line; ``value`` is what there is all the same."""

    def __init__(self, text: str, value: object = None) -> None:
        super().__init__(text)
        self.value = value


def serve(work: Callable[[dict[str, Any]], object]) -> NoReturn:
    """Read the request, do the work within its time, print what came of it, and end.

    The time limit raises, so that the work can clean up behind itself.
    """
    request = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, _over)
    signal.alarm(max(1, round(request["limit_s"])))
    try:
        said: dict[str, object] = {"value": work(request)}
    except HelperError as err:
        said = {"error": str(err)} if err.value is None else {"error": str(err), "value": err.value}
    except PermissionError:
        said = {"error": "not permitted; grant CAP_NET_ADMIN and CAP_NET_RAW"}
    except OSError as err:
        said = {"error": err.strerror or str(err)}
    signal.alarm(0)
    print(json.dumps(said))
    sys.exit(0)


def _over(*_: object) -> NoReturn:
    raise HelperError("took too long")
