"""What the commands of the server do to a running agent. Each replies or refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeGuard

import msgspec

from agent import once, tracing
from agent.config import Config
from agent.probes import PROBES, ProbeError
from agent.publish import Range
from agent.settings import RefusedError, Result
from agent.spool import Spool
from agent.wire.base import MAX_SEQ

Args = Mapping[str, object]


class Doing:
    """Thread-safe.

    Args:
        config: what is followed now.
        spool: holds the readings.
        ask_resend: has readings sent again, and tells which of them are held.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        spool: Spool,
        ask_resend: Callable[[Range], Range | None],
    ) -> None:
        self._config = config
        self._spool = spool
        self._ask_resend = ask_resend

    def newest(self, _args: Args) -> Result:
        newest = self._spool.newest
        if newest is None:
            raise RefusedError("no reading yet; the first window is not over")
        stream, seq = newest
        readings = self._spool.read(stream, seq, 1, 0)
        if not readings:
            raise RefusedError("the newest reading cannot be read from the spool")
        return {"stream": stream, "reading": msgspec.json.decode(readings[0][1])}

    def probe(self, args: Args) -> Result:
        name = args.get("name")
        if not isinstance(name, str) or name not in PROBES:
            raise RefusedError(f"args.name must be one of {', '.join(PROBES)}")
        outcome = once.run_probe(self._config(), name)
        result: Result = {"name": name, "took_ms": round(outcome.took_s * 1000, 3)}
        if outcome.error is not None:
            raise RefusedError(f"{name}: {outcome.error}")
        if outcome.value is not None:
            result["value"] = msgspec.to_builtins(outcome.value)
        return result

    def trace(self, args: Args) -> Result:
        target = args.get("target")
        if not (target is None or isinstance(target, str)):
            raise RefusedError("args.target must be an address or a name")
        try:
            paths = tracing.trace_now(self._config(), target)
        except ProbeError as err:
            raise RefusedError(str(err)) from None
        return {"paths": msgspec.to_builtins(paths)}

    def resend(self, args: Args) -> Result:
        newest = self._spool.newest
        stream = args.get("stream", newest[0] if newest else "")
        first, last = args.get("from"), args.get("to")
        if not isinstance(stream, str):
            raise RefusedError("args.stream must be the name of a stream")
        if not (_is_seq(first) and _is_seq(last)) or first > last:
            raise RefusedError("args.from and args.to must be seqs, from not above to")
        held = self._ask_resend(Range(stream, first, last))
        result: Result = {"stream": stream, "count": 0}
        if held is not None:
            result |= {"from": held.first, "to": held.last, "count": held.last - held.first + 1}
        return result


def _is_seq(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SEQ
