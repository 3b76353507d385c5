"""Stories by seed, and the truth that is said before they are played."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import pytest

from bench.truth.chaos import Act, plan, told, within
from bench.truth.story import (
    OF_CENTRE,
    OF_GROUP,
    OF_SITE,
    REST_S,
    Event,
    generate,
    sites_of,
)
from bench.truth.storyfile import BadStory, from_toml, read, to_csv, to_toml
from bench.truth.truth import down_s, expect

STORY = generate(7, 200, minutes=60, events=150, window_s=30)


def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    assert generate(7, 200, minutes=60, events=150, window_s=30) == STORY
    assert generate(8, 200, minutes=60, events=150, window_s=30).events != STORY.events


def test_a_story_read_again_is_the_story_that_was_written() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(STORY.sites))))
    assert from_toml(to_toml(STORY, "sites.csv"), rows) == STORY


def test_every_kind_of_event_is_told_within_a_few_seeds() -> None:
    told = {
        event.what
        for seed in range(5)
        for event in generate(seed, 200, minutes=60, events=150, window_s=30).events
    }
    assert told == {*OF_SITE, *OF_GROUP}


def test_no_site_suffers_two_events_without_a_rest_between() -> None:
    by_site: dict[str, list[Event]] = {}
    for event in STORY.events:
        for site in sites_of(event, STORY.sites):
            by_site.setdefault(site, []).append(event)
    pairs = [pair for events in by_site.values() for pair in itertools.pairwise(events)]
    assert pairs
    for earlier, later in pairs:
        assert earlier.lasts_s is not None
        assert later.at_s - earlier.at_s - earlier.lasts_s >= REST_S


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('what = "flood"\nsite = "sim-0001"', "unknown event 'flood'"),
        ('what = "cable_cut"', "of whom"),
        ('what = "cable_cut"\nsite = "sim-9999"', "no site has site 'sim-9999'"),
        ('what = "isp_down"\nisp = "nobody"', "no site has isp 'nobody'"),
        ('what = "ingest_killed"', "ingest_killed needs lasts_s"),
    ],
)
def test_an_event_that_nobody_can_suffer_is_refused_in_one_line(lines: str, said: str) -> None:
    text = f'seed = 1\nstart_after_s = 1\n[[event]]\nid = "e1"\nat_s = 1\n{lines}\n'
    with pytest.raises(BadStory, match=said) as caught:
        from_toml(text, STORY.sites)
    assert "\n" not in str(caught.value)


def test_what_is_no_story_is_refused_in_one_line() -> None:
    with pytest.raises(BadStory, match="no TOML"):
        from_toml("seed =", [])
    with pytest.raises(BadStory, match="start_after_s"):
        from_toml("seed = 1", [])


def _truth(what: str, lasts_s: float | None, by: str = "site", target: str = "sim-0001"):  # type: ignore[no-untyped-def]  # one Expected
    story = type(STORY)(1, 0.0, STORY.sites, [Event("e1", 10.0, lasts_s, what, by, target)])
    (one,) = expect(story, 10.0)
    return one


def test_a_blip_must_bring_nothing_and_a_cut_an_outage() -> None:
    assert _truth("cable_cut", 10.0).incident is None
    cut = _truth("cable_cut", 100.0)
    assert (cut.incident, cut.cause, cut.evidence, cut.down) == ("site_offline", "link", True, True)


def test_what_never_ends_leaves_no_evidence_but_a_group_does() -> None:
    assert not _truth("agent_killed", None).evidence
    assert _truth("isp_down", None, "isp", STORY.sites[0]["isp"]).evidence


def test_the_agents_absence_is_not_down_and_a_wrong_clock_is_no_trouble() -> None:
    assert not _truth("agent_hung", 100.0).down
    assert _truth("clock_wrong", 100.0).incident is None


def test_down_is_counted_within_the_time_that_is_judged() -> None:
    assert down_s([_truth("cable_cut", 100.0)], 50.0, 80.0) == {"sim-0001": 30.0}


def test_what_strikes_the_centre_is_written_and_read_with_the_story(tmp_path: Path) -> None:
    acts = plan(7, 20, 3600.0)
    both = within(STORY, acts)
    (tmp_path / "sites.csv").write_text(to_csv(STORY.sites))
    (tmp_path / "story.toml").write_text(to_toml(both, "sites.csv"))

    again = read(tmp_path / "story.toml")
    assert again == both
    assert told(again) == acts
    assert within(again, []) == STORY


def test_breakages_are_played_in_their_order_and_never_two_at_once() -> None:
    late, early = Act(100.0, "ingest_killed", 3.0), Act(20.0, "broker_killed", 3.0)
    assert told(within(STORY, [late, early])) == [early, late]
    with pytest.raises(BadStory, match="event c0002: the centre is still broken then"):
        told(within(STORY, [early, Act(24.0, "ingest_killed", 3.0)]))


@pytest.mark.parametrize(
    ("sites", "event", "said"),
    [
        ("5", 'what = "cable_cut"\nsite = "s-1"', "[fleet] sites is 5"),
        ('"sites.csv"', 'what = "backhaul_down"\nbackhaul = "t"', "no column backhaul"),
        ('"sites.csv"', 'what = "ingest_killed"\nsite = "s-1"', "take out site"),
    ],
)
def test_a_story_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, sites: str, event: str, said: str
) -> None:
    (tmp_path / "sites.csv").write_text("site,name,district,isp\ns-1,S,d,i\n")
    story = tmp_path / "story.toml"
    head = f"seed = 1\nstart_after_s = 1\n[fleet]\nsites = {sites}\n[[event]]\n"
    story.write_text(f'{head}id = "e"\nat_s = 1\nlasts_s = 9\n{event}\n')
    with pytest.raises(BadStory) as refused:
        read(story)
    assert said in str(refused.value)


def test_the_centre_is_judged_by_nobody() -> None:
    events = [Event(f"e{n}", 1.0, 1.0, what) for n, what in enumerate(OF_CENTRE)]
    assert expect(type(STORY)(1, 0.0, STORY.sites, events), 10.0) == []
