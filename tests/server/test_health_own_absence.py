"""Rule 8: broker or ingest was away, and no site is to pay for it."""

from __future__ import annotations

import pytest

from server.events import Opened
from server.model import Cause, Kind
from tests.server.made import Story


def alive(**given: float) -> Story:
    """A site in session "one", its last reading at 1000."""
    story = Story(**given)
    story.online(990, "one")
    story.reads(1000)
    return story


def test_our_absence_drops_a_confirmation_that_was_running() -> None:
    story = alive()
    story.offline(1010, "one")
    story.absent(1030)

    assert story.waits(1179) == ()


def test_our_absence_gives_patience_from_the_moment_we_are_caught_up() -> None:
    story = alive()
    story.absent(5000)

    assert story.waits(5149) == ()
    assert story.waits(5150)[0] == Opened(
        Kind.SITE_OFFLINE, 1000, 5150, ("no sign of life for 150 s",)
    )


def test_an_agent_that_comes_back_after_our_absence_has_time_for_its_first_reading() -> None:
    """Several restarts of the broker, in which it went; its session of before used up nothing."""
    story = alive()
    story.absent(1015)
    story.online(1017, "two")
    story.absent(1024)
    story.offline(1034, "two")  # the kill; this session has not shown itself since
    story.online(1132, "three")

    assert story.waits(1132 + 149) == ()
    assert [one.kind for one in story.waits(1132 + 150) if isinstance(one, Opened)] == [
        Kind.SITE_OFFLINE
    ]


def test_a_will_before_we_are_caught_up_starts_nothing() -> None:
    story = alive()
    story.offline(1010, "one", caught_up=False)

    assert story.waits(1149) == ()


def test_a_will_of_a_session_that_has_not_shown_itself_since_starts_nothing() -> None:
    story = alive()
    story.absent(2000)
    story.offline(2001, "one")

    assert story.waits(2149) == ()


def test_a_reading_vouches_for_its_session_again() -> None:
    story = alive()
    story.absent(2000)
    story.reads(2010)
    story.offline(2020, "one")
    story.waits(2050)

    assert story.status == "offline"


def test_a_new_session_vouches_for_itself() -> None:
    story = alive()
    story.absent(2000)
    story.online(2005, "two")
    story.offline(2010, "two")
    story.waits(2040)

    assert story.status == "offline"


def test_a_session_that_came_before_we_were_caught_up_is_known_but_not_vouched_for() -> None:
    story = alive()
    story.online(1990, "two", caught_up=False)
    story.absent(2000)
    story.offline(2001, "one")
    story.offline(2002, "two")

    assert story.waits(2149) == ()
    assert story.health.heard_at == 1990


def test_on_the_first_start_a_queued_session_is_not_vouched_for_either() -> None:
    story = Story()
    story.online(1000, "one", caught_up=False)
    story.offline(1001, "one")

    assert story.waits(1149) == ()


def test_our_absence_wakes_nobody_up() -> None:
    story = alive()
    story.waits(1150)
    story.absent(2000)

    assert story.waits(1e9) == ()
    assert story.status == "offline"


def test_a_short_patience_does_not_shorten_a_planned_absence() -> None:
    story = alive()
    story.offline(1010, "one", "upgrade")
    story.absent(1020)

    assert story.waits(1309) == ()
    story.waits(1310)
    assert story.status == "offline"


def caused(story: Story) -> list[Cause | None]:
    """What the outages are said to come from, once nothing more is heard."""
    opened = [one for one in story.waits(9000) if isinstance(one, Opened)]
    return [one.cause for one in opened]


STOPPED = Cause("agent", 0.95, ("the agent had ended in order: stopped",))


def test_an_agent_that_was_back_before_our_absence_is_not_said_to_have_ended_in_order() -> None:
    story = alive()
    story.offline(1010, "one", "stopped")
    story.online(1020, "two")
    story.absent(2000)

    assert caused(story) == [None]


@pytest.mark.parametrize(("stands", "cause"), [("two", None), ("one", STOPPED)])
def test_the_session_that_stands_at_the_broker_when_we_are_back_tells_whether_an_end_was_the_last(
    stands: str, cause: Cause | None
) -> None:
    story = alive()
    story.offline(1010, "one", "stopped")
    story.online(1990, stands, retained=True, caught_up=False)
    story.absent(2000)

    assert caused(story) == [cause]


def test_one_that_ends_in_order_again_after_our_absence_is_said_to_have() -> None:
    story = alive()
    story.offline(1010, "one", "stopped")
    story.online(1020, "two")
    story.absent(2000)
    story.offline(2100, "two", "stopped")

    assert story.waits(2100 + 149) == ()
    assert caused(story) == [STOPPED]


def test_a_second_end_in_order_is_one_as_well_without_a_reading_between_also_over_our_absence() -> (
    None
):
    for absence in (False, True):
        story = alive()
        story.offline(1010, "one", "stopped")
        story.online(1020, "two")
        story.offline(1030, "two", "stopped")
        if absence:
            story.absent(2000)

        assert caused(story) == [STOPPED]
