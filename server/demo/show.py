"""How the demo shows itself: a live screen, plain lines, or nothing but the final JSON."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from server.demo.picture import Alert
from server.demo.story import Beat
from server.demo.view import Scene, clock, frame
from server.model import Status

_COUNTS_EVERY_S = 10.0


class Show(Protocol):
    """What the demo tells while it runs."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; what is written from then on stays on the terminal."""

    def note(self, text: str) -> None:
        """What the demo itself is doing."""

    def draw(self, scene: Scene) -> None:
        """How things stand, a few times a second."""

    def beat(self, beat: Beat) -> None:
        """The story went on."""

    def alert(self, alert: Alert) -> None:
        """An alert arrived."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def draw(self, scene: Scene) -> None:
        pass

    def beat(self, beat: Beat) -> None:
        pass

    def alert(self, alert: Alert) -> None:
        pass


class Lines(Silent):
    """One line for each event, for pipes and logs."""

    def __init__(self) -> None:
        self._timezone = "UTC"
        self._counts_at = 0.0

    def note(self, text: str) -> None:
        print(text, flush=True)

    def draw(self, scene: Scene) -> None:
        self._timezone = scene.timezone
        if scene.now - self._counts_at < _COUNTS_EVERY_S:
            return
        self._counts_at = scene.now
        counts = scene.picture.counts()
        total = len(scene.picture.sites)
        parts = [f"{counts[one]} {one} ({counts[one] / total:.0%})" for one in Status]
        self._print(scene.now, "sites", ", ".join(parts))

    def beat(self, beat: Beat) -> None:
        self._print(time.time(), "story", beat.text)

    def alert(self, alert: Alert) -> None:
        cause = alert.cause
        known = f", cause {cause.verdict} ({cause.confidence:.0%})"
        text = f"{alert.status}: {alert.title}{known if cause.verdict != 'unknown' else ''}"
        self._print(alert.seen_at, "alert", text)

    def _print(self, now: float, kind: str, text: str) -> None:
        print(f"{clock(now, self._timezone)}  {kind}  {text}", flush=True)


class Screen(Silent):
    """The whole terminal, redrawn as often as `draw` is called."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(text)

    def draw(self, scene: Scene) -> None:
        width, height = self._console.size
        self._live.update(frame(scene, width=width, height=height), refresh=True)
