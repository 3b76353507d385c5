"""One TOML table on its way to a dataclass: each key taken and checked, the rest refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.config import values

T = TypeVar("T")


class ConfigError(Exception):
    """One line: file, key, what is wrong and how to mend it."""


class Table:
    """One TOML table that is emptied key by key; what is left over is unknown."""

    def __init__(self, file: Path, name: str, values: dict[str, object]) -> None:
        self.file = file
        self.name = name
        self.values = dict(values)
        self.known: list[str] = []

    def error(self, key: str, text: str) -> ConfigError:
        dotted = f"{self.name}.{key}" if self.name else key
        return ConfigError(f"{self.file}: {dotted}: {text}")

    def take(self, key: str, check: Callable[[object], T]) -> T | None:
        """The checked value of `key`, None when it is not there."""
        self.known.append(key)
        if key not in self.values:
            return None
        try:
            return check(self.values.pop(key))
        except ValueError as err:
            raise self.error(key, str(err)) from None

    def need(self, key: str, check: Callable[[object], T], example: str) -> T:
        """The checked value of a key that must be there."""
        value = self.take(key, check)
        if value is None:
            raise self.error(key, f"missing; write for example {key} = {example}")
        return value

    def table(self, key: str) -> Table | None:
        self.known.append(key)
        if key not in self.values:
            return None
        value = self.values.pop(key)
        if not isinstance(value, dict):
            raise self.error(key, f"is {values.shown(value)}; make it a table [{key}]")
        return Table(self.file, key, value)

    def done(self) -> None:
        """Refuse what nobody took."""
        for key in self.values:
            near = difflib.get_close_matches(key, self.known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(self.known)}"
            raise self.error(key, f"unknown key; {hint}")
