"""The settings of the server: kept over restarts, and on trial where they could cut us off.

Rules
 1. A higher revision replaces what stands, the same one is confirmed again, a lower one
    and one with values that cannot be is refused.
 2. Settings that lead to another broker or to other targets are on trial: they are followed,
    but have to prove themselves. A broker is proved when the server has confirmed a reading
    that was taken under them, a rung when one of its new targets has answered.
 3. What is not proved in time is rolled back: what stood before stands again. Their
    revision is refused from then on, since the broker goes on offering them.
 4. A restart begins a trial anew, but only `MAX_STARTS` times; then it is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent import wire
from agent.spool import write_file

log = logging.getLogger(__name__)

MAX_STARTS = 3

Result = dict[str, object]


class RefusedError(Exception):
    """A command or settings that cannot be done; the text says why."""


class Kept(msgspec.Struct, omit_defaults=True):
    """The file: what stands, what is on trial, and what was rolled back last."""

    standing: wire.Settings | None = None
    trial: wire.Settings | None = None
    starts: int = 0
    rolled_back: int | None = None


class Verdict(NamedTuple):
    """The end of a trial; `why` is None where it was won."""

    revision: int
    why: str | None


class SettingsKeeper:
    """Thread-safe.

    Args:
        site: whose the settings must be.
        file: where they are kept.
        risks: what settings put at risk against those that stand (rule 2).
        trial_s: how long a trial may take.

    ``risks`` raises `RefusedError` where a value cannot be.
    """

    def __init__(
        self,
        site: str,
        file: Path,
        risks: Callable[[wire.Settings | None, wire.Settings], Collection[str]],
        trial_s: float,
    ) -> None:
        self._site = site
        self._file = file
        self._risks = risks
        self._trial_s = trial_s
        self._lock = threading.Lock()
        self._unproved: set[str] = set()
        self._until_s: float | None = None
        self._lost_at_start: Verdict | None = None
        self._kept = self._load()
        self._begin_again()

    @property
    def current(self) -> wire.Settings | None:
        """What to follow; None while the server has set nothing."""
        return self._kept.trial or self._kept.standing

    @property
    def on_trial(self) -> int | None:
        """The revision on trial, None where there is none."""
        return self._kept.trial.revision if self._kept.trial else None

    def take(self, settings: wire.Settings) -> Result:
        """Follow `settings`, at once or on trial; the result is for the reply.

        Raises:
            RefusedError: they are not to be followed; what stood stands.
        """
        with self._lock:
            current, kept = self.current, self._kept
            if current is not None and settings.revision < current.revision:
                raise RefusedError(f"older than revision {current.revision}, which stands")
            if current is not None and settings.revision == current.revision:
                if settings != current:
                    raise RefusedError("differs from what was sent under this revision")
                return self._result(settings)
            if settings.revision == kept.rolled_back:
                raise RefusedError("was rolled back here; mend it and send a new revision")
            self._unproved = set(self._risks(kept.standing, settings))
            self._until_s = None
            if self._unproved:
                self._keep(Kept(kept.standing, settings, 1, kept.rolled_back))
            else:
                self._keep(Kept(settings, rolled_back=kept.rolled_back))
            return self._result(settings)

    def _result(self, settings: wire.Settings) -> Result:
        if settings != self._kept.trial:
            return {"revision": settings.revision}
        return {"revision": settings.revision, "trial_s": self._trial_s}

    def observe(self, now_s: float, window_s: float, proved: Collection[str]) -> Verdict | None:
        """Go on with a trial; its verdict when it has come.

        Args:
            now_s: CLOCK_MONOTONIC.
            window_s: a trial lasts three windows at least, or nothing could be proved.
            proved: what has proved itself under the settings on trial.
        """
        with self._lock:
            if self._lost_at_start is not None:
                verdict, self._lost_at_start = self._lost_at_start, None
                return verdict
            trial = self._kept.trial
            if trial is None:
                return None
            if self._until_s is None:
                self._until_s = now_s + max(self._trial_s, 3 * window_s)
            self._unproved -= set(proved)
            if not self._unproved:
                self._keep(Kept(trial, rolled_back=self._kept.rolled_back))
                return Verdict(trial.revision, None)
            if now_s < self._until_s:
                return None
            return self._roll_back(trial, f"no sign of {', '.join(sorted(self._unproved))}")

    def _roll_back(self, trial: wire.Settings, why: str) -> Verdict:
        self._keep(Kept(self._kept.standing, rolled_back=trial.revision))
        log.warning("settings %d: rolled back: %s", trial.revision, why)
        return Verdict(trial.revision, f"rolled back: {why}")

    def _begin_again(self) -> None:
        """What stands must fit a file that was changed; a trial was interrupted (rule 4)."""
        kept = self._kept
        if kept.standing is not None:
            try:
                self._risks(None, kept.standing)
            except RefusedError as err:
                log.warning("settings %d: dropped: %s", kept.standing.revision, err)
                kept = Kept(None, kept.trial, kept.starts, kept.rolled_back)
                self._keep(kept)
        if kept.trial is None:
            return
        try:
            self._unproved = set(self._risks(kept.standing, kept.trial))
        except RefusedError as err:
            self._lost_at_start = self._roll_back(kept.trial, str(err))
            return
        if kept.starts >= MAX_STARTS:
            why = f"the agent ended {kept.starts} times under them"
            self._lost_at_start = self._roll_back(kept.trial, why)
        else:
            self._keep(Kept(kept.standing, kept.trial, kept.starts + 1, kept.rolled_back))

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        try:
            write_file(self._file, msgspec.json.encode(kept))
        except OSError as err:
            log.warning("settings: cannot keep them: %s", err.strerror)

    def _load(self) -> Kept:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except (OSError, msgspec.MsgspecError) as err:
            log.warning("%s: %s; waiting for the server to send its settings", self._file, err)
            return Kept()
        foreign = [s for s in (kept.standing, kept.trial) if s and s.site != self._site]
        return Kept() if foreign else kept
