"""Rules 1 to 3: what counts as a sign of life, and what is too late to."""

from __future__ import annotations

import pytest

from server.events import Changed, Opened, Resolved
from server.model import Kind
from tests.server.made import Device, Story, identity


def test_a_site_that_was_never_heard_from_is_unknown_for_ever() -> None:
    story = Story()

    assert story.waits(1e12) == ()
    assert story.status == "unknown"


def test_the_first_reading_makes_a_site_online() -> None:
    story = Story()

    assert story.reads(1000) == (Changed(),)
    assert (story.status, story.health.since, story.health.heard_at) == ("online", 1000, 1000)


def test_a_live_presence_makes_an_unknown_site_online() -> None:
    story = Story()

    assert story.online(1000, "one") == (Changed(),)
    assert story.status == "online"


def test_the_first_reading_after_a_presence_is_shown_because_the_state_tells_its_time() -> None:
    story = Story()
    story.online(1000, "one")

    assert story.reads(1060) == (Changed(),)
    assert (story.health.since, story.health.last_reading_at) == (1000, 1060)


def test_a_presence_that_stood_retained_is_no_sign_of_life() -> None:
    story = Story()

    assert story.online(1000, "one", retained=True) == ()
    assert story.status == "unknown"


def test_a_retained_presence_does_not_put_off_silence() -> None:
    story = Story()
    story.reads(1000)
    story.online(1140, "two", retained=True)

    assert story.waits(1149) == ()
    story.waits(1150)
    assert story.status == "offline"


def test_a_clean_end_that_stood_retained_is_no_sign_of_life() -> None:
    story = Story()
    story.reads(1000)
    story.offline(1140, "", "upgrade", retained=True)
    story.waits(1150)

    assert story.status == "offline"


@pytest.mark.parametrize("age_s", [0, 149])
def test_a_reading_sent_within_its_patience_is_live(age_s: float) -> None:
    story = Story()
    story.reads(1000, taken_at=1000 - age_s)

    assert story.status == "online"


def test_a_reading_that_lay_longer_than_its_patience_is_late() -> None:
    story = Story()

    assert story.reads(1000, taken_at=849) == ()
    assert story.status == "unknown"


def test_a_reading_of_an_earlier_boot_is_late() -> None:
    story = Story()
    before = story.device.reading(990)
    story.device.restart("boot-2", 995)

    assert story.hears(before, 1000) == ()
    assert story.status == "unknown"


def test_a_reading_older_than_the_newest_of_its_stream_is_late() -> None:
    story = Story()
    before = story.device.reading(1000)
    story.reads(1060)
    known = story.health

    story.hears(before, 1061)
    assert story.health is known


def test_a_message_that_was_overtaken_by_the_next_boot_is_late() -> None:
    """Its sender had not rebooted yet, so only its seq tells that it is old."""
    story = Story()
    overtaken = Device()
    before = overtaken.reading(1000)
    story.device.reading(1000)
    story.device.restart("boot-2", 1010)
    story.reads(1060)
    known = story.health

    story.hears(before, 1061, overtaken)
    assert story.health is known


def test_in_another_stream_of_the_same_boot_the_uptime_tells_what_is_newer() -> None:
    story = Story()
    fresh = Device(stream=identity("another"))
    before = fresh.reading(990)
    story.reads(1000)
    known = story.health

    story.hears(before, 1001, fresh)
    assert story.health is known
    story.reads(1060, device=fresh)
    assert story.health.heard_at == 1060


def test_the_same_reading_twice_is_one_sign_of_life() -> None:
    story = Story()
    story.reads(1000)
    known = story.health

    story.hears(story.device.reading(1000, seq=1), 1100)
    assert story.health is known


def test_a_late_reading_changes_nothing_while_a_site_is_offline() -> None:
    story = Story()
    before = story.device.reading(900)
    story.reads(1000)
    story.waits(1150)
    known = story.health

    assert story.hears(before, 2000) == ()
    assert story.health is known


def test_late_readings_raise_no_trouble() -> None:
    story = Story()
    bad = [story.device.reading(at, ladder={"world": "fail"}) for at in (820, 880, 940)]
    story.reads(1000)

    for reading in bad:
        story.hears(reading, 1001)
    assert (story.status, story.health.troubles) == ("online", ())


def test_a_live_reading_ends_an_outage_at_once() -> None:
    story = Story()
    story.reads(1000)
    story.waits(1150)
    resolved, changed = story.reads(1500)

    assert isinstance(resolved, Resolved)
    assert (resolved.kind, resolved.resolved_at) == (Kind.SITE_OFFLINE, 1500)
    assert changed == Changed()
    assert (story.status, story.health.since) == ("online", 1500)


def test_a_presence_alone_does_not_end_an_outage() -> None:
    story = Story()
    story.reads(1000)
    story.waits(1150)

    assert story.online(1500, "two") == ()
    assert story.status == "offline"


def test_an_agent_that_keeps_connecting_but_delivers_nothing_falls_silent() -> None:
    story = Story()
    story.reads(1000)
    for number, at in enumerate(range(1010, 1500, 10)):
        story.online(at, f"session {number}")
        story.waits(at + 10)

    assert [event for event in story.told if isinstance(event, Opened)] == [
        Opened(Kind.SITE_OFFLINE, 1010, 1160, ("no sign of life for 150 s",))
    ]


def test_an_agent_that_keeps_restarting_cleanly_but_delivers_nothing_falls_silent() -> None:
    story = Story()
    story.reads(1000)
    for number, at in enumerate(range(1010, 1500, 10)):
        story.online(at, f"session {number}")
        story.offline(at + 5, f"session {number}", "stopped")
        story.waits(at + 10)

    assert story.status == "offline"
    assert story.health.heard_at == 1020


def test_a_device_that_keeps_rebooting_cleanly_but_delivers_nothing_falls_silent() -> None:
    story = Story()
    story.reads(1000)
    for number, at in enumerate(range(1010, 2000, 100)):
        story.online(at, f"session {number}")
        story.offline(at + 5, f"session {number}", "reboot")
        story.waits(at + 100)

    [opened] = [event for event in story.told if isinstance(event, Opened)]
    assert opened.detected_at == 1015 + 300


def test_each_reading_lets_a_clean_end_count_again() -> None:
    story = Story()
    story.reads(1000)
    story.offline(1010, "one", "stopped")
    story.online(1020, "two")
    story.reads(1060)
    story.offline(1110, "two", "stopped")

    assert story.waits(1259) == ()
    assert story.waits(1260) != ()


def test_each_reading_lets_a_presence_count_again() -> None:
    story = Story()
    story.reads(1000)
    story.online(1050, "two")
    story.reads(1060)
    story.online(1200, "three")
    story.waits(1349)

    assert story.status == "online"
    story.waits(1350)
    assert story.status == "offline"


def test_a_device_that_is_back_by_a_new_boot_is_given_time_for_its_first_reading() -> None:
    story = Story()
    story.online(990, "one")
    story.reads(1000)
    story.absent(1010)
    story.online(1012, "two")  # it came back for our sake
    story.online(1100, "three", boot="another boot")

    assert story.waits(1249) == ()
    assert story.waits(1250)[0].kind is Kind.SITE_OFFLINE  # type: ignore[union-attr]  # Opened


def test_a_device_that_boots_again_and_again_and_delivers_nothing_falls_silent() -> None:
    story = Story()
    story.online(990, "one")
    story.reads(1000)
    for number, at in enumerate(range(1020, 1400, 20)):
        story.waits(at)
        story.online(at, f"session {number}", boot=f"boot {number}")

    assert story.status == "offline"


def test_wills_of_sessions_without_a_reading_keep_no_site_alive() -> None:
    story = Story(window_s=60.0)
    story.reads(1000)
    at = 1000.0
    for number in range(10):
        story.online(at + 1, f"session {number}")
        story.offline(at + 40, f"session {number}", "lost", keepalive_s=15)
        at += 60
        story.waits(at)
    assert story.status == "offline"
    (opened,) = (one for one in story.told if isinstance(one, Opened))
    assert opened.detected_at <= 1001 + 2.5 * 60 + 1
