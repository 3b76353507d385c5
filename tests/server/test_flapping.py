"""When a site flaps, and when it has calmed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from server import flapping
from server.events import Opened, Resolved
from server.model import Kind, Rules, Status
from server.moving import standing
from tests.server.made import Story

RULES = Rules()
REST_S = RULES.flap_rest_s


def changes(*times: float, rules: Rules = RULES) -> flapping.Changes:
    """These changes of status, one after the other."""
    found: flapping.Changes = ()
    for at in times:
        found = flapping.changed(found, at, rules)
    return found


def flaps(story: Story) -> list[tuple[type, float]]:
    """When flapping began and ended."""
    return [
        (type(one), one.detected_at if isinstance(one, Opened) else one.resolved_at)
        for one in story.told
        if isinstance(one, Opened | Resolved) and one.kind is Kind.SITE_FLAPPING
    ]


def restless(*, until: float, every_s: float = 300.0) -> Story:
    """A site that is silent and comes back again and again."""
    story = Story()
    at = 1000.0
    while at <= until:
        story.waits(at)
        story.reads(at)
        at += every_s
    return story


def test_the_ninth_change_within_an_hour_begins_it_by_default() -> None:
    assert not flapping.starts(changes(*range(1000, 1800, 100)), RULES)
    assert flapping.starts(changes(*range(1000, 1900, 100)), RULES)


def test_changes_of_more_than_an_hour_ago_do_not_count() -> None:
    slow = changes(*range(1000, 10_000, 450))

    assert len(slow) == 8
    assert not flapping.starts(slow, RULES)


def test_twenty_changes_come_to_the_whole_and_more_are_forgotten() -> None:
    rules = Rules(flap_start_ratio=1.0)

    assert not flapping.starts(changes(*range(1, 20)), rules)
    assert flapping.starts(changes(*range(1, 21)), rules)
    assert changes(*range(1, 31)) == tuple(range(11, 31))


def test_it_calms_when_its_status_has_stood_or_its_changes_have_aged() -> None:
    quick = changes(*range(1000, 1900, 100))
    assert flapping.calm_at(quick, RULES) == 1800 + REST_S
    assert flapping.left(quick, 1800 + REST_S, RULES) == ()

    patient = Rules(flap_rest_s=10_000)
    assert flapping.calm_at(quick, patient) == 1400 + 3600  # then four are left: 0.23
    assert flapping.left(quick, 5000, patient) == (1500, 1600, 1700, 1800)


def test_a_clock_set_back_leaves_no_change_in_the_future() -> None:
    assert changes(5000, 5100, 2000) == (2000, 2000, 2000)


def test_other_rules_may_calm_it_at_once() -> None:
    quick = changes(*range(1000, 1900, 100))

    assert flapping.calm_at(quick, Rules(flap_start_ratio=1.0, flap_stop_ratio=0.9)) == 1800
    assert flapping.calm_at((), RULES) == 0


def test_a_threshold_that_is_passed_and_not_left_begins_nothing() -> None:
    one = Rules(flap_start_ratio=0.06, flap_stop_ratio=0.06)

    assert not flapping.starts(changes(1000), one)
    assert flapping.starts(changes(1000, 1100), one)


def test_a_site_that_comes_and_goes_flaps_once_and_calms_when_it_stays() -> None:
    story = restless(until=3400)
    # offline 150 s after each reading, back 300 s after it: the ninth change at 2350
    assert flaps(story) == [(Opened, 2350)]
    assert story.health.flapping_since == 1150
    assert story.status == Status.ONLINE

    for at in range(3460, 3460 + 900, 60):
        story.waits(at)
        story.reads(at)

    assert flaps(story) == [(Opened, 2350), (Resolved, 3400 + REST_S)]
    assert story.health.changes == ()


def test_what_opens_with_the_flapping_comes_after_it_and_what_ends_before() -> None:
    story = restless(until=2200)
    story.told.clear()
    story.waits(2350)
    opened = [one.kind for one in story.told if isinstance(one, Opened)]
    assert opened == [Kind.SITE_FLAPPING, Kind.SITE_OFFLINE]

    other = Story(flap_start_ratio=0.1, flap_stop_ratio=0.06)
    other.reads(1000)
    other.waits(1150)
    told = [type(one) for one in other.reads(1300) if isinstance(one, Opened | Resolved)]
    assert told == [Resolved, Opened]


def test_the_first_sign_of_life_is_no_change() -> None:
    story = Story()
    story.online(1000, "A")
    story.reads(1060)

    assert story.health.changes == ()


def test_an_imported_site_that_flaps_raises_that_first() -> None:
    story = restless(until=2500)
    story.waits(2650)

    assert [one.kind for one in standing(story.health, 2700)] == [
        Kind.SITE_FLAPPING,
        Kind.SITE_OFFLINE,
    ]


LIFE = st.lists(
    st.tuples(
        st.sampled_from(["reads", "lossy", "lost", "silent"]),
        st.sampled_from([1.0, 31.0, 60.0, 151.0, 400.0, 1200.0]),
    ),
    min_size=8,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(life=LIFE, start=st.sampled_from([0.1, 0.3, 0.5]))
def test_whatever_happens_what_stays_offline_flaps_no_longer_than_the_bound(
    life: list[tuple[str, float]], start: float
) -> None:
    story = Story(flap_start_ratio=start, flap_stop_ratio=0.06)
    now = 1000.0
    offline_since: float | None = None
    for number, (what, wait_s) in enumerate(life):
        if what == "reads":
            story.reads(now)
        elif what == "lossy":
            story.reads(now, ladder={"domestic": "fail", "world": "fail"})
        elif what == "lost":
            story.online(now, f"s{number}")
            story.offline(now, f"s{number}")
        if story.status != Status.OFFLINE:
            offline_since = None
        end = now + wait_s
        while now < end:
            now = min(end, now + 60.0)
            story.waits(now)
            if story.status == Status.OFFLINE:
                offline_since = offline_since or now
                if now - offline_since >= REST_S:
                    assert not story.health.flapping_since
        assert bool(story.health.flapping_since) == (
            [kind for kind, _ in flaps(story)][-1:] == [Opened]
        )
