"""Payloads through what an agent does with acks, settings and commands.

The real publisher (not connected), control, keeper of settings, deeds and spool. The commands
`trace` and `throughput`, which start processes of their own, refuse here.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from agent import wire
from agent.config import ConfigError, load
from agent.config.overlay import overlaid, risks
from agent.control import Args, Control, Deeds
from agent.deeds import Doing
from agent.publish import Here, Publisher
from agent.settings import RefusedError, Result, SettingsKeeper
from agent.spool import Spool
from bench.fuzzing.findings import Report, class_of
from bench.fuzzing.judge import Verdict, judge_part

BOOT = "3f0c5d1e-8a44-4d0b-9f5e-6f2a1c7b9d10"
_READINGS = 8


class AgentSide:
    """One agent's handlers in `folder`."""

    def __init__(self, folder: Path, site: str, report: Report) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "agent.toml"
        file.write_text(
            f'site = "{site}"\n[mqtt]\nurl = "mqtt://127.0.0.1:1"\n'
            f'[spool]\npath = "{folder / "spool"}"\nmax_mb = 2\n'
        )
        self._folder, self._site, self._report = folder, site, report
        self._config = load(file)
        self._heard: list[logging.LogRecord] = []
        self._replies: list[wire.Reply] = []
        self.restarts = 0
        self._number = 0
        self.spool = Spool(folder / "spool", 2 << 20, boot=BOOT)
        self.begin()

    def stream(self) -> str:
        """The spool's stream as it is now."""
        newest = self.spool.newest
        return newest[0] if newest else "5f0c1b7e-3c7e-4e0b-9a51-0d7f6b1c2a33"

    def begin(self) -> None:
        """Some readings, and a keeper that knows no settings."""
        for _ in range(_READINGS):
            self.spool.append(self._reading)
        self._number += 1
        kept = self._folder / "settings.json"
        kept.unlink(missing_ok=True)
        self._keeper = SettingsKeeper(self._site, kept, self._risks, trial_s=600)
        here = Here(BOOT, lambda: 100.0, lambda: None, None)
        self._publisher = Publisher(self._config, self.spool, here, lambda *_: None)
        doing = Doing(lambda: self._config, self.spool, self._publisher.resend)
        deeds = Deeds(
            reading=doing.newest,
            probe=doing.probe,
            resend=doing.resend,
            throughput=self._not_here,
            trace=self._not_here,
            restart=lambda: None,
        )
        self._control = Control(self._site, self._keeper, deeds, lambda: True, self._replies.append)

    def _reading(self, seq: int) -> bytes:
        made = wire.Reading(
            seq=seq,
            boot=BOOT,
            taken_at="2026-11-22T06:50:00.000Z",
            uptime_s=float(seq),
            clock=wire.Clock(synced=True),
            window_s=60.0,
            agent="0.1.0",
            ladder=wire.Ladder(carrier="ok"),
        )
        return wire.encode(made)

    def _not_here(self, _args: Args) -> Result:
        raise RefusedError("not in this bench")

    def _risks(self, standing: wire.Settings | None, new: wire.Settings) -> frozenset[str]:
        try:
            return risks(overlaid(self._config, standing), overlaid(self._config, new))
        except ConfigError as err:
            raise RefusedError(str(err)) from None

    def take(self, leaf: str, payload: bytes, now: float, log: list[logging.LogRecord]) -> None:
        """One message, and what came of it; `log` is where warnings are noted."""
        report = self._report
        told = judge_part(leaf, payload, self._site)
        before = len(log)
        reply: wire.Reply | None = None
        try:
            if leaf == "acks":
                self._publisher._receive(leaf, payload, False)
            else:
                reply = self._control.handle(leaf, payload, False, now)
        except Exception as err:
            report.find("an agent's handler that raises", leaf, payload, repr(err))
            return
        warned = log[before:]
        report.verdicts[f"to the agent: {told.verdict.value}"] += 1
        error = self._error(reply)
        if reply is not None and reply.ok is not True and not error:
            report.find("refused without a reason", leaf, payload)
        if "a fault of ours" in error:
            report.find("a command that fails by a fault of ours", leaf, payload, error)
        refused = bool(warned)
        for record in warned:
            report.reasons[class_of(record.getMessage())] += 1
        cleared = not payload and leaf != "commands"
        if told.verdict is Verdict.INVALID and not cleared:
            if not (refused and warned[0].getMessage().strip()):
                report.find("an agent accepts it against the contract", leaf, payload, told.why)
            if reply is not None and reply.ok is True:
                report.find("an agent does what is malformed", leaf, payload, told.why)
        elif told.verdict is Verdict.VALID:
            self._match_valid(leaf, payload, reply, warned)

    def _match_valid(
        self,
        leaf: str,
        payload: bytes,
        reply: wire.Reply | None,
        warned: list[logging.LogRecord],
    ) -> None:
        detail = "; ".join(record.getMessage() for record in warned)
        if leaf == "acks":
            if any("ignored" in record.getMessage() for record in warned):
                self._report.find("an agent refuses a good ack", leaf, payload, detail)
        elif any(
            "; passed over" in one.getMessage() or "stand" in one.getMessage() for one in warned
        ):
            self._report.find("an agent refuses what is good", leaf, payload, detail)
        elif leaf == "settings" and reply is None:
            self._report.find("settings without an answer", leaf, payload, detail)

    @staticmethod
    def _error(reply: wire.Reply | None) -> str:
        result = getattr(reply, "result", None)
        return str(result.get("error", "")) if isinstance(result, dict) else ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.spool.close()
