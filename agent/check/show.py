"""The rows for people: a table in their language, and the line to read out on the phone.

Plain text without colours: it has to do on a serial console, too.
"""

from __future__ import annotations

import functools
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Literal

import msgspec

import agent
from agent.check.rows import Row, Value

Language = Literal["id", "en"]
LANGUAGES: tuple[Language, ...] = ("en", "id")

_LEAST_COLUMNS, _MOST_COLUMNS = 40, 110
_SPOKEN = 4
"""More failures than these are only counted: a person has to say them."""


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is said in one language: the file en.toml or id.toml.

    ``details`` is by what systems say in English, ``names`` by what was tried, ``texts`` by what
    came of it; ``failures`` has what failed and its mend. What stands in braces is filled with
    the row's values.
    """

    words: dict[str, str]
    details: dict[str, str]
    names: dict[str, str]
    texts: dict[str, str]
    failures: dict[str, tuple[str, str]]


@functools.cache
def texts_of(tongue: Language) -> Texts:
    file = resources.files("agent.check") / f"{tongue}.toml"
    return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Texts)


def language(environment: Mapping[str, str]) -> Language:
    """The language of the first that is set of LC_ALL, LC_MESSAGES and LANG (POSIX, 8.2)."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    tongue = locale.partition(".")[0].partition("@")[0].partition("_")[0]
    return "id" if tongue.lower() == "id" else "en"


def _filled(text: str, values: Mapping[str, Value], details: Mapping[str, str]) -> str:
    """`text` with its values, as one line that does nothing to a terminal."""
    detail = str(values.get("detail", ""))
    for english, said in details.items():
        detail = detail.replace(english, said)
    told = text.format(**{**values, "detail": detail})
    return "".join(char if char.isprintable() else "?" for char in " ".join(told.split()))


def what(row: Row, tongue: Language) -> str:
    """What came of it."""
    texts = texts_of(tongue)
    found = texts.failures[row.told][0] if row.status == "fail" else texts.texts[row.told]
    return _filled(found, row.values, texts.details)


def mend(row: Row, tongue: Language) -> str | None:
    """How a failure is mended; None for what did not fail."""
    if row.status != "fail":
        return None
    texts = texts_of(tongue)
    return _filled(texts.failures[row.told][1], row.values, texts.details)


def table(rows: Iterable[Row], tongue: Language, columns: int) -> str:
    """The rows, each failure with its mend below it."""
    rows, words, names = list(rows), texts_of(tongue).words, texts_of(tongue).names
    columns = min(_MOST_COLUMNS, max(_LEAST_COLUMNS, columns))
    states = [f"{words[row.status]} {row.code or ''}".rstrip() for row in rows]
    widths = max(len(names[row.name]) for row in rows), max(map(len, states))
    lines: list[str] = []
    for row, state in zip(rows, states, strict=True):
        head = f"{names[row.name]:<{widths[0]}}  {state:<{widths[1]}}  "
        lines += _wrapped(head, what(row, tongue), columns)
        how = mend(row, tongue)
        if how is not None:
            lines += _wrapped(" " * len(head) + "> ", f"{words['mend']}: {how}", columns)
    if sum(row.status == "fail" for row in rows) > 1:
        lines += ["", *textwrap.wrap(words["first"], columns)]
    return "\n".join(lines)


def _wrapped(head: str, text: str, columns: int) -> list[str]:
    indent = " " * len(head)
    lines = textwrap.wrap(
        text, columns, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
    )
    return lines or [head.rstrip()]


def spoken(site: str, rows: Iterable[Row], tongue: Language) -> str:
    """One line to read out on the phone: site, version, what fails, with its numbers."""
    words, names = texts_of(tongue).words, texts_of(tongue).names
    told = dict.fromkeys((names[row.name], row.code) for row in rows if row.status == "fail")
    fails = [f"{name} {code}" for name, code in told]
    if len(fails) > _SPOKEN:
        more = words["more"].format(count=len(fails) - _SPOKEN)
        fails = [*fails[:_SPOKEN], more]
    result = f"{words['fails']}: {', '.join(fails)}" if fails else words["works"]
    return f"{words['spoken']}: {site}, {words['version']} {agent.__version__}, {result}."


def as_json(site: str | None, rows: Iterable[Row], *, service: bool) -> dict[str, object]:
    """For scripts; the same in every language. ``detail`` and ``mend`` are in English."""
    rows = list(rows)
    return {
        "v": 1,
        "site": site,
        "agent": agent.__version__,
        "ok": all(row.status != "fail" for row in rows),
        "service": service,
        "codes": [row.code for row in rows if row.code is not None],
        "checks": [_row_as_json(row) for row in rows],
    }


def _row_as_json(row: Row) -> dict[str, object]:
    found: dict[str, object] = {
        "name": row.name,
        "ok": row.status != "fail",
        "status": row.status,
        "told": row.told,
        "values": dict(row.values),
        "detail": what(row, "en"),
    }
    if row.code is not None:
        found |= {"code": row.code, "mend": mend(row, "en")}
    return found
