"""A short story against real parts, with some chaos, and the plan of that chaos."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bench.truth.chaos import ACTS, Act, plan, told, within
from bench.truth.run import play
from bench.truth.score import table
from bench.truth.story import generate


def test_the_chaos_of_a_seed_is_always_the_same_and_has_every_kind() -> None:
    acts = plan(1, 50, 3600)
    assert acts == plan(1, 50, 3600)
    assert acts != plan(2, 50, 3600)
    assert {act.what for act in acts} == set(ACTS)
    assert len(acts) == 50
    assert all(a.at_s + a.lasts_s < b.at_s for a, b in pairwise(acts))
    gaps = sorted(b.at_s - a.at_s for a, b in pairwise(acts))
    assert gaps[-1] > 10 * gaps[0]  # bursts


@pytest.mark.slow
def test_a_short_story_with_chaos_loses_no_reading_and_tells_no_outage_that_was_none(
    tmp_path: Path,
) -> None:
    sites = generate(3, 200, minutes=3.0, events=30, window_s=5.0, lasts_s=(60.0, 70.0))
    acts = [
        Act(20.0, "network_cut", 3.0),
        # No longer: who finds no broker three times may wait for 24 s, and 2.5 windows are 12.5.
        Act(35.0, "broker_killed_without_ingest", 1.0),
        Act(60.0, "ingest_killed", 2.0),
    ]
    story = within(sites, acts)
    assert told(story) == acts
    outcome = play(tmp_path, story, minutes=3.0, window_s=5.0)
    found = outcome.score
    assert outcome.book_faults == []
    assert outcome.readings > 2000
    assert [row["what"] for row in outcome.chaos] == [
        *("network_cut", "ingest_killed", "broker_killed_without_ingest", "ingest_killed")
    ]
    assert all(row["pid"] for row in outcome.chaos[1:])
    assert found.not_played == []
    assert (found.missed, found.false) == ([], []), table(found)
    assert (found.unresolved, found.early) == ([], []), table(found)
    assert found.detection_s, "what began after the chaos was told without its delay"
    assert found.disturbed_s, "and what began in it was told as well"
