"""What a modelled agent does with a command: as the real one, but it knows `resend` alone. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agent import wire
from agent.publish.drain import Range, held_of
from agent.spool import Stream

_Seq = Annotated[int, msgspec.Meta(ge=1)]


class _Resend(msgspec.Struct, frozen=True):
    """The arguments of ``resend``."""

    first: _Seq = msgspec.field(name="from")
    last: _Seq = msgspec.field(name="to")
    stream: str | None = None


def obey(
    command: wire.Command, streams: list[Stream], newest: tuple[str, int] | None
) -> tuple[wire.Reply, Range | None]:
    """The answer, and what is to be sent again.

    Args:
        streams: what the spool holds.
        newest: stream and seq of its newest reading.
    """
    if command.do != "resend":
        return _refusal(command, f"a modelled site knows resend, not {command.do!r}"), None
    try:
        given = {name: msgspec.json.decode(raw) for name, raw in command.args.items()}
        asked = msgspec.convert(given, _Resend)
    except msgspec.MsgspecError as err:
        return _refusal(command, f"args: {err}"), None
    if asked.first > asked.last:
        return _refusal(command, "args.from is above args.to"), None
    stream = asked.stream or (newest[0] if newest else "")
    result: dict[str, object] = {"stream": stream, "count": 0}
    held = held_of(streams, Range(stream, asked.first, asked.last))
    if held is not None:
        result |= {"from": held.first, "to": held.last, "count": held.last - held.first + 1}
    return _reply(command, ok=True, result=result), held


def _refusal(command: wire.Command, why: str) -> wire.Reply:
    return _reply(command, ok=False, result={"error": why})


def _reply(command: wire.Command, *, ok: bool, result: dict[str, object]) -> wire.Reply:
    return wire.Reply(v=wire.VERSION, site=command.site, id=command.id, ok=ok, result=result)
