"""What the server asks of the agent: settings that last, commands for now.

Rules
 1. Settings go to their keeper (`agent.settings`), and are answered under
    ``settings-REVISION``.
 2. A command is done once: one whose id was seen is passed over in silence, and so
    is one that is retained.
 3. A command whose time is over is refused, unless our clock was never set. An echo that
    `check` waits for is not: it does nothing, and the wait for it ends by itself.
 4. What is malformed, too large, or speaks to another site is refused where it tells an
    id or a revision to answer to, else only logged.
 5. A command that takes long runs beside the others, one of its kind at a time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from agent import clock, wire
from agent.settings import RefusedError, Result, SettingsKeeper, Verdict
from agent.wire.base import MAX_SEQ

log = logging.getLogger(__name__)

_REMEMBERED = 1000
_WAITING = 100
_MAX_READ_BYTES = 4 * 1024 * 1024
"""So far, also once decompressed, a message is read for its id alone, to refuse it."""
_MAX_ID_CHARS = 64
_MAX_WHY_CHARS = 500

Args = Mapping[str, object]


@dataclass(frozen=True)
class Deeds:
    """What commands do. Each takes the arguments and gives a result, or refuses.

    `reading` gives the newest reading, `probe` runs one probe, `resend` sends
    readings again; `throughput` and `trace` measure, which takes long. `restart` ends the
    process in order; it is called when the reply was handed over.
    """

    reading: Callable[[Args], Result]
    probe: Callable[[Args], Result]
    resend: Callable[[Args], Result]
    throughput: Callable[[Args], Result]
    trace: Callable[[Args], Result]
    restart: Callable[[], None]


class Control:
    """Takes settings and commands, one after another, in a thread of its own.

    Args:
        site: whose they must be.
        settings: keeps the settings.
        deeds: what commands do.
        clock_is_sure: whether it is synchronised, which a refusal for its time tells.
        answer: takes the replies.
    """

    def __init__(
        self,
        site: str,
        settings: SettingsKeeper,
        deeds: Deeds,
        clock_is_sure: Callable[[], bool],
        answer: Callable[[wire.Reply], None],
    ) -> None:
        self._site = site
        self._settings = settings
        self._clock_is_sure = clock_is_sure
        self._answer = answer
        self._verbs: dict[str, Callable[[Args], Result]] = {
            "reading": deeds.reading,
            "probe": deeds.probe,
            "resend": deeds.resend,
            "restart": self._restart,
        }
        self._long_verbs = {"trace": deeds.trace, "throughput": deeds.throughput}
        self._under_way: set[str] = set()
        self._deeds = deeds
        self._restart_asked = False
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._echoes: dict[str, threading.Event] = {}
        self._inbox: queue.Queue[tuple[str, bytes, bool]] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, leaf: str, payload: bytes, retained: bool) -> None:
        """Leave a message for the thread; never blocks.

        One that is too large is refused here and now: a queue of them would fill the memory.
        """
        if len(payload) > wire.MAX_PAYLOAD_BYTES:
            reply = self.handle(leaf, payload, retained, time.time())
            if reply is not None:
                self._answer(reply)
            return
        try:
            self._inbox.put_nowait((leaf, payload, retained))
        except queue.Full:
            log.warning("%s: %d are waiting already; dropped", leaf, _WAITING)

    def await_echo(self, echo_id: str, send: Callable[[], None], within_s: float) -> bool:
        """Whether the command `echo` with this id comes in time after `send`."""
        self._echoes[echo_id] = threading.Event()
        try:
            send()
            return self._echoes[echo_id].wait(within_s)
        finally:
            del self._echoes[echo_id]

    def _run(self) -> None:
        while True:
            leaf, payload, retained = self._inbox.get()
            try:
                reply = self.handle(leaf, payload, retained, time.time())
            except Exception:
                log.exception("%s: a fault of ours; passed over", leaf)
                continue
            if reply is not None:
                self._answer(reply)
            if self._restart_asked:
                self._deeds.restart()

    def handle(self, leaf: str, payload: bytes, retained: bool, now_s: float) -> wire.Reply | None:
        """Do what a message asks, and give the reply; None where none is due.

        Args:
            leaf: ``settings`` or ``commands``.
            retained: whether the broker had kept it.
            now_s: seconds since 1970.
        """
        if leaf == "settings":
            return self._handle_settings(payload) if payload else None
        if retained:
            log.warning("a retained command; passed over, publish commands without retain")
            return None
        return self._handle_command(payload, now_s)

    # Settings

    def _handle_settings(self, payload: bytes) -> wire.Reply | None:
        try:
            settings = wire.decode(wire.Settings, payload, site=self._site)
        except wire.Invalid as err:
            log.warning("settings: %s; the ones before stand", err)
            revision = _head_of(payload).revision
            return self._refusal(f"settings-{revision}", str(err)) if _is_int(revision) else None
        reply_id = f"settings-{settings.revision}"
        try:
            return self._done(reply_id, self._settings.take(settings))
        except RefusedError as err:
            return self._refusal(reply_id, str(err))

    def settle(self, verdict: Verdict) -> None:
        """Tell the server how the trial of its settings ended."""
        reply_id = f"settings-{verdict.revision}"
        if verdict.why is None:
            self._answer(self._done(reply_id, {"revision": verdict.revision}))
        else:
            self._answer(self._refusal(reply_id, verdict.why))

    # Commands

    def _handle_command(self, payload: bytes, now_s: float) -> wire.Reply | None:
        try:
            command = wire.decode(wire.Command, payload, site=self._site)
        except wire.Invalid as err:
            log.warning("commands: %s; passed over", err)
            return self._refuse_malformed(payload, str(err))
        if command.id in self._seen:
            return None
        self._seen[command.id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        if command.do == "echo" and (waiting := self._echoes.get(command.id)) is not None:
            waiting.set()
            return None
        if max(wire.epoch(command.expires_at), clock.BUILT_S) < now_s:
            return self._refusal(command.id, self._expired(command, now_s))
        return None if command.do == "echo" else self._do(command)

    def _expired(self, command: wire.Command, now_s: float) -> str:
        told = f"expired at {command.expires_at}; our clock says {wire.iso(now_s)}"
        return told if self._clock_is_sure() else f"{told}, and is not synchronised"

    def _do(self, command: wire.Command) -> wire.Reply | None:
        if command.do in self._long_verbs:
            return self._begin(command)
        deed = self._verbs.get(command.do)
        if deed is None:
            known = ", ".join([*self._verbs, *self._long_verbs, "echo"])
            return self._refusal(command.id, f"unknown command {command.do!r}; known are {known}")
        return self._outcome(command, deed)

    def _begin(self, command: wire.Command) -> wire.Reply | None:
        """Start a command that takes long; it answers by itself (rule 5)."""
        if command.do in self._under_way:
            return self._refusal(command.id, f"a {command.do} is under way already; wait for it")
        self._under_way.add(command.do)

        def run() -> None:
            reply = self._outcome(command, self._long_verbs[command.do])
            self._under_way.discard(command.do)
            self._answer(reply)

        threading.Thread(target=run, name=command.do, daemon=True).start()
        return None

    def _outcome(self, command: wire.Command, deed: Callable[[Args], Result]) -> wire.Reply:
        try:
            args = {name: msgspec.json.decode(raw) for name, raw in command.args.items()}
            return self._done(command.id, deed(args))
        except (RefusedError, msgspec.DecodeError) as err:
            return self._refusal(command.id, str(err))
        except Exception as err:
            log.exception("command %s failed", command.do)
            return self._refusal(command.id, f"a fault of ours: {type(err).__name__}: {err}")

    def _restart(self, _args: Args) -> Result:
        self._restart_asked = True
        return {}

    def _refuse_malformed(self, payload: bytes, why: str) -> wire.Reply | None:
        command_id = _head_of(payload).id
        if not isinstance(command_id, str) or not 0 < len(command_id) <= _MAX_ID_CHARS:
            return None
        return self._refusal(command_id, why)

    def _done(self, reply_id: str, result: Result) -> wire.Reply:
        return wire.Reply(v=wire.VERSION, site=self._site, id=reply_id, ok=True, result=result)

    def _refusal(self, reply_id: str, why: str) -> wire.Reply:
        error = why if len(why) <= _MAX_WHY_CHARS else why[: _MAX_WHY_CHARS - 3] + "..."
        return wire.Reply(
            v=wire.VERSION, site=self._site, id=reply_id, ok=False, result={"error": error}
        )


class _Head(msgspec.Struct):
    """What a message is answered under; nothing else of it is kept."""

    id: object = None
    revision: object = None


_head = msgspec.json.Decoder(_Head)


def _head_of(payload: bytes) -> _Head:
    """The id and the revision of a payload that is no good otherwise; empty without."""
    try:
        return _head.decode(wire.plain(payload, _MAX_READ_BYTES))
    except (ValueError, RecursionError):  # not JSON, not UTF-8, too large even for this
        return _Head()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQ
