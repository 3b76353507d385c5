"""Rules 9 and 10: what makes a living site degraded, when it is over, and what ends it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

from server.events import Amended, Changed, Event, Opened, Resolved
from server.model import Cause, Kind
from tests.server.made import Story

OK = {"gateway": "ok", "domestic": "ok", "world": "ok"}


def echoes(**told: float) -> dict[str, Any]:
    return {"sent": 60, **told}


class Trouble(NamedTuple):
    """One condition: a window that raises it, one between, one that clears it."""

    kind: Kind
    reason: str
    bad: dict[str, Any]
    good: dict[str, Any]
    between: dict[str, Any] | None = None


def rung(name: str) -> Trouble:
    return Trouble(
        Kind.SITE_DEGRADED,
        f"{name} failing",
        {"ladder": {**OK, name: "fail"}},
        {"ladder": {**OK, name: "ok"}},
    )


def loss(name: str) -> Trouble:
    return Trouble(
        Kind.SITE_DEGRADED,
        f"loss_ratio to {name} 0.12 above 0.05",
        {"ping": {name: echoes(loss_ratio=0.12)}},
        {"ping": {name: echoes(loss_ratio=0.02)}},
        {"ping": {name: echoes(loss_ratio=0.05)}},
    )


TROUBLES = {
    **{f"{name} failing": rung(name) for name in ("carrier", "gateway", "isp", "dns", "web")},
    **{f"{name} failing": rung(name) for name in ("domestic", "world")},
    **{f"loss to {name}": loss(name) for name in ("domestic", "world")},
    "rtt to domestic": Trouble(
        Kind.SITE_DEGRADED,
        "rtt_p50_ms to domestic 151 above 150",
        {"ping": {"domestic": echoes(rtt_p50_ms=151.0)}},
        {"ping": {"domestic": echoes(rtt_p50_ms=100.0)}},
        {"ping": {"domestic": echoes(rtt_p50_ms=150.0)}},
    ),
    "access point": Trouble(
        Kind.ACCESS_POINT_OFFLINE,
        "access point ap-1 unreachable",
        {"access_points": {"ap-1": {"reachable": False}}},
        {"access_points": {"ap-1": {"reachable": True}}},
    ),
    "temperature": Trouble(
        Kind.AGENT_PROBLEM,
        "temperature_c 81 above 80",
        {"host": {"temperature_c": 80.6}},
        {"host": {"temperature_c": 75.0}},
        {"host": {"temperature_c": 80.0}},
    ),
    "undervoltage": Trouble(
        Kind.AGENT_PROBLEM,
        "undervoltage",
        {"host": {"undervoltage": True}},
        {"host": {"undervoltage": False}},
    ),
}
BANDED = {name: trouble for name, trouble in TROUBLES.items() if trouble.between is not None}


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest) -> Trouble:
    return TROUBLES[request.param]


@pytest.fixture(params=BANDED)
def banded(request: pytest.FixtureRequest) -> Trouble:
    return BANDED[request.param]


class Windows(Story):
    """A story told in windows."""

    def __init__(self, **rules: float) -> None:
        super().__init__(**rules)
        self.at = 1000.0

    def sees(self, count: int, window: dict[str, Any] | None) -> list[Event]:
        """So many windows of the same kind; the events of all but the first ever."""
        events: list[Event] = []
        for _ in range(count):
            made = self.reads(self.at, **(window or {}))
            events += made if self.at > 1000.0 else ()
            self.at += self.device.window_s
        return events


def test_a_trouble_for_three_windows_makes_a_site_degraded(trouble: Trouble) -> None:
    story = Windows()
    assert story.sees(2, trouble.bad) == []

    [opened, changed] = story.sees(1, trouble.bad)
    assert isinstance(opened, Opened)
    began_at = 1000 - story.device.window_s  # when the first of the three windows did
    assert opened._replace(cause=None) == Opened(trouble.kind, began_at, 1120, (trouble.reason,))
    assert changed == Changed()
    assert (story.status, story.health.since) == ("degraded", 1120)
    assert story.health.reasons == (trouble.reason,)


def test_a_trouble_that_lasts_says_nothing_more(trouble: Trouble) -> None:
    story = Windows()
    story.sees(3, trouble.bad)

    assert story.sees(20, trouble.bad) == []


def test_a_good_window_starts_the_count_again(trouble: Trouble) -> None:
    story = Windows()
    story.sees(2, trouble.bad)
    story.sees(1, trouble.good)

    began_at = story.at - story.device.window_s
    assert story.sees(2, trouble.bad) == []
    opened, _ = story.sees(1, trouble.bad)
    assert isinstance(opened, Opened)
    assert opened.opened_at == began_at


def test_a_window_between_the_thresholds_starts_the_count_again(banded: Trouble) -> None:
    story = Windows()
    story.sees(2, banded.bad)
    story.sees(1, banded.between)

    assert story.sees(2, banded.bad) == []


def test_a_window_that_did_not_measure_it_counts_neither_way(trouble: Trouble) -> None:
    story = Windows()
    story.sees(2, trouble.bad)
    story.sees(7, {"ladder": {}})

    assert len(story.sees(1, trouble.bad)) == 2


def test_five_good_windows_end_it(trouble: Trouble) -> None:
    story = Windows()
    story.sees(3, trouble.bad)
    assert story.sees(4, trouble.good) == []

    ended_at = story.at
    assert story.sees(1, trouble.good) == [Resolved(trouble.kind, ended_at), Changed()]
    assert (story.status, story.health.since) == ("online", ended_at)
    assert (story.health.reasons, story.health.troubles) == ((), ())


def test_a_bad_window_among_the_good_ones_starts_their_count_again(trouble: Trouble) -> None:
    story = Windows()
    story.sees(3, trouble.bad)
    story.sees(4, trouble.good)
    story.sees(1, trouble.bad)

    assert story.sees(4, trouble.good) == []
    assert len(story.sees(1, trouble.good)) == 2


def test_a_window_between_the_thresholds_does_not_end_it(banded: Trouble) -> None:
    story = Windows()
    story.sees(3, banded.bad)
    story.sees(4, banded.good)
    story.sees(1, banded.between)

    assert story.sees(4, banded.good) == []
    assert story.status == "degraded"


@pytest.mark.parametrize("name", ["loss to domestic", "loss to world", "rtt to domestic"])
def test_fewer_than_ten_echoes_are_not_judged(name: str) -> None:
    rung_name = name.split()[-1]
    few = {"ping": {rung_name: {**TROUBLES[name].bad["ping"][rung_name], "sent": 9}}}
    enough = {"ping": {rung_name: {**few["ping"][rung_name], "sent": 10}}}
    story = Windows()

    assert story.sees(10, few) == []
    assert len(story.sees(3, enough)) == 2


def test_a_second_reason_amends_the_incident_that_is_open() -> None:
    story = Windows()
    story.sees(3, {"ladder": {**OK, "world": "fail"}})
    both = {"ladder": {**OK, "world": "fail", "dns": "fail"}}

    assert story.sees(3, both) == [
        Amended(Kind.SITE_DEGRADED, ("world failing", "dns failing")),
        Changed(),
    ]
    assert story.health.since == 1120


def test_one_reason_less_amends_it_too() -> None:
    story = Windows()
    story.sees(3, {"ladder": {**OK, "world": "fail", "dns": "fail"}})
    one = {"ladder": {**OK, "world": "fail", "dns": "ok"}}

    assert story.sees(5, one) == [Amended(Kind.SITE_DEGRADED, ("world failing",)), Changed()]


def test_troubles_of_two_kinds_are_two_incidents() -> None:
    story = Windows()
    both = {"ladder": {**OK, "world": "fail"}, "host": {"undervoltage": True}}
    events = story.sees(3, both)

    assert [event.kind for event in events if isinstance(event, Opened)] == [
        Kind.SITE_DEGRADED,
        Kind.AGENT_PROBLEM,
    ]
    one = {"ladder": {**OK, "world": "ok"}, "host": {"undervoltage": True}}
    assert [type(event) for event in story.sees(5, one)] == [Resolved, Changed]
    assert story.status == "degraded"


def test_two_access_points_are_told_apart() -> None:
    story = Windows()
    story.sees(3, {"access_points": {"a": {"reachable": False}, "b": {"reachable": True}}})
    events = story.sees(5, {"access_points": {"a": {"reachable": True}, "b": {"reachable": False}}})

    told = ("access point a unreachable", "access point b unreachable")
    assert events[0] == Amended(
        Kind.ACCESS_POINT_OFFLINE,
        told,
        Cause("access_point", 0.9, ("1 of 2 access points unreachable while the agent lives",)),
    )
    assert story.health.reasons == ("access point b unreachable",)


def test_a_name_with_braces_is_told_plainly() -> None:
    story = Windows()
    story.sees(3, {"access_points": {"{value}": {"reachable": False}}})

    assert story.health.reasons == ("access point (value) unreachable",)


def test_going_offline_ends_what_was_degraded(trouble: Trouble) -> None:
    story = Windows()
    story.sees(3, trouble.bad)
    events = story.waits(1270)

    assert events == (
        Resolved(trouble.kind, 1270),
        Opened(Kind.SITE_OFFLINE, 1120, 1270, ("no sign of life for 150 s",)),
        Changed(),
    )
    assert story.health.troubles == ()


def test_after_an_outage_the_counting_begins_again(trouble: Trouble) -> None:
    story = Windows()
    story.sees(3, trouble.bad)
    story.waits(2000)
    story.at = 2000

    story.sees(2, trouble.bad)
    assert story.status == "online"
    story.sees(1, trouble.bad)
    assert story.status == "degraded"


def test_the_thresholds_are_those_of_the_rules() -> None:
    story = Windows(raise_windows=1, clear_windows=2, loss_raise_ratio=0.5, loss_clear_ratio=0.4)
    story.sees(1, {})

    assert story.sees(1, {"ping": {"world": echoes(loss_ratio=0.5)}}) == []
    story.sees(1, {"ping": {"world": echoes(loss_ratio=0.51)}})
    assert story.health.reasons == ("loss_ratio to world 0.51 above 0.5",)
    story.sees(2, {"ping": {"world": echoes(loss_ratio=0.4)}})
    assert story.status == "online"


DEAD = {"ladder": {"gateway": "ok", "isp": "fail", "domestic": "fail", "world": "fail"}}


def opened(step: Iterable[Event]) -> bool:
    return any(isinstance(one, Opened) for one in step)


def test_windows_of_an_outage_that_is_over_make_no_trouble() -> None:
    story = Story(window_s=10.0)
    story.reads(1000)
    story.waits(1100)
    # The line is back at 1105; what was measured before that comes in its order.
    for at, taken_at in ((1106, 1092), (1107, 1102), (1114, 1112)):
        assert not opened(story.reads(at, taken_at=taken_at, **DEAD))


@pytest.mark.parametrize("retained", [False, True])
def test_windows_of_an_outage_that_nobody_saw_make_no_trouble_once_its_session_is_back(
    retained: bool,
) -> None:
    """Broker or ingest was away as the line was, so nobody was told offline meanwhile; the site
    connects before ingest does, or after it."""
    story = Story(window_s=10.0)
    story.reads(1000)
    lossy = {"ping": {"domestic": echoes(loss_ratio=0.5)}}
    story.reads(1010, **lossy)
    story.absent(1020)
    uptime_s = 1032.0 - story.device.booted_at
    story.online(1032, "two", retained=retained, boot=story.device.boot, uptime_s=uptime_s)
    told = [
        opened(story.reads(1033, taken_at=1020, **DEAD, **lossy)),
        opened(story.reads(1033, taken_at=1030, **DEAD, **lossy)),
        opened(story.reads(1040, **lossy)),
    ]
    assert told == [False, False, False]
    assert opened(story.reads(1050, **lossy)), "a line that stays lossy is a trouble"


def test_a_presence_that_stood_since_another_boot_says_nothing_of_this_ones_uptime() -> None:
    story = Story(window_s=10.0)
    story.reads(1000)
    story.online(1005, "old", retained=True, boot="boot-0", uptime_s=90_000.0)
    told = [opened(story.reads(at, **DEAD)) for at in (1010, 1020, 1030)]
    assert told == [False, False, True]


def test_a_line_that_is_dead_again_after_an_outage_is_a_trouble_after_three_whole_windows() -> None:
    story = Story(window_s=10.0)
    story.reads(1000)
    story.waits(1100)
    told = [opened(story.reads(at, **DEAD)) for at in (1110, 1120, 1130, 1140)]
    assert told == [False, False, False, True]


def test_a_new_boot_begins_with_its_own_uptime() -> None:
    story = Story(window_s=10.0)
    story.reads(5000)
    story.waits(5100)
    story.reads(5110)
    story.device.restart("boot-2", 5110)
    told = [opened(story.reads(at, **DEAD)) for at in (5120, 5130, 5140)]
    assert told == [False, False, True]
