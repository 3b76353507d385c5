"""The bench on a running Pantau that has a fault: it must find each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.truth.chaos import Act, within
from bench.truth.run import Outcome, play
from bench.truth.story import Event, Story, registry
from tests.faults.mutate import Fault, apply, copy_sources

pytestmark = pytest.mark.slow

_ACKS_FIRST = Fault(
    "server/session.py",
    "        caught_up = self._caught_up\n        taken =",
    """        caught_up = self._caught_up
        for message in messages:
            site, leaf = message.topic.split("/")[3:5]
            if leaf == "readings":
                batch = wire.decode_readings(message.payload, site=site)
                through = batch.good[-1].reading.seq
                ack = wire.Ack(v=1, stream=batch.envelope.stream, through=through)
                self._link.publish(wire.site_topic(site, "acks"), wire.encode(ack))
        await asyncio.sleep(0.3)
        taken =""",
    (),
)
_ABSENCE_CHARGED = Fault(
    "server/health.py",
    '"""Rule 8: the state of a site once we are caught up after our own absence."""\n',
    '"""It is charged to everybody."""\n    return health\n',
    (),
)
_ONE_STREAM = Fault(
    "agent/spool/writer.py",
    "        self.stream = str(uuid.uuid4())\n",
    '        self.stream = str(uuid.UUID("12345678-1234-4234-8234-123456789abc"))\n',
    (),
)
_ONE_DROPPED = Fault(
    "server/intake.py",
    "draft.add_reading(new, good.raw)\n",
    "_ = draft.add_reading(new, good.raw) if reading.seq % 37 != 5 else None\n",
    (),
)
_ALL_LINK = Fault(
    "server/review.py",
    "    return with_witness(cause, facts.answered_s, facts.unanswered_s)\n",
    '    return Cause("link", 0.9, ("it is always the link",))\n',
    (),
)


def _play(folder: Path, faults: list[Fault], acts: list[Act]) -> Outcome:
    """A minute in which three sites lose their power and three their agent."""
    tree = folder / "tree"
    copy_sources(tree)
    for fault in faults:
        apply(fault, tree)
    command = folder / "pantau"
    command.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={tree}\ncd / && exec {sys.executable} -m server.cli "$@"\n'
    )
    command.chmod(0o755)
    sites = registry(1, 40)
    whats = ("power_off", "agent_killed") * 3
    events = [
        Event(f"e{n}", 2.0 + n, 35.0, what, "site", sites[5 * n]["site"])
        for n, what in enumerate(whats)
    ]
    return play(
        *(folder, within(Story(1, 15.0, sites, events), acts), (str(command), "simulate")),
        minutes=1.0,
        window_s=5.0,
        pantau=command,
        settle_s=20.0,
        stored_within_s=15.0,
    )


def test_without_a_fault_the_bench_finds_none(tmp_path: Path) -> None:
    outcome = _play(tmp_path, [], [Act(45.0, "ingest_killed", 3.0)])
    found = outcome.score
    assert outcome.faults == []
    assert found.cause_wrong == []
    assert found.cause_judged == 6


def test_seqs_used_again_readings_dropped_and_one_cause_for_all_are_found(tmp_path: Path) -> None:
    outcome = _play(tmp_path, [_ONE_STREAM, _ONE_DROPPED, _ALL_LINK], [])
    said = "\n".join(outcome.book_faults)
    assert "made twice under one name" in said
    assert "readings lost" in said
    assert len(outcome.score.cause_wrong) == 6
    assert outcome.score.causes == {"power": {"link": 3}, "agent": {"link": 3}}


def test_acks_before_the_commit_and_our_own_absence_charged_to_sites_are_found(
    tmp_path: Path,
) -> None:
    outcome = _play(
        tmp_path, [_ACKS_FIRST, _ABSENCE_CHARGED], [Act(25.0, "broker_killed_without_ingest", 20.0)]
    )
    assert "acks ran ahead of the store" in "\n".join(outcome.book_faults)
    assert len(outcome.score.false) > 20
