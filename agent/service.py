"""`pantau-agent run`: the parts put together, started and stopped in order."""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from collections.abc import Mapping
from typing import TypeGuard

import msgspec

from agent import check, clock, local, once, systemd, wire
from agent.config import Config
from agent.control import Args, Control, Deeds, RefusedError, Result
from agent.measuring import MakeReading, Measuring
from agent.probes import PROBES
from agent.publish import Here, Publisher, Range, Reason
from agent.spool import Spool
from agent.wire.base import MAX_SEQ

log = logging.getLogger(__name__)

_SAVE_S = 6 * 3600.0
"""Each save flushes the disk four times; without it the server only hears things twice."""


class Service:
    """One agent. `run` returns after `stop`, or after SIGTERM, SIGINT or SIGUSR1.

    Raises:
        SpoolError: the spool cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = threading.Event()
        self._reason: Reason = "stopped"
        self._spool = Spool(
            config.spool.path, config.spool.max_mb * 1024 * 1024, boot=clock.boot_id()
        )
        self._saved_s = time.monotonic()
        self._control = Control(
            config.site,
            config.spool.path / "settings.json",
            Deeds(self._newest, self._probe, self._resend, self.stop),
            clock_is_sure=clock.is_synchronised,
            answer=lambda reply: self._publisher.reply(reply),
        )
        here = Here(clock.boot_id(), clock.uptime_s, self._revision)
        self._publisher = Publisher(config, self._spool, here, self._control.take)
        self._measuring = Measuring(
            config,
            window_s=self._window_s,
            settings_revision=self._revision,
            further_errors=self._errors,
            deliver=self._deliver,
        )

    def run(self) -> None:
        """Measure, store and send until told to stop."""
        self._listen_to_signals()
        answering = self._answer_locally()
        self._control.start()
        self._publisher.start()
        self._measuring.start(time.monotonic())
        systemd.notify(f"READY=1\n{systemd.watchdog_for(self._window_s() + 10)}")
        log.info("site %s measures windows of %g s", self._config.site, self._window_s())
        while not self._stop.wait(max(0.0, self._measuring.next_s - time.monotonic())):
            self._measuring.step()
        systemd.notify("STOPPING=1")
        if self._reason == "stopped" and systemd.is_rebooting():
            self._reason = "reboot"
        self._publisher.stop(self._reason)
        self._spool.close()
        if answering is not None:
            answering.close()

    def stop(self, reason: Reason = "stopped") -> None:
        """End `run`; safe in a signal handler and in any thread."""
        self._reason = reason
        self._stop.set()

    def _answer_locally(self) -> local.LocalServer | None:
        """Let `check` ask us; a disk that takes nothing costs that, not the service."""
        try:
            return local.LocalServer(self._config.spool.path, self._check)
        except OSError as err:
            log.warning("check will not reach this service: %s", err.strerror)
            return None

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGUSR1, lambda *_: self.stop("upgrade"))

    # What the parts ask of each other

    def _window_s(self) -> float:
        settings = self._control.settings
        if settings is None or isinstance(settings.window_s, msgspec.UnsetType):
            return self._config.reading.window_s
        return settings.window_s

    def _revision(self) -> int | None:
        settings = self._control.settings
        return None if settings is None else settings.revision

    def _errors(self) -> Mapping[str, str]:
        problem = self._spool.take_problem()
        return {} if problem is None else {"spool": problem}

    def _deliver(self, make: MakeReading) -> None:
        """Store a reading, and have it sent."""

        def encoded(seq: int) -> bytes:
            reading = make(seq)
            host = wire.Host() if isinstance(reading.host, msgspec.UnsetType) else reading.host
            host = msgspec.structs.replace(
                host, spool_readings=self._spool.unreleased, spool_dropped=self._spool.dropped
            )
            return wire.encode(msgspec.structs.replace(reading, host=host))

        self._spool.append(encoded)
        self._publisher.notify()
        _, state = self._publisher.state()
        status = f"STATUS={state}; {self._spool.unreleased} readings wait"
        systemd.notify(f"WATCHDOG=1\n{systemd.watchdog_for(self._window_s())}\n{status}")
        if time.monotonic() - self._saved_s > _SAVE_S:
            self._saved_s = time.monotonic()
            self._spool.save()

    def _check(self) -> bytes:
        """The rows of `check`, tried by the running service."""
        connected, state = self._publisher.state()
        rows = [
            check.Row("spool", True, f"{self._spool.unreleased} readings wait"),
            *check.measured(self._config),
            check.Row("broker", connected, state),
        ]
        echo_id = str(uuid.uuid4())
        begun_s = time.monotonic()
        echo = check.echo_of(self._config.site, echo_id)
        came = self._control.await_echo(
            echo_id, lambda: self._publisher.reply(echo), check.ECHO_S if connected else 0.0
        )
        rows.append(check.echo_row(time.monotonic() - begun_s if came else None, None))
        return check.encode(rows)

    # What commands do

    def _newest(self, _args: Args) -> Result:
        newest = self._spool.newest
        if newest is None:
            raise RefusedError("no reading yet; the first window is not over")
        stream, seq = newest
        readings = self._spool.read(stream, seq, 1, 0)
        if not readings:
            raise RefusedError("the newest reading cannot be read from the spool")
        return {"stream": stream, "reading": msgspec.json.decode(readings[0][1])}

    def _probe(self, args: Args) -> Result:
        name = args.get("name")
        if not isinstance(name, str) or name not in PROBES:
            raise RefusedError(f"args.name must be one of {', '.join(PROBES)}")
        outcome = once.run_probe(self._config, name)
        result: Result = {"name": name, "took_ms": round(outcome.took_s * 1000, 3)}
        if outcome.error is not None:
            raise RefusedError(f"{name}: {outcome.error}")
        if outcome.value is not None:
            result["value"] = msgspec.to_builtins(outcome.value)
        return result

    def _resend(self, args: Args) -> Result:
        newest = self._spool.newest
        stream = args.get("stream", newest[0] if newest else "")
        first, last = args.get("from"), args.get("to")
        if not isinstance(stream, str):
            raise RefusedError("args.stream must be the name of a stream")
        if not (_is_seq(first) and _is_seq(last)) or first > last:
            raise RefusedError("args.from and args.to must be seqs, from not above to")
        held = self._publisher.resend(Range(stream, first, last))
        result: Result = {"stream": stream, "count": 0}
        if held is not None:
            result |= {"from": held.first, "to": held.last, "count": held.last - held.first + 1}
        return result


def _is_seq(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SEQ
