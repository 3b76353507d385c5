"""The tests run with the releases that `constraints.txt` names, and it names all that is needed."""

from __future__ import annotations

import configparser
import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[1]
_PINS = {
    canonicalize_name(name): number
    for name, number in (
        line.split("==")
        for line in (_ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}


def _asked_for() -> list[Requirement]:
    """What setup.cfg names, the references of one list to another left out."""
    described = configparser.RawConfigParser()
    described.read(_ROOT / "setup.cfg")
    lists = [
        described["options"]["install_requires"],
        *described["options.extras_require"].values(),
    ]
    lines = [line.strip() for text in lists for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("%")]


@pytest.mark.parametrize("asked", _asked_for(), ids=str)
def test_what_setup_cfg_asks_for_is_pinned_within_its_range(asked: Requirement) -> None:
    assert asked.specifier.contains(_PINS[canonicalize_name(asked.name)])


@pytest.mark.parametrize("name", _PINS)
def test_what_is_pinned_is_what_runs_here(name: str) -> None:
    assert importlib.metadata.version(name) == _PINS[canonicalize_name(name)]
