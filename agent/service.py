"""`pantau-agent run`: the parts put together, started and stopped in order."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import uuid
from collections.abc import Mapping

from msgspec import UNSET, UnsetType, structs

from agent import clock, local, safe, systemd, wire
from agent.config import Config, ConfigError
from agent.config.overlay import overlaid, risks
from agent.control import Control, Deeds
from agent.deeds import Doing
from agent.measuring import MakeReading, Measuring
from agent.meter import Meter
from agent.proving import Proving
from agent.publish import Delivery, Here, Publisher, Reason
from agent.publish.traffic import Traffic
from agent.settings import RefusedError, SettingsKeeper
from agent.spool import Spool
from agent.throughput import Tests

log = logging.getLogger(__name__)

_SAVE_S = 6 * 3600.0
"""Each save flushes the disk four times; without it the server only hears things twice."""
_CONFIRMS, _CONFIRMED_NOTHING = "the centre confirms", "the centre confirmed nothing yet"
_LOOK_S = 5.0
"""How often at least the trial of settings and the end of safe mode are looked at."""


class Service:
    """One agent. `run` returns after `stop`, or after SIGTERM, SIGINT or SIGUSR1.

    Raises:
        SpoolError: the spool cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._file = config
        self._stop = threading.Event()
        self._reason: Reason = "stopped"
        self._again = False
        boot = clock.boot_id()
        self._spool = Spool(config.spool.path, config.spool.max_mb * 1024 * 1024, boot=boot)
        self._saved_s = time.monotonic()
        self._starts = safe.Starts(config.spool.path, boot, clock.uptime_s())
        self._safe = safe.why_safe(self._starts.record, _limits(config), clock.uptime_s())
        self._settings = SettingsKeeper(
            config.site, config.spool.path / "settings.json", self._risks, config.settings.trial_s
        )
        self._proving = Proving()
        self._traffic = Traffic()
        self._delivery = Delivery()
        self._meter = Meter(config.spool.path, _newest(self._spool))
        self._tests = Tests(config.throughput, config.spool.path, self._meter)
        self._meter.begin(self._asked())
        doing = Doing(self._config, self._spool, lambda asked: self._publisher.resend(asked))
        self._control = Control(
            config.site,
            self._settings,
            Deeds(
                reading=doing.newest,
                probe=doing.probe,
                resend=doing.resend,
                throughput=self._tests.run_by_command,
                trace=doing.trace,
                restart=self._restart,
            ),
            clock_is_sure=clock.is_synchronised,
            answer=lambda reply: self._publisher.reply(reply),
        )
        self._publisher = self._make_publisher(self._config())
        self._mqtt = self._config().mqtt
        self._measuring = Measuring(
            self._config,
            settings_revision=self._revision,
            further_errors=self._errors,
            deliver=self._deliver,
            careful=self._safe is not None,
            slowing=lambda: self._meter.slowing,
        )

    def run(self) -> bool:
        """Measure, store and send until told to stop; whether to begin again at once."""
        self._listen_to_signals()
        answering = self._answer_locally()
        self._control.start()
        self._publisher.start()
        begun_s = time.monotonic()
        self._measuring.start(begun_s)
        window_s = self._config().reading.window_s
        systemd.notify(f"READY=1\n{systemd.watchdog_for(window_s + 10)}")
        log.info("site %s measures windows of %g s", self._file.site, window_s)
        if self._safe is not None:
            log.warning("%s; echoes alone are measured", self._safe)
        while not self._stop.wait(
            min(_LOOK_S, max(0.0, self._measuring.next_s - time.monotonic()))
        ):
            if self._measuring.next_s <= time.monotonic():
                self._measuring.step()
            self._follow_settings()
            self._leave_safe_mode(time.monotonic() - begun_s)
        systemd.notify("STOPPING=1")
        if self._reason == "stopped" and systemd.is_rebooting():
            self._reason = "reboot"
        self._publisher.stop(self._reason)
        self._measuring.stop()
        self._starts.ended()
        self._meter.close()
        self._spool.close()
        if answering is not None:
            answering.close()
        return self._again

    def stop(self, reason: Reason = "stopped") -> None:
        """End `run`; safe in a signal handler and in any thread. The first reason given stands."""
        if not self._stop.is_set():
            self._reason = reason
        self._stop.set()

    def _answer_locally(self) -> local.LocalServer | None:
        """Let `check` ask us; a disk that takes nothing costs that, not the service."""
        try:
            return local.LocalServer(self._file.spool.path, self._check)
        except OSError as err:
            log.warning("check will not reach this service: %s", err.strerror)
            return None

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGUSR1, lambda *_: self.stop("upgrade"))

    def _make_publisher(self, config: Config) -> Publisher:
        here = Here(
            *(clock.boot_id(), clock.uptime_s, self._revision, self._safe),
            keepalive_s=config.mqtt.keepalive_s,
        )
        take = self._control.take
        return Publisher(config, self._spool, here, take, self._traffic, self._delivery)

    # Settings and safe mode

    def _config(self) -> Config:
        """What to follow now."""
        return self._meter.slowed(self._asked())

    def _asked(self) -> Config:
        """What is asked for: the file and the settings; in safe mode the file alone."""
        return overlaid(self._file, None if self._safe else self._settings.current)

    def _revision(self) -> int | None:
        settings = None if self._safe else self._settings.current
        return None if settings is None else settings.revision

    def _risks(self, standing: wire.Settings | None, new: wire.Settings) -> frozenset[str]:
        try:
            return risks(overlaid(self._file, standing), overlaid(self._file, new))
        except ConfigError as err:
            raise RefusedError(str(err)) from None

    def _follow_settings(self) -> None:
        """Judge the settings on trial, and go to another broker where they say so."""
        config, verdict = self._config(), None
        if self._safe is None:
            proved = self._proving.proved(self._settings.on_trial, self._spool.streams())
            verdict = self._settings.observe(time.monotonic(), config.reading.window_s, proved)
            config = self._config()
        if config.mqtt != self._mqtt:
            log.info("going to the broker %s, as the settings say", config.mqtt.url)
            self._mqtt = config.mqtt
            before, self._publisher = self._publisher, self._make_publisher(config)
            before.stop("upgrade")
            self._publisher.adopt(before)
            self._publisher.start()
        if verdict is not None:  # told to those to whom we go back, not to those we leave
            self._control.settle(verdict)

    def _leave_safe_mode(self, after_s: float) -> None:
        if self._safe is not None and after_s >= self._file.safe_mode.quiet_s:
            log.info("no crash for %g s: safe mode ends", self._file.safe_mode.quiet_s)
            self._starts.forgive()
            self._again = True
            self.stop("upgrade")

    def _restart(self) -> None:
        self._starts.forgive()
        self.stop()

    # What the parts ask of each other

    def _errors(self) -> Mapping[str, str]:
        found = {"spool": self._spool.take_problem(), "agent": self._safe}
        found["throughput"] = self._tests.take_problem()
        return {name: problem for name, problem in found.items() if problem is not None}

    def _deliver(self, make: MakeReading) -> None:
        """Store a reading, and have it sent."""
        made: list[wire.Reading] = []
        result = self._tests.take_result() or UNSET

        def encoded(seq: int) -> bytes:
            reading = make(seq)
            # asked again where the disk did not take the first
            metered = made[0].metered if made else self._metered(reading)
            reading = structs.replace(self._completed(reading), metered=metered, throughput=result)
            made[:] = [reading]
            return wire.encode(reading)

        seq = self._spool.append(encoded)
        self._publisher.notify()
        newest = self._spool.newest
        if newest is not None:
            self._proving.observe(self._settings.on_trial, newest[0], seq, made[0])
        if self._safe is None:
            self._starts.proved()
            self._tests.look(made[0], time.time())
        self._tell_systemd()
        if time.monotonic() - self._saved_s > _SAVE_S:
            self._saved_s = time.monotonic()
            self._spool.save()

    def _completed(self, reading: wire.Reading) -> wire.Reading:
        """With what the service alone knows."""
        record = self._starts.record
        host = wire.Host() if isinstance(reading.host, UnsetType) else reading.host
        clean = record.last_shutdown_clean
        host = structs.replace(
            host,
            spool_readings=self._spool.unreleased,
            spool_dropped=self._spool.dropped,
            last_shutdown_clean=UNSET if clean is None else clean,
            agent_restarts=record.restarts,
        )
        return structs.replace(reading, host=host)

    def _metered(self, reading: wire.Reading) -> wire.Metered | UnsetType:
        took = self._traffic.bytes
        now_s, at_s = time.time(), clock.uptime_s()
        return self._meter.observe(reading, self._asked(), took, now_s, at_s) or UNSET

    def _tell_systemd(self) -> None:
        """A window is complete; the watchdog is fed if sending, too, goes on."""
        window_s = self._measuring.window_s
        connected, state = self._publisher.state()
        if connected:
            state += f"; {_CONFIRMS if self._delivery.confirmed else _CONFIRMED_NOTHING}"
        # by these words a release on trial is judged (deploy/ansible/roles/agent/files/trial.py)
        lines = [f"STATUS={self._safe or state}; {self._spool.unreleased} readings wait"]
        stood_s = time.monotonic() - self._publisher.progress_s
        if systemd.is_progress(stood_s, window_s):
            lines = ["WATCHDOG=1", systemd.watchdog_for(window_s), *lines]
        else:
            log.warning("sending stands still since %.0f s; the watchdog is not fed", stood_s)
        systemd.notify("\n".join(lines))

    def _check(self) -> bytes:
        """The rows of `check`, tried by the running service."""
        from agent.check import rows, trying  # for this one question; it does not stay small else

        self._publisher.hurry()
        tried = trying.by_service(
            self._config(),
            waiting=self._spool.unreleased,
            problem=self._safe,
            state=lambda: self._publisher.state(),
            echo=self._echo,
        )
        return rows.encode(tried)

    def _echo(self) -> float | None:
        """How long the server takes to answer, None where it does not."""
        from agent.check import centre

        echo_id = str(uuid.uuid4())
        echo = centre.echo_of(self._file.site, echo_id)
        begun_s = time.monotonic()
        came = self._control.await_echo(echo_id, lambda: self._publisher.reply(echo), centre.ECHO_S)
        return time.monotonic() - begun_s if came else None


def _newest(spool: Spool) -> wire.Reading | None:
    """The newest reading that the spool holds, of whatever stream."""
    for stream in reversed(spool.streams()):
        for _, payload in spool.read(stream.stream, stream.end, 1, 0):
            with contextlib.suppress(wire.Invalid):
                return wire.decode_reading(payload).reading
    return None


def _limits(config: Config) -> safe.Limits:
    given = config.safe_mode
    return safe.Limits(given.crashes, given.within_s, given.quiet_s)
