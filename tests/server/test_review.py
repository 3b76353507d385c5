"""What truly happened to a site, and what its backlog, its neighbours and the witness tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent import wire
from server import causes, review
from server.model import Cause
from server.others import Beside
from server.review import Facts, Told
from tests.server.made import Device, identity

WINDOW_S = 60.0
OPENED_AT = 10_000.0
"""The last sign of life; the window that ended then was the last good one."""
ONLY_SITE = Beside("isp telkom", 1, 30)


def told(device: Device, at: float, **fields: Any) -> Told:
    """A window that ended at `at`."""
    return Told(device.stream, at, device.reading(at, **fields))


def failing(rung: str, **more: Any) -> dict[str, Any]:
    """A window in which this rung and all beyond it failed."""
    rungs = ["carrier", "gateway", "isp", "domestic", "world"]
    place = rungs.index(rung)
    ladder = {name: "ok" if n < place else "fail" for n, name in enumerate(rungs)}
    return {"ladder": {**ladder, "first_failure": rung}, **more}


class Outage:
    """An outage in the making: windows are told one after the other, the gap grows with them."""

    def __init__(self, **before: Any) -> None:
        self.device = Device(booted_at=1000.0)
        self.before = told(self.device, OPENED_AT, **before)
        self.after: list[Told] = []
        self.now = OPENED_AT

    def windows(self, count: int, **fields: Any) -> Outage:
        """The agent measures."""
        for _ in range(count):
            self.now += WINDOW_S
            self.after.append(told(self.device, self.now, **fields))
        return self

    def nothing(self, seconds: float) -> Outage:
        """The agent does not run."""
        self.now += seconds
        return self

    def boots(self) -> Outage:
        """The device starts."""
        self.device.restart(f"boot at {self.now}", self.now)
        return self

    def judged(self, **more: Any) -> Cause:
        """The cause, the last window being the live one that ended it."""
        facts = Facts(OPENED_AT, self.now, self.before, tuple(self.after))
        return review.judge(facts._replace(**more))


def test_a_cable_that_was_cut_is_the_link_with_its_edges_to_the_second() -> None:
    edge = {"rung": "isp", "from": wire.iso(OPENED_AT + 12), "to": None}
    closed = {**edge, "to": wire.iso(OPENED_AT + 3612)}
    outage = Outage().windows(60, **failing("isp", dead=[edge])).windows(1, dead=[closed])
    outage.after[-2] = told(
        Device(booted_at=1000, seq=60), outage.now - 60, **failing("isp", dead=[closed])
    )
    cause = outage.judged(beside=[ONLY_SITE])

    assert (cause.verdict, cause.confidence) == ("link", 0.95)
    assert cause.evidence == (
        "the agent measured on through the gap (seq 2 to 62)",
        "the gateway at the site answered, the ISP's first hop did not",
        f"isp silent from {closed['from']} to {closed['to']}",
        "no other of isp telkom",
    )


@pytest.mark.parametrize(
    ("rung", "text"),
    [
        ("carrier", "carrier lost: the cable or the port at the site"),
        ("gateway", "the gateway at the site did not answer"),
        ("domestic", "the ISP's first hop answered, nothing beyond it"),
    ],
)
def test_the_lowest_rung_that_failed_tells_where_the_line_broke(rung: str, text: str) -> None:
    cause = Outage().windows(10, **failing(rung)).windows(1).judged()

    assert cause.verdict == "link"
    assert text in cause.evidence


def test_a_line_that_went_with_its_isps_others_is_the_isps() -> None:
    beside = [Beside("isp biznet", 5, 5), Beside("district maesa", 1, 40)]
    cause = Outage().windows(10, **failing("isp")).windows(1).judged(beside=beside)

    assert (cause.verdict, cause.confidence) == ("isp", 0.95)
    assert cause.evidence[-1] == "5 of 5 sites of isp biznet went in the same minutes"


def test_a_line_that_went_with_its_backhauls_others_is_the_isps_backhaul() -> None:
    beside = [Beside("isp telkom", 6, 40), Beside("backhaul ring-2", 6, 7)]
    cause = Outage().windows(10, **failing("isp")).windows(1).judged(beside=beside)

    assert cause.verdict == "isp"
    assert cause.evidence[-1] == "6 of 7 sites of backhaul ring-2 went in the same minutes"


@pytest.mark.parametrize("rung", ["carrier", "gateway"])
def test_a_fault_inside_the_site_is_not_the_isps_though_others_went(rung: str) -> None:
    beside = [Beside("isp biznet", 5, 5)]

    assert Outage().windows(9, **failing(rung)).judged(beside=beside).verdict == "link"


def test_a_site_without_power_has_a_new_boot_that_began_in_the_gap() -> None:
    cause = Outage().nothing(3000).boots().windows(2).judged()

    assert (cause.verdict, cause.confidence) == ("power", 0.85)
    assert cause.evidence == ("new boot, begun 3000 s after the last sign of life",)


@pytest.mark.parametrize(
    ("before", "after", "confidence", "text"),
    [
        ({}, {"last_shutdown_clean": False}, 0.9, "the agent had not ended in order"),
        ({"undervoltage": True}, {}, 0.9, "undervoltage before"),
        ({"undervoltage_seen": True}, {}, 0.9, "undervoltage before"),
        (
            {},
            {"last_shutdown_clean": True},
            0.5,
            "but the agent had ended in order: somebody shut it down, or a battery did",
        ),
        (
            {"storage_errors": 2},
            {"storage_errors": 3},
            0.6,
            "the device's disk had failed: it may have ended by itself",
        ),
        (
            {"storage_read_only": True},
            {},
            0.6,
            "the device's disk had failed: it may have ended by itself",
        ),
    ],
)
def test_what_the_device_says_of_itself_makes_power_surer_or_less_sure(
    before: dict[str, Any], after: dict[str, Any], confidence: float, text: str
) -> None:
    outage = Outage(host=before).nothing(3000).boots().windows(1, host=after)
    cause = outage.judged()

    assert (cause.verdict, cause.confidence) == ("power", confidence)
    assert cause.evidence[-1] == text


def test_a_disk_that_had_its_errors_long_ago_says_nothing() -> None:
    host = {"storage_errors": 2}

    assert Outage(host=host).nothing(99).boots().windows(1, host=host).judged().confidence == 0.85


def test_power_that_went_with_its_area_is_surer() -> None:
    beside = [Beside("isp telkom", 4, 30), Beside("power_area bitung-2", 5, 6)]
    cause = Outage().nothing(3000).boots().windows(1).judged(beside=beside)

    assert (cause.verdict, cause.confidence) == ("power", 0.95)


def test_power_of_one_site_alone_says_so() -> None:
    beside = [Beside("power_area bitung-2", 1, 6)]
    cause = Outage().nothing(3000).boots().windows(1).judged(beside=beside)

    assert cause.evidence[-1] == "no other of power_area bitung-2"


def test_a_device_that_was_restarted_while_its_line_was_cut_lost_its_line() -> None:
    outage = Outage().windows(50, **failing("isp")).nothing(30).boots().windows(2)
    cause = outage.judged()

    assert cause.verdict == "link"
    assert "only 50 windows later did the device start anew" in cause.evidence


def test_an_agent_that_was_killed_and_started_anew_was_itself_away() -> None:
    outage = Outage(host={"agent_restarts": 0}).nothing(600)
    cause = outage.windows(2, host={"agent_restarts": 1}).judged()

    assert (cause.verdict, cause.confidence) == ("agent", 0.9)
    assert cause.evidence == (
        "same boot, but 600 s were not measured",
        "the agent was started anew",
    )


def test_an_agent_that_lost_its_spool_begins_a_new_stream() -> None:
    outage = Outage().nothing(600)
    outage.device.stream = identity("another")

    assert outage.windows(1).judged().evidence[-1] == "the agent began a new stream"


def test_an_agent_that_hung_was_not_started_anew() -> None:
    host = {"agent_restarts": 3}
    cause = Outage(host=host).nothing(600).windows(1, host=host).judged()

    assert cause.verdict == "agent"
    assert cause.evidence[-1] == "the agent was not started anew: it hung, or was held"


def test_the_same_boot_is_the_link_where_nothing_tells_that_the_agent_stood_still() -> None:
    cause = Outage().nothing(600).windows(1).judged()

    assert (cause.verdict, cause.confidence) == ("link", 0.6)
    assert cause.evidence == ("same boot, but 600 s were not measured", causes.STARTS_UNTOLD)
    beside = [Beside("isp telkom", 5, 5)]
    assert Outage().nothing(600).windows(1).judged(beside=beside).verdict == "isp"


@pytest.mark.parametrize(("lost_s", "verdict"), [(60, "link"), (540, "link"), (700, "agent")])
def test_windows_that_a_busy_device_lost_at_first_do_not_hide_that_the_line_was_dead(
    lost_s: float, verdict: str
) -> None:
    host = {"agent_restarts": 3}
    outage = Outage(host=host).nothing(lost_s).windows(10, **failing("isp", host=host))

    cause = outage.windows(1, host=host).judged()
    assert cause.verdict == verdict
    lacking = f"but no dead line in {lost_s + WINDOW_S:.0f} s: windows are lacking"
    assert (lacking in cause.evidence) == (verdict == "link")


def test_an_outage_that_ends_before_it_begins_has_a_cause_all_the_same() -> None:
    """The centre's clock was set back meanwhile."""
    outage = Outage(host={"agent_restarts": 3}).nothing(600).windows(1, host={"agent_restarts": 3})

    assert outage.judged(resolved_at=OPENED_AT - 1).verdict == "agent"


def test_the_agent_hung_and_the_line_was_up_is_a_finding() -> None:
    cause = Outage().nothing(600).windows(1).judged(answered_s=580.0, unanswered_s=10.0)

    assert (cause.verdict, cause.confidence) == ("agent", 0.95)
    assert cause.evidence[-1] == (
        "the line was up: the centre's echoes were answered for 580 s of the gap"
    )


def test_an_agent_that_was_away_behind_a_dead_line_is_less_sure() -> None:
    host = {"agent_restarts": 3}
    outage = Outage(host=host).nothing(600).windows(1, host=host)
    cause = outage.judged(answered_s=10.0, unanswered_s=580.0)

    assert (cause.verdict, cause.confidence) == ("agent", 0.6)


def test_a_witness_that_contradicts_the_link_makes_it_less_sure() -> None:
    outage = Outage().windows(10, **failing("isp")).windows(1)

    assert outage.judged(unanswered_s=600.0).confidence == 0.95
    assert outage.judged(answered_s=600.0).confidence == 0.6
    assert outage.judged(answered_s=300.0, unanswered_s=300.0).confidence == 0.95


def test_while_a_site_is_away_the_witness_alone_tells_of_its_line() -> None:
    away = Facts(OPENED_AT, None, Outage().before, answered_s=120.0)
    cause = review.judge(away)

    assert (cause.verdict, cause.confidence) == ("agent", 0.7)
    assert review.judge(away._replace(answered_s=0.0, unanswered_s=120.0)).verdict == "unknown"
    assert review.judge(away._replace(answered_s=19.0)) == Cause()


def test_while_a_site_is_away_its_neighbours_give_a_guess() -> None:
    away = Facts(OPENED_AT, None, Outage().before, beside=[Beside("power_area p", 5, 5)])

    assert review.judge(away).verdict == "power"
    isp = review.judge(away._replace(beside=[Beside("isp telkom", 5, 5)]))
    assert (isp.verdict, isp.confidence) == ("isp", 0.6)
    assert review.judge(away._replace(beside=[Beside("district d", 5, 5)])).verdict == "unknown"
    assert review.judge(away._replace(beside=[Beside("isp telkom", 2, 2)])).verdict == "unknown"


@pytest.mark.parametrize("reason", ["stopped", "upgrade", "reboot"])
def test_an_agent_that_ended_in_order_was_ended_on_purpose(reason: str) -> None:
    told = ("agent", (f"the agent had ended in order: {reason}",))
    cause = Outage().nothing(900).windows(1).judged(parted=reason)
    away = Facts(OPENED_AT, None, Outage().before, parted=reason)

    assert (cause.verdict, cause.evidence) == told
    assert (review.judge(away).verdict, review.judge(away).evidence) == told


def test_an_orderly_end_does_not_hide_that_the_device_lost_its_power() -> None:
    cause = Outage().nothing(900).boots().windows(1).judged(parted="stopped")

    assert cause.verdict == "power"


def test_a_wrong_clock_changes_nothing() -> None:
    outage = Outage()
    outage.device.synced = False
    cause = outage.windows(10, **failing("isp")).windows(1).judged()
    shifted = [replace_time(one, one.taken_at - 86_400) for one in outage.after]
    again = review.judge(Facts(OPENED_AT, outage.now, outage.before, shifted))

    assert cause.verdict == again.verdict == "link"
    assert "its clock was not synchronised: told by uptime" in again.evidence


def replace_time(one: Told, at: float) -> Told:
    return one._replace(taken_at=at)


def test_a_site_that_measured_well_all_through_was_not_down_and_the_cause_says_so() -> None:
    beside = [Beside("isp telkom", 30, 30)]
    cause = Outage().windows(30).judged(beside=beside)

    assert (cause.verdict, cause.confidence) == ("link", 0.9)
    assert cause.evidence[:2] == (
        "not down: only the way to the centre was lost",
        "domestic or world answered in 30 of 30 windows of the gap",
    )


def test_a_site_of_which_nothing_is_known_yet_has_no_cause() -> None:
    assert review.judge(Facts(OPENED_AT, None, Outage().before)) == Cause()
    assert review.judge(Facts(OPENED_AT, None, None)).evidence == ("no reading before the outage",)


def test_a_boot_that_began_before_the_outage_proves_nothing() -> None:
    outage = Outage().nothing(300)
    outage.device.restart("odd", OPENED_AT - 4000)

    assert outage.windows(1).judged().verdict == "unknown"


def test_a_review_is_a_revision_only_where_it_says_something_new() -> None:
    outage = Outage().windows(50, **failing("isp")).nothing(30).boots().windows(2)
    facts = Facts(OPENED_AT, outage.now, outage.before, tuple(outage.after))
    first = Cause("power", 0.85, ("new boot, uptime 61 s is below the gap of 3150 s",))
    reviewed = review.revise(first, facts, "the backlog arrived")

    assert reviewed is not None
    assert reviewed.why == "the backlog arrived: power became link"
    assert review.revise(reviewed.cause, facts, "the backlog arrived") is None
    unsure = replace(reviewed.cause, confidence=0.5)
    surer = review.revise(unsure, facts, "the backlog arrived")
    assert surer is not None
    assert surer.why == "the backlog arrived: link stays"
    assert review.revise(first, Facts(OPENED_AT, None, outage.before), "x") is None


def test_what_isp_and_area_groups_are_is_guessed_at_first() -> None:
    assert causes.of_group("isp biznet", 5, []).verdict == "isp"
    assert causes.of_group("backhaul ring", 5, []).verdict == "isp"
    assert causes.of_group("power_area p", 5, []).verdict == "power"
    assert causes.of_group("district d", 5, []).verdict == "unknown"
    assert causes.of_group("everything", 50, []).verdict == "unknown"


LINK, POWER, AGENT = Cause("link", 0.9), Cause("power", 0.9), Cause("agent", 0.8)


@pytest.mark.parametrize(
    ("dimension", "returned", "verdict", "confidence"),
    [
        ("isp biznet", [LINK] * 4 + [POWER], "isp", 0.95),
        ("backhaul ring", [LINK] * 3, "isp", 0.95),
        ("isp biznet", [POWER] * 5, "power", 0.8),
        ("power_area p", [POWER] * 3 + [LINK], "power", 0.95),
        ("district d", [POWER] * 3, "power", 0.8),
        ("district d", [LINK] * 3, "link", 0.8),
        ("everything", [LINK] * 30, "link", 0.8),
        ("isp biznet", [AGENT] * 3, "agent", 0.8),
        ("isp biznet", [LINK, POWER], "unknown", 0.0),
        ("isp biznet", [Cause(), Cause(), LINK], "unknown", 0.0),
    ],
)
def test_what_a_groups_members_show_when_they_return_tells_its_cause(
    dimension: str, returned: list[Cause], verdict: str, confidence: float
) -> None:
    cause = causes.of_group(dimension, 5, returned)

    assert (cause.verdict, cause.confidence) == (verdict, confidence)


def test_a_group_whose_members_all_measured_on_was_our_own_blindness() -> None:
    up = Cause("link", 0.9, ("not down: only the way to the centre was lost",))
    cause = causes.of_group("everything", 12, [up] * 11 + [LINK])

    assert cause.verdict == "unknown"
    assert cause.evidence[-1] == "not down at 11 of 12: only the way to the centre was lost"


@pytest.mark.parametrize(
    ("unreachable", "known", "gateway_ok", "confidence"),
    [(1, 3, True, 0.9), (3, 3, True, 0.7), (3, 3, False, 0.5), (1, 1, True, 0.7)],
)
def test_an_access_point_that_is_away_is_told_by_those_that_are_not(
    unreachable: int, known: int, gateway_ok: bool, confidence: float
) -> None:
    cause = causes.of_access_points(unreachable, known, gateway_ok=gateway_ok)

    assert (cause.verdict, cause.confidence) == ("access_point", confidence)


def test_a_line_that_was_back_long_before_its_agent_found_the_broker_again_was_down() -> None:
    outage = Outage().windows(1).windows(5, **failing("isp")).windows(8)
    cause = outage.judged(beside=[Beside("isp biznet", 5, 5)])

    assert cause.verdict == "isp"
    assert not any("not down" in text for text in cause.evidence)


def _asked(sent: int) -> dict[str, Any]:
    """A window with so many echoes to each rung, all of them answered."""
    one = {"sent": sent, "received": sent, "loss_ratio": 0.0}
    return {"ping": dict.fromkeys(("gateway", "domestic"), one)}


def test_an_agent_that_hung_ends_its_windows_late_and_without_echoes() -> None:
    cause = Outage(**_asked(60)).windows(1, **_asked(5)).windows(1, **_asked(4)).judged()

    assert (cause.verdict, cause.confidence) == ("agent", 0.9)
    assert cause.evidence == ("same boot, but no echo was sent for 81 s or more: it hung",)


def test_windows_with_somewhat_fewer_echoes_are_measured_all_the_same() -> None:
    assert Outage(**_asked(60)).windows(3, **_asked(50)).judged().verdict == "link"


def test_a_metered_link_that_slows_its_echoes_has_not_hung() -> None:
    slowed = {"metered": {"used_bytes": 2, "budget_bytes": 1, "slowed": ["echoes"]}}
    assert Outage(**_asked(60)).windows(3, **_asked(6), **slowed).judged().verdict == "link"


def test_a_line_that_was_dead_for_less_than_a_window_was_down_all_the_same() -> None:
    """Each window heard an echo at its beginning or end; the silence lies across them."""
    edges = [
        {"rung": rung, "from": wire.iso(OPENED_AT + 20), "to": wire.iso(OPENED_AT + 110)}
        for rung in ("isp", "domestic", "world")
    ]
    cause = Outage().windows(2, dead=edges).judged()

    assert cause.verdict == "link"
    assert not any(text.startswith(causes.NOT_DOWN) for text in cause.evidence)
    assert "the gateway at the site answered, the ISP's first hop did not" in cause.evidence


def test_of_a_line_that_came_and_went_all_day_the_evidence_stays_short() -> None:
    outage = Outage()
    for _ in range(480):
        edges = [
            {"rung": rung, "from": wire.iso(outage.now + at), "to": wire.iso(outage.now + at + 6)}
            for rung in ("isp", "domestic", "world")
            for at in range(1, 50, 10)
        ]
        outage.windows(1, **failing("isp", dead=edges))
    evidence = outage.judged().evidence

    assert len(evidence) == 11
    assert "and 7192 more silences" in evidence
    assert evidence[-1].startswith("world silent")


def test_neighbours_alone_say_nothing_of_a_site_that_left_before_it_was_back() -> None:
    facts = Outage()
    went = Beside("isp telkom", 5, 6)
    assert review.judge(Facts(OPENED_AT, None, facts.before, beside=[went])).verdict == "isp"
    assert review.judge(Facts(OPENED_AT, 20_000.0, facts.before, beside=[went])) == Cause()
