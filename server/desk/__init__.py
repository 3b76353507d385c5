"""The commands by which the city's terms are entered: contracts, maintenance, rules."""

from __future__ import annotations

from pathlib import Path

from server.show import CommandError


def read(file: Path) -> str:
    """The text of a file.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as err:
        raise CommandError(f"{file}: cannot be read: {err.strerror}") from None
    except UnicodeDecodeError as err:
        raise CommandError(f"{file}: not UTF-8 at byte {err.start}; save it so") from None
