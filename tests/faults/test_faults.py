"""The tests notice what they are there for: each deliberate fault turns its tests red."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.mutate import FAULTS, Fault, apply, copy_sources, mutated, run


def _file_of(test: str) -> str:
    """The file of a node id, as JUnit names it: ``tests.lab.test_kills``."""
    return test.partition("::")[0].removesuffix(".py").replace("/", ".")


@pytest.mark.slow
def test_without_a_fault_all_of_these_tests_pass(tmp_path: Path) -> None:
    tests = [test for fault in FAULTS.values() for test in fault.tests]
    copy_sources(tmp_path / "tree")
    outcome = run(tmp_path / "tree", tests)
    assert outcome.passed, outcome.output
    assert not outcome.asserted, outcome.output
    assert not outcome.broken, outcome.output


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_turns_each_of_its_tests_red_by_an_assertion(name: str, tmp_path: Path) -> None:
    outcome = mutated(name, tmp_path / "tree")
    assert not outcome.broken, outcome.output
    for test in FAULTS[name].tests:
        red = [node for node in outcome.asserted if node.startswith(_file_of(test))]
        assert red, f"{test} did not notice\n{outcome.output}"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_still_fits_the_source(name: str, tmp_path: Path) -> None:
    copy_sources(tmp_path / "tree")
    apply(FAULTS[name], tmp_path / "tree")
    changed = (tmp_path / "tree" / FAULTS[name].file).read_text()
    compile(changed, FAULTS[name].file, "exec")
    with pytest.raises(ValueError, match="0 times"):
        apply(FAULTS[name], tmp_path / "tree")


def test_a_fault_that_fits_nowhere_is_refused(tmp_path: Path) -> None:
    copy_sources(tmp_path / "tree")
    with pytest.raises(ValueError, match="not once"):
        apply(Fault("agent/main.py", "\n", "\n\n", ()), tmp_path / "tree")
