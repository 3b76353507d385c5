"""Deliberate faults: one textual change each, which certain tests must notice.

    python -m tests.faults.mutate            lists them
    python -m tests.faults.mutate NAME       shows that its tests turn red

The sources are copied, changed and tested in a temporary folder; the tests there, and the
commands that they start, import the copy alone. A fault that no test notices is an error, and
so is one that no longer fits the source: then write it anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_COPIED = ("agent", "server", "tests", "deploy", "examples", "setup.cfg", "pyproject.toml")
_RUN_S = 600.0
_KILLS = "tests/lab/test_kills.py"


class Fault(NamedTuple):
    """One change: `old` stands exactly once in `file`; `tests` are pytest's node ids."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = {
    "acknowledge before the commit": Fault(
        "server/session.py",
        """            await self._commit(batch.messages)
            self._link.acknowledge(batch)
""",
        """            self._link.acknowledge(batch)
            await self._commit(batch.messages)
""",
        (
            f"{_KILLS}::test_what_ingest_holds_and_has_not_committed_is_delivered_again_after_its_death",
        ),
    ),
    "reuse a seq": Fault(
        "agent/spool/folder.py",
        "        or newest.torn\n        or not newest.is_original\n",
        "        or not newest.is_original\n",
        (
            "tests/agent/test_spool_damage.py",
            f"{_KILLS}::test_a_seq_that_the_server_has_and_a_torn_spool_has_lost_is_never_used_again",
        ),
    ),
    "ignore the session of a will": Fault(
        "server/health.py",
        "if presence.session != health.session and health.session:\n",
        "if not presence.session:\n",
        (
            "tests/server/test_health_offline.py",
            "tests/lab/test_late_will.py",
        ),
    ),
}


class Outcome(NamedTuple):
    """What a run of tests gave, by their ids."""

    passed: set[str]
    asserted: set[str]
    """Failed by an assertion."""
    broken: dict[str, str]
    """Ended in any other way: an error, an exception, left out; with the reason."""
    output: str


def copy_sources(tree: Path) -> None:
    """Copy what a run of the tests needs into `tree`."""
    tree.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tree / name, ignore=ignore)
        else:
            shutil.copy(source, tree / name)


def apply(fault: Fault, tree: Path) -> None:
    """Change the copy.

    Raises:
        ValueError: the place of the fault is not there exactly once.
    """
    file = tree / fault.file
    text = file.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(
            f"{fault.file} holds this {text.count(fault.old)} times, not once:\n{fault.old}"
        )
    file.write_text(text.replace(fault.old, fault.new))


def run(tree: Path, tests: Sequence[str]) -> Outcome:
    """Run tests in a copy, on nothing but the copy."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PANTAU_REQUIRE_ALL": "0",
    }
    where = "import agent, server; print(agent.__file__, server.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", where],
        cwd="/",  # else the folder we are in would come first
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    if told.stdout.count(str(tree)) != 2:
        raise ValueError(f"the copy is not what is imported: {told.stdout}")
    report = tree / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--junitxml={report}", f"--basetemp={tree / 'temp'}", *tests),
        ],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    if not report.exists():
        raise ValueError(f"pytest made no report:\n{done.stdout}{done.stderr}")
    return _outcome(report, done.stdout)


def _outcome(report: Path, output: str) -> Outcome:
    outcome = Outcome(set(), set(), {}, output)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest wrote it just now
        name = f"{case.get('classname')}::{case.get('name')}"
        trouble = [child for child in case if child.tag in ("failure", "error", "skipped")]
        if not trouble:
            outcome.passed.add(name)
        elif trouble[0].tag == "failure" and _is_assertion(trouble[0].get("message", "")):
            outcome.asserted.add(name)
        else:
            outcome.broken[name] = trouble[0].get("message", "")
    return outcome


def _is_assertion(message: str) -> bool:
    return message.startswith(("AssertionError", "assert "))


def mutated(name: str, tree: Path) -> Outcome:
    """What the tests of a fault say of sources that have it."""
    fault = FAULTS[name]
    copy_sources(tree)
    apply(fault, tree)
    return run(tree, fault.tests)


def main(names: Sequence[str]) -> int:
    """Show one fault, or list all."""
    if not names or names[0] not in FAULTS:
        print("\n".join(FAULTS))
        return 0 if not names else 2
    with tempfile.TemporaryDirectory(prefix="pantau-fault-") as folder:
        outcome = mutated(names[0], Path(folder) / "tree")
    print(outcome.output)
    return 0 if outcome.asserted else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
