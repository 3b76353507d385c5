"""What the fuzzer finds, and what it counts."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_libc = ctypes.CDLL(None)
GROWTH_MIB = 8.0
"""What RSS may grow by in the second half of a run."""
_EXAMPLES = 5
_CLASSES = (
    ("surrogate", "lone surrogate"),
    ("zlib", "broken zlib"),
    ("UTF-8", "not UTF-8"),
    ("bytes", "too large"),
    ("not a topic", "no topic of a site"),
    ("not a time", "no such time"),
    ("other content", "another reading under a taken name"),
    ("speaks for", "speaks for another site"),
    ("missing required", "a field is missing"),
    ("Expected", "wrong type, or out of its range"),
    ("Invalid enum", "no word of the contract"),
    ("out of range", "wrong type, or out of its range"),
    ("JSON", "not JSON"),
    ("truncated", "not JSON"),
    ("recursion", "nested too deep"),
    ("empty", "nothing at all"),
)


def class_of(reason: str) -> str:
    """A few words for many reasons."""
    return next((name for word, name in _CLASSES if word in reason), "other")


@dataclass
class Report:
    """One run."""

    growth_limit_mib: float = GROWTH_MIB
    payloads: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rss_mib: list[float] = field(default_factory=list)
    tenths_s: list[float] = field(default_factory=list)
    findings: dict[str, list[str]] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)

    def find(self, what: str, topic: str, payload: bytes, detail: str = "") -> None:
        """Something that must not be."""
        self.found[what] += 1
        examples = self.findings.setdefault(what, [])
        if len(examples) < _EXAMPLES:
            shown = payload[:3000]
            examples.append(f"{detail}\n  {topic}\n  {len(payload)} bytes: {shown!r}")

    @property
    def growth_mib(self) -> float:
        return growth_mib(self.rss_mib)

    @property
    def bad(self) -> bool:
        """Whether anything came of it that must not be."""
        return bool(self.found) or self.growth_mib > self.growth_limit_mib

    def save(self, path: Path) -> None:
        """Keep the examples."""
        path.parent.mkdir(exist_ok=True)
        parts = [f"{what}\n{one}" for what, some in self.findings.items() for one in some]
        path.write_text("\n\n".join(parts))


def growth_mib(samples: Sequence[float]) -> float:
    """From the greatest near the end of the first half to the greatest of the second."""
    half = len(samples) // 2
    first = samples[half - max(1, half // 4) : half]
    return max(samples[half:]) - max(first) if first else 0.0


def own_rss_mib() -> float:
    """What this process holds in memory, once the C library has given back what it keeps free."""
    _libc.malloc_trim(0)
    return rss_mib()


def rss_mib(pid: int | str = "self") -> float:
    """What a process holds in memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0
