"""Damaged payloads of every topic through the real handlers, and a fuzzer that notices faults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from bench.fuzzing.inside import run
from server.store import tables

_FEW = 3_000


@pytest.mark.slow
def test_fifty_thousand_damaged_payloads_are_stored_or_quarantined_and_memory_stays_flat(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "fuzz.json"
    command = [sys.executable, "-m", "bench.fuzzing", "--payloads", "50000", "--seed", "11"]
    done = subprocess.run([*command, "--results", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    told = json.loads(kept.read_text())
    assert (told["payloads"], told["found"]) == (50_000, {})
    for side in ("to ingest", "a reading", "to the agent"):
        assert min(told["verdicts"][f"{side}: {what}"] for what in ("valid", "invalid")) > 1_000
    assert len(told["reasons"]) > 10


@pytest.mark.slow
def test_a_handler_that_raises_on_one_kind_of_payload_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good: Callable[..., Any] = wire.decode_readings

    def fault(payload: bytes, **more: Any) -> Any:
        if payload[:1] == b"\x78":
            raise RuntimeError("compressed")
        return good(payload, **more)

    monkeypatch.setattr(wire, "decode_readings", fault)
    assert run(tmp_path, 1, _FEW).found["a handler that raises"]


@pytest.mark.slow
def test_a_quarantine_without_a_reason_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tables.SqliteStore.quarantine

    def fault(self: Any, at: float, topic: str, reason: str, payload: bytes) -> None:
        good(self, at, topic, "" if "UTF-8" in reason else reason, payload)

    monkeypatch.setattr(tables.SqliteStore, "quarantine", fault)
    assert run(tmp_path, 1, _FEW).found["no reason"]


@pytest.mark.slow
def test_a_reading_that_is_dropped_in_silence_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good: Callable[..., Any] = wire.decode_readings

    def fault(payload: bytes, **more: Any) -> Any:
        batch = good(payload, **more)
        return batch._replace(good=batch.good[:-1]) if len(batch.good) > 3 else batch

    monkeypatch.setattr(wire, "decode_readings", fault)
    found = run(tmp_path, 1, _FEW).found
    assert found["a good reading that is not stored"], found
