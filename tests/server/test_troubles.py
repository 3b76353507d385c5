"""Counting troubles: the short way for a calm reading says what the long way says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import troubles
from server.events import Changed, Resolved
from server.model import Kind, Rules
from server.troubles import Count
from tests.server.made import Device, Story

RULES = Rules()
BESIDE = Count("something else", Kind.SITE_DEGRADED, bad=1)
"""A count that no reading touches: with it the long way is taken."""


def echoes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"sent": st.sampled_from([0, 9, 10, 60])},
        optional={
            "loss_ratio": st.sampled_from([0.0, 0.02, 0.021, 0.05, 0.051, 1.0]),
            "rtt_p50_ms": st.sampled_from([0.0, 100.0, 100.1, 150.0, 150.1]),
        },
    )


VERDICT = st.sampled_from(["ok", "fail"])
RUNGS = ("carrier", "gateway", "isp", "domestic", "world", "dns", "web")
FIELDS = st.fixed_dictionaries(
    {"ladder": st.fixed_dictionaries({}, optional=dict.fromkeys(RUNGS, VERDICT))},
    optional={
        "ping": st.fixed_dictionaries({}, optional=dict.fromkeys(("domestic", "world"), echoes())),
        "access_points": st.dictionaries(
            st.sampled_from(["ap-1", "ap-2"]),
            st.fixed_dictionaries({"reachable": st.booleans()}),
            max_size=2,
        ),
        "host": st.fixed_dictionaries(
            {},
            optional={
                "temperature_c": st.sampled_from([20.0, 75.0, 75.1, 80.0, 80.1]),
                "undervoltage": st.booleans(),
            },
        ),
    },
)


@given(FIELDS)
def test_the_short_way_for_a_calm_reading_says_what_the_long_way_says(
    fields: dict[str, Any],
) -> None:
    reading = Device().reading(1000, **fields)
    long_way = troubles.count((BESIDE,), reading, RULES, 1000.0)

    assert troubles.count((), reading, RULES, 1000.0) == tuple(
        one for one in long_way if one.name != BESIDE.name
    )


@given(st.lists(FIELDS, max_size=12))
def test_a_trouble_stands_only_with_a_text_and_is_forgotten_when_it_is_over(
    windows: list[dict[str, Any]],
) -> None:
    device = Device()
    counts: tuple[Count, ...] = ()
    for fields in windows:
        counts = troubles.count(counts, device.reading(1000, **fields), RULES, 1000.0)
        assert all(one.bad or one.text for one in counts)
        assert all(one.bad < RULES.raise_windows or one.text for one in counts)
        assert len({one.name for one in counts}) == len(counts)
        assert [text for _, text in troubles.raised(counts)] == [
            one.text for one in counts if one.text
        ]


def test_a_calm_reading_costs_no_new_counts() -> None:
    counts: tuple[Count, ...] = ()

    assert troubles.count(counts, Device().reading(1000), RULES, 1000.0) is counts


def of_web(**fields: Any) -> Story:
    """A site whose web rung has failed for three windows, of 60 s."""
    story = Story()
    for _ in range(3):
        minute(story, ladder={"domestic": "ok", "web": "fail"}, **fields)
    assert story.health.reasons == ("web failing",)
    return story


def minute(story: Story, **fields: Any) -> None:
    story.reads(story.health.heard_at + 60 if story.health.heard_at else 1000, **fields)


def test_a_trouble_that_ten_windows_do_not_measure_is_over() -> None:
    story = of_web()
    for _ in range(9):
        minute(story)
        assert story.status == "degraded"
    minute(story)

    assert (story.status, story.health.troubles) == ("online", ())
    assert story.told[-2:] == [Resolved(Kind.SITE_DEGRADED, story.health.heard_at), Changed()]


def test_a_trouble_that_every_tenth_window_measures_stands() -> None:
    """A metered link runs its probes in every fifth; one of those may come late."""
    story = of_web()
    for _ in range(3):
        for _ in range(9):
            minute(story)
        minute(story, ladder={"domestic": "ok", "web": "fail"})

    assert story.health.reasons == ("web failing",)
    assert [type(event) for event in story.told].count(Resolved) == 0


def test_a_trouble_whose_probe_tells_an_error_is_still_measured() -> None:
    story = of_web()
    for _ in range(30):
        minute(story, errors={"web": "still hangs since 61.2 s"})
    assert story.health.reasons == ("web failing",)

    for _ in range(9):
        minute(story)
    assert story.status == "degraded"
    minute(story)
    assert story.status == "online"


@pytest.mark.parametrize(
    ("raises", "speaks"),
    [
        ({"ping": {"domestic": {"sent": 60, "rtt_p50_ms": 900.0}}}, {"ping": {"domestic": {}}}),
        ({"ladder": {"isp": "fail"}}, {"errors": {"isp": "the hop 10.0.0.1 answers no echo"}}),
        ({"ladder": {"world": "fail"}}, {"errors": {"icmp": "not permitted"}}),
        ({"ladder": {"world": "fail"}}, {"errors": {"world6": "does not resolve"}}),
        ({"ladder": {"carrier": "fail"}}, {"errors": {"link": "timeout after 2.0 s"}}),
        ({"host": {"undervoltage": True}}, {"errors": {"host": "timeout after 2.0 s"}}),
        (
            {"access_points": {"ap-1": {"reachable": False}}},
            {"errors": {"access_points": "not permitted; grant CAP_NET_RAW"}},
        ),
    ],
)
def test_each_trouble_stands_while_its_own_probe_runs_and_goes_when_it_does_not(
    raises: dict[str, Any], speaks: dict[str, Any]
) -> None:
    story = Story()
    only = {"ladder": {"domestic": "ok"}}
    for fields in [*[raises] * 3, *[speaks] * 20]:
        minute(story, **only | fields)
    assert story.status == "degraded"
    for _ in range(10):
        minute(story, **only, errors={"ntp": "timeout after 2.0 s"})
    assert (story.status, story.health.troubles) == ("online", ())


def test_what_was_bad_long_ago_does_not_count_towards_a_trouble_of_today() -> None:
    story = Story()
    web_fails = {"ladder": {"domestic": "ok", "web": "fail"}}
    for fields in [*[web_fails] * 2, *[{}] * 10, web_fails]:
        minute(story, **fields)

    assert story.status == "online"
    assert [one.bad for one in story.health.troubles] == [1]


def test_windows_of_a_second_have_a_minute() -> None:
    """The helper of `access_points` may take 20 s, and says nothing meanwhile."""
    story = Story(window_s=1.0)
    for at in range(1000, 1003):
        story.reads(at, access_points={"ap-1": {"reachable": False}})
    for at in range(1003, 1062):
        story.reads(at)
        assert story.status == "degraded"
    story.reads(1062)
    assert story.status == "online"


def test_a_slow_test_of_throughput_stands_until_the_next_test() -> None:
    story = Story(floor_down_mbps=10.0)
    for _ in range(2):
        minute(story, throughput={"down_mbps": 2.0})
    for _ in range(500):
        minute(story)

    assert story.health.reasons == ("down_mbps 2.0 below 10",)


def test_counts_of_an_older_store_are_read() -> None:
    written = b'{"name":"web","kind":"site_degraded","bad":3,"text":"web failing","since":1000.0}'

    assert msgspec.json.decode(written, type=Count).untried == 0
