"""The spool's folder: who may use it, what lies in it, and what is kept beside.

Names are `00000012.seg`, counted up, so that their order is that of their
making. A damaged segment is kept as `00000012.corrupt` for whoever wants to
look, within the spool's bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from agent.spool import segment
from agent.spool.segment import DamagedError, Segment

CORRUPT = ".corrupt"
_POSITIONS = "positions.json"


class SpoolError(Exception):
    """The spool cannot be used: one line, with the place and the mend."""


class PlaceError(SpoolError):
    """No spool can be where the configuration puts it."""


class Found(NamedTuple):
    """The segments of a folder, oldest first, and what was wrong with others."""

    segments: list[Segment]
    problems: list[str]
    lost: int
    next_number: int
    end_is_known: bool


class Positions(NamedTuple):
    """Up to where each stream is released, and how many readings were dropped."""

    released: dict[str, int]
    dropped: int


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the folder for this process alone.

    Raises:
        SpoolError: another agent uses it, or it cannot be made or opened.
    """
    descriptor = take(path)
    try:
        yield
    finally:
        os.close(descriptor)


def take(path: Path) -> int:
    """Take the folder for this process alone; the descriptor holds it until closed.

    Raises:
        SpoolError: another agent uses it, or it cannot be made or opened.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        raise PlaceError(f"{path}: {err.strerror}; mend spool.path or its permissions") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SpoolError(
            f"spool {path}: another pantau-agent uses it; stop that one first"
        ) from None
    return descriptor


def scan(path: Path) -> Found:
    """Load every segment, setting aside what is no good.

    What the disk does not let us set aside or remove stays where it lies, and keeps its number.

    The end of the newest stream is known when nothing says otherwise: the newest
    file is whole, the original, and was left open or closed, not sealed; and no
    segment has another name than we give.
    """
    segments: list[Segment] = []
    problems: list[str] = []
    for unfinished in sorted(path.glob("*.tmp")):
        try:
            unfinished.unlink()
        except OSError as err:
            problems.append(f"{unfinished.name}: cannot be removed: {err.strerror}")
    files, strangers = _numbered(path)
    problems += [f"{file.name}: its name is no number; left alone" for file in strangers]
    for file in files:
        try:
            loaded = segment.load(file)
            why = "bad header"
        except OSError as err:
            loaded, why = None, f"{err.strerror}"
        if loaded is None:
            problems.append(f"{file.name}: {why}; {_set_aside(file)}")
        else:
            segments.append(loaded)
    lost = 0
    for torn, following in zip_longest(segments, segments[1:]):
        count = _lost_behind(torn, following)
        if count and _keep_beside(torn.path):
            lost += count
            problems.append(f"{torn.path.name}: damaged; {count} readings after {torn.last} lost")
        elif torn.torn and following is None:
            problems.append(f"{torn.path.name}: unfinished record after seq {torn.last} cut off")
    numbers = [int(file.stem) for file in path.glob("*.*") if file.stem.isdecimal()]
    newest = segments[-1] if segments else None
    known = newest is not None and not (
        strangers  # one of them may be the newest
        or newest.torn
        or not newest.is_original
        or newest.ended == "sealed"
        or int(newest.path.stem) < max(numbers)
    )
    return Found(segments, problems, lost, max(numbers, default=0) + 1, known)


def corrupt_files(path: Path) -> list[Path]:
    """The damaged segments that were set aside, oldest first."""
    return sorted(path.glob(f"*{CORRUPT}"))


def held(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """Stream, seq and payload of all that lies in a folder, which is left alone."""
    for file in _numbered(path)[0]:
        with contextlib.suppress(OSError, DamagedError):
            part = segment.load(file)
            if part is not None:
                for seq in range(part.first, part.last + 1):
                    yield (part.stream, seq, part.read(seq, 1, 0)[0][1])


def _numbered(path: Path) -> tuple[list[Path], list[Path]]:
    """The segments by their numbers, and those whose name is none: somebody renamed them."""
    files = sorted(path.glob(f"*{segment.SUFFIX}"))
    numbered = [file for file in files if file.stem.isdecimal()]
    return numbered, [file for file in files if not file.stem.isdecimal()]


def load_positions(path: Path) -> Positions:
    """The stored positions; none where there are none, or no good ones.

    A lost position costs a second delivery, nothing else.
    """
    try:
        stored = json.loads((path / _POSITIONS).read_bytes())
        released = {str(stream): int(seq) for stream, seq in stored["released"].items()}
        return Positions(released, int(stored["dropped"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Positions({}, 0)


def save_positions(path: Path, positions: Positions) -> None:
    write_file(path / _POSITIONS, json.dumps(positions._asdict()).encode())


def write_file(file: Path, data: bytes) -> None:
    """Replace a small file in one step, durably.

    Raises:
        OSError: no room, or the disk refuses; the old file stands then.
    """
    new = file.with_suffix(".new")
    try:
        with new.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    segment.sync_folder(file.parent)


def _lost_behind(torn: Segment, following: Segment | None) -> int:
    """How many readings a damaged segment has lost."""
    if torn.torn and following is not None and following.stream == torn.stream:
        return following.first - torn.last - 1
    return torn.behind


def _set_aside(file: Path) -> str:
    """Take a file out of use for good, where the disk lets us; what became of it."""
    aside = file.with_suffix(CORRUPT)
    try:
        aside.unlink(missing_ok=True)  # onto a link to itself a file cannot be renamed
        file.rename(aside)
    except OSError as err:
        return f"cannot be set aside: {err.strerror}"
    return "set aside"


def _keep_beside(file: Path) -> bool:
    """Keep a damaged file, whose good records stay in use, under a second name.

    False when that was done at an earlier start.
    """
    aside = file.with_suffix(CORRUPT)
    if aside.exists():
        return False
    with contextlib.suppress(OSError):  # a file system without links: it stays as it is
        aside.hardlink_to(file)
    return True
