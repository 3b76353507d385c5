"""Damaged payloads through a real broker to real processes, and a fault that must be found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.fuzzing import overwire

_FORGETFUL = Path(__file__).parents[1] / "faults" / "forgetful_ingest.py"


@pytest.mark.slow
def test_processes_bear_damaged_payloads_and_garbage_that_stands_at_their_start(
    tmp_path: Path,
) -> None:
    report = overwire.run(tmp_path, 3, 600)
    assert not report.bad, report.findings
    assert report.verdicts["to ingest: invalid"] > 150
    assert report.verdicts["a reading: valid"] > 100
    assert report.verdicts["to the agent"] > 150
    assert report.verdicts["refused by the broker"] > 20
    assert report.verdicts["restarted on garbage"] == 2


@pytest.mark.slow
def test_an_ingest_that_drops_what_is_no_utf8_is_found(tmp_path: Path) -> None:
    report = overwire.run(tmp_path, 3, 200, pantau=[sys.executable, str(_FORGETFUL)])
    assert report.found["accepted against the contract"]
