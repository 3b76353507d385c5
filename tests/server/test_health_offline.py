"""Rules 4 to 7: wills, silence, clean ends, and what an outage says of itself."""

from __future__ import annotations

import pytest

from server.events import Changed, Opened, Resolved
from server.model import Cause, Kind
from tests.server.made import Story


def alive(**given: float) -> Story:
    """A site in session "one", its last reading at 1000."""
    story = Story(**given)
    story.online(990, "one")
    story.reads(1000)
    return story


def test_a_will_makes_a_site_offline_once_it_is_confirmed() -> None:
    story = alive()
    assert story.offline(1020, "one") == ()

    assert story.waits(1049) == ()
    assert story.waits(1050) == (
        Opened(Kind.SITE_OFFLINE, 1000, 1050, ("connection lost",)),
        Changed(),
    )
    assert (story.status, story.health.since) == ("offline", 1000)


def test_an_outage_opens_when_the_broker_last_heard_of_the_site_by_its_keepalive() -> None:
    story = alive()
    story.offline(1058.5, "one", keepalive_s=15)

    assert story.waits(1088.5)[0] == Opened(Kind.SITE_OFFLINE, 1030, 1088.5, ("connection lost",))
    assert (story.status, story.health.since) == ("offline", 1030)


def test_a_will_that_tells_of_a_time_before_the_last_reading_moves_nothing_back() -> None:
    story = alive()
    story.offline(1010, "one", keepalive_s=15)

    assert story.waits(1040)[0] == Opened(Kind.SITE_OFFLINE, 1000, 1040, ("connection lost",))


def test_a_newer_session_cancels_a_confirmation() -> None:
    story = alive()
    story.offline(1020, "one")
    story.online(1025, "two")

    assert story.waits(1174) == ()
    assert story.status == "online"


def test_a_live_reading_cancels_a_confirmation() -> None:
    story = alive()
    story.offline(1020, "one")
    story.reads(1049)

    assert story.waits(1198) == ()
    assert story.status == "online"


def test_a_late_reading_does_not_cancel_a_confirmation() -> None:
    story = Story()
    late = story.device.reading(950)
    story.online(990, "one")
    story.reads(1000)
    story.offline(1020, "one")
    story.hears(late, 1030)
    story.waits(1050)

    assert story.status == "offline"


def test_the_will_of_an_older_session_is_ignored() -> None:
    story = alive()
    story.online(1010, "two")
    story.offline(1020, "one")

    assert story.waits(1159) == ()


def test_a_retained_presence_names_the_newest_session_too() -> None:
    story = alive()
    story.online(1010, "two", retained=True)
    story.offline(1020, "one")
    assert story.waits(1100) == ()

    story.offline(1105, "two")
    story.waits(1135)
    assert story.status == "offline"


def test_a_retained_will_starts_nothing() -> None:
    story = alive()
    story.offline(1020, "one", retained=True)

    assert story.waits(1149) == ()


def test_a_will_of_a_site_that_never_read_out_anything_starts_nothing() -> None:
    story = Story()
    story.offline(1000, "one")

    assert story.waits(1e9) == ()
    assert story.status == "unknown"


def test_a_second_will_does_not_open_a_second_outage() -> None:
    story = alive()
    story.offline(1020, "one")
    story.waits(1050)
    story.offline(1060, "one")

    assert story.waits(1e9) == ()


@pytest.mark.parametrize(("window_s", "silent_at"), [(1.0, 1002.5), (60.0, 1150), (3600, 10000)])
def test_silence_is_measured_by_the_window_of_the_last_reading(
    window_s: float, silent_at: float
) -> None:
    story = Story()
    story.reads(940)
    story.device.window_s = window_s
    story.reads(1000)

    assert story.waits(silent_at - 0.1) == ()
    [opened, _] = story.waits(silent_at)
    assert opened == Opened(
        Kind.SITE_OFFLINE, 1000, silent_at, (f"no sign of life for {2.5 * window_s:.0f} s",)
    )


def test_before_the_first_reading_silence_is_measured_by_the_default_window() -> None:
    story = Story(default_window_s=10)
    story.online(1000, "one")

    assert story.waits(1024.9) == ()
    story.waits(1025)
    assert story.status == "offline"


def test_silence_comes_before_a_confirmation_that_takes_longer() -> None:
    story = alive(window_s=10.0)
    story.offline(1001, "one")
    [opened, _] = story.waits(2000)

    assert opened == Opened(Kind.SITE_OFFLINE, 1000, 1025, ("no sign of life for 25 s",))


@pytest.mark.parametrize("reason", ["upgrade", "reboot"])
def test_a_planned_absence_has_its_300_s(reason: str) -> None:
    story = alive()
    story.offline(1010, "one", reason)

    assert story.waits(1309) == ()
    [opened, _] = story.waits(1310)
    because = Cause("agent", 0.95, ("the agent had ended in order: upgrade or reboot",))
    silent = ("no sign of life for 150 s",)
    assert opened == Opened(Kind.SITE_OFFLINE, 1010, 1310, silent, because)


def test_a_long_window_outlasts_a_planned_absence() -> None:
    story = alive(window_s=3600.0)
    story.offline(1010, "one", "upgrade")

    assert story.waits(10009) == ()


def test_a_planned_absence_ends_with_the_first_reading() -> None:
    story = alive()
    story.offline(1010, "one", "upgrade")
    story.online(1040, "two")
    story.reads(1060)
    story.waits(1210)

    assert story.status == "offline"


def test_coming_back_from_a_planned_absence_is_never_itself_the_outage() -> None:
    """A blip just before had already used up the presence that counts."""
    story = alive()
    story.online(1010, "two")
    story.offline(1020, "two", "upgrade")
    story.online(1200, "three")

    assert story.waits(1319) == ()
    story.reads(1320)
    assert story.status == "online"


def test_a_cut_right_after_a_planned_absence_is_confirmed_as_any_other() -> None:
    story = alive()
    story.offline(1010, "one", "reboot")
    story.online(1040, "two")
    story.offline(1050, "two")
    story.waits(1080)

    assert story.status == "offline"


def test_a_stopped_agent_is_offline_after_its_silence() -> None:
    story = alive()
    story.offline(1010, "one", "stopped")

    assert story.waits(1159) == ()
    [opened, _] = story.waits(1160)
    because = Cause("agent", 0.95, ("the agent had ended in order: stopped",))
    silent = ("no sign of life for 150 s",)
    assert opened == Opened(Kind.SITE_OFFLINE, 1010, 1160, silent, because)


@pytest.mark.parametrize("reason", ["stopped", "upgrade"])
def test_the_will_of_a_session_that_ended_cleanly_starts_nothing(reason: str) -> None:
    story = alive()
    story.offline(1010, "one", reason)
    story.offline(1011, "one")

    assert story.waits(1159) == ()


def test_the_clean_end_of_an_older_session_is_ignored() -> None:
    story = alive()
    story.online(1005, "two")
    story.offline(1010, "one", "upgrade")
    story.waits(1155)

    assert story.status == "offline"


def test_a_clean_end_during_an_outage_changes_no_verdict() -> None:
    story = alive()
    story.waits(1150)
    story.online(1160, "two")
    story.offline(1170, "two", "upgrade")

    assert story.waits(1e9) == ()
    assert story.status == "offline"


def test_an_outage_opens_at_the_last_sign_of_life_whatever_that_was() -> None:
    story = alive()
    story.online(1040, "two")
    story.offline(1100, "two")
    [opened, _] = story.waits(1130)

    assert opened == Opened(Kind.SITE_OFFLINE, 1040, 1130, ("connection lost",))


def test_an_outage_names_its_cause_with_the_reading_that_ends_it() -> None:
    story = alive()
    story.waits(1150)
    story.device.restart("boot-2", 1400)
    [resolved, _] = story.reads(1500)

    assert isinstance(resolved, Resolved)
    assert resolved.cause is not None
    assert resolved.cause.verdict == "power"


def test_the_gap_lasts_until_the_reading_whatever_was_said_in_between() -> None:
    """The boot is 110 s old: younger than the outage, older than the last presence."""
    story = alive()
    story.waits(1150)
    story.online(1400, "two")
    story.offline(1420, "two", "stopped")
    story.online(1430, "three")
    story.device.restart("boot-2", 1390)
    [resolved, _] = story.reads(1500)

    assert isinstance(resolved, Resolved)
    assert resolved.cause is not None
    assert resolved.cause.verdict == "power"


def test_an_outage_before_any_reading_has_no_known_cause() -> None:
    story = Story()
    story.online(1000, "one")
    story.waits(1150)
    [resolved, _] = story.reads(1500)

    assert isinstance(resolved, Resolved)
    assert resolved.cause is not None
    assert (resolved.cause.verdict, resolved.cause.evidence) == (
        "unknown",
        ("no reading before the outage",),
    )


def test_a_blip_makes_no_event_at_all() -> None:
    story = alive()
    story.offline(1020, "one")
    story.online(1025, "two")
    before = len(story.told)
    story.reads(1060)

    assert len(story.told) == before
