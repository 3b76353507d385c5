"""Counting troubles: the short way for a calm reading says what the long way says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server import troubles
from server.model import Kind, Rules
from server.troubles import Count
from tests.server.made import Device

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
        one for one in long_way if one != BESIDE
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
