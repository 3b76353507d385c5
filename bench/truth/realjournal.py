"""The journal of the real sites: what was done, and what their agents made, by their own spools."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.truth.realagent import RealSite


class Journal:
    """JSON lines as `docs/truth.md` says. Spools are read beside, so that no event waits for that.

    A reading is written once, and once more where its name came again with other content.

    Attributes:
        folder: beside the file; what the sites keep lies here.

    Raises:
        OSError: an earlier run's is in the way.
    """

    def __init__(self, file: Path) -> None:
        self.folder = file.with_suffix(".d")
        self.folder.mkdir(parents=True)
        self._file = file.open("w", buffering=1)
        self._lock = threading.Lock()
        self._told: set[tuple[str, str, int, str]] = set()
        self._readers = ThreadPoolExecutor(2)
        self._reading: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        self._readers.shutdown()
        self._file.close()
        if kind is None:
            for one in self._reading:
                one.result()

    def happened(self, event: str, edge: str) -> None:
        """An event has just begun, or ended."""
        self._write({"event": event, "edge": edge, "at": iso(time.time())})

    def read(self, sites: Iterable[RealSite]) -> None:
        """Write down soon what is new in these spools."""
        self._reading += [self._readers.submit(self._read, site) for site in sites]

    def _read(self, site: RealSite) -> None:
        for made in site.readings():
            name = site.site, made.stream, made.seq, made.sha256
            with self._lock:
                known = name in self._told
                self._told.add(name)
            if not known:
                row = {"site": site.site, "stream": made.stream, "seq": made.seq}
                self._write(row | {"from": iso(made.from_at), "to": iso(made.to_at)})

    def _write(self, row: dict[str, object]) -> None:
        with self._lock:
            self._file.write(json.dumps(row) + "\n")


def iso(at: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
