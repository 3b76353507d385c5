"""Modelled sites at a real broker: what it and the centre see of each thing that happens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from agent import wire
from server.fleet.backlog import fill
from server.fleet.tube import tube_time
from tests.fleet.lab import Centre
from tests.lab.broker import Broker
from tests.lab.town import Town, event
from tests.wait import until

WITHIN_S = 30.0
BACKLOG_S = 100.0
STRUCK = {
    "cut": event("c", "cable_cut"),
    "killed": event("k", "agent_killed"),
    "dark": event("d", "power_off"),
    "hung": event("h", "agent_hung"),
    "clock": event("w", "clock_wrong"),
    "point": event("p", "access_point_off"),
    "both": event("b", "district_power_down"),
}
KILLED_TOO = event("b2", "agent_killed")
"""Strikes `both` while it is dark, and is over first."""
NAMES = ["calm", "full", *STRUCK]
SILENCED = ["cut", "killed", "dark", "hung", "both"]


@dataclass
class Played:
    """A story that was played, and when its parts began."""

    centre: Centre
    town: Town
    log: str
    filled: list[tuple[str, str, int]]
    made: list[tuple[str, str, int]]
    struck_at: float
    alone_at: float
    mended_at: float
    waiting: dict[str, int]

    def within(self, name: str, since: float, to: float = float("inf")) -> list[dict[str, Any]]:
        """A site's readings that arrived then."""
        seen = self.centre.site(name, "readings", since=since)
        return [one for message in seen if message.at < to for one in message.body["readings"]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("few")
    with (
        Broker(folder / "broker") as broker,
        Centre(broker) as centre,
        Town(broker.url, NAMES, running=["full"]).living() as town,
    ):
        town.do(lambda: fill(town.sites["full"].box, BACKLOG_S, tube_time(), time.time()))
        filled = list(town.made)
        town.begin(*NAMES)
        until(lambda: all(stored(town, name) for name in NAMES), WITHIN_S, "all readings")
        struck_at = time.time()
        for name, one in STRUCK.items():
            town.strikes(one, name)
        town.strikes(KILLED_TOO, "both")
        until(
            lambda: all(centre.said(name, "offline", struck_at) for name in SILENCED),
            *(WITHIN_S, "the wills of all that are away"),
        )
        waiting = {name: town.unreleased(name) for name in ("cut", "calm")}
        alone_at = time.time()
        town.passes(KILLED_TOO, "both")
        until(lambda: len(centre.readings("calm", alone_at)) > 3, WITHIN_S, "three windows")
        mended_at = time.time()
        for name, one in STRUCK.items():
            town.passes(one, name)
        before = Counter(name for name, _, _ in town.made)
        until(
            lambda: all(centre.said(name, "online", mended_at) for name in SILENCED),
            *(WITHIN_S, "all to be back"),
        )
        until(
            lambda: min((Counter(name for name, _, _ in town.made) - before)[n] for n in NAMES) > 2,
            *(WITHIN_S, "three more windows of each"),
        )
        made = list(town.made)
        until(lambda: all(stored(town, name) for name in NAMES), WITHIN_S, "all readings")
        log = broker.log.read_text()
        yield Played(centre, town, log, filled, made, struck_at, alone_at, mended_at, waiting)


def stored(town: Town, name: str) -> bool:
    """Whether a site has made readings, and the centre has acknowledged all of them."""
    spool = town.sites[name].box.spool
    return spool is not None and spool.newest is not None and spool.unreleased == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_reading_that_was_made_arrives_and_no_seq_is_missing_or_means_two(
    played: Played, name: str
) -> None:
    came = {
        (stream, seq)
        for (who, stream), seqs in played.centre.stored.items()
        for seq in seqs
        if who == name
    }
    made = {(stream, seq) for who, stream, seq in played.made if who == name}
    assert made <= came
    for stream in {stream for stream, _ in came}:
        seqs = sorted(seq for one, seq in came if one == stream)
        assert seqs == list(range(1, len(seqs) + 1))
    texts: dict[tuple[str, int], Any] = {}
    for seen in played.centre.site(name, "readings"):
        for one in seen.body["readings"]:
            assert texts.setdefault((seen.body["stream"], one["seq"]), one) == one


def test_what_is_acknowledged_leaves_the_spool_and_the_rest_stays(played: Played) -> None:
    assert played.waiting["cut"] >= 2
    assert played.waiting["calm"] <= 2
    stands = {name: played.town.unreleased(name) for name in NAMES}
    assert max(stands.values()) <= 2, stands


def test_a_killed_agent_hangs_up_and_the_others_are_missed_by_the_keepalive(
    played: Played,
) -> None:
    timeouts = {name for name in NAMES if f"Client {name} has exceeded timeout" in played.log}
    assert timeouts == {"cut", "dark", "hung", "both"}
    first = {
        name: played.centre.site(name, "presence", since=played.struck_at)[0] for name in SILENCED
    }
    assert all(seen.body["reason"] == "lost" for seen in first.values())
    assert min(first.values(), key=lambda seen: seen.at) is first["killed"]


def test_one_that_nothing_strikes_holds_its_connection_and_misses_no_window(
    played: Played,
) -> None:
    assert len(played.centre.said("calm", "online")) == 1
    assert played.centre.said("calm", "offline") == []
    readings = played.centre.readings("calm")
    ends = [wire.epoch(one["taken_at"]) for one in readings]
    assert all(0.99 < later - end < 1.01 for end, later in pairwise(ends))


def test_power_that_returns_begins_a_new_boot_and_a_new_process_or_a_mended_line_does_not(
    played: Played,
) -> None:
    boots = {name: {one["boot"] for one in played.centre.readings(name)} for name in NAMES}
    twice = {name for name, found in boots.items() if len(found) == 2}
    assert twice == {"dark", "both"}
    assert all(len(found) <= 2 for found in boots.values())
    online = {name: played.centre.said(name, "online") for name in SILENCED}
    assert {name for name in SILENCED if len({one["boot"] for one in online[name]}) == 2} == twice
    for name in SILENCED:
        assert online[name][-1]["boot"] == played.centre.readings(name)[-1]["boot"]
        assert online[name][-1]["session"] != online[name][0]["session"]


def test_a_killed_agent_goes_on_in_the_stream_of_its_spool(played: Played) -> None:
    streams = {stream for name, stream in played.centre.stored if name == "killed"}
    assert len(streams) == 1


def test_an_event_that_ends_does_not_switch_on_what_another_one_still_keeps_dark(
    played: Played,
) -> None:
    gone = played.centre.said("both", "offline", played.struck_at)
    assert gone
    back = [
        seen.at
        for seen in played.centre.site("both", "presence", since=played.struck_at)
        if seen.body["state"] == "online"
    ]
    assert min(back) >= played.mended_at
    assert played.within("both", played.alone_at, played.mended_at) == []


def test_back_from_a_cut_the_newest_reading_comes_first_and_alone_then_the_oldest(
    played: Played,
) -> None:
    first, then = played.centre.site("cut", "readings", since=played.mended_at)[:2]
    assert [one["seq"] for one in first.body["readings"]] != []
    (newest,) = [one["seq"] for one in first.body["readings"]]
    behind = [one["seq"] for one in then.body["readings"]]
    assert behind == sorted(behind)
    assert behind[-1] < newest


def test_the_backlog_is_whole_and_is_of_the_time_before_the_agent_began(played: Played) -> None:
    seqs = sorted(seq for _, _, seq in played.filled)
    assert len(seqs) > BACKLOG_S / 2
    assert seqs == list(range(1, len(seqs) + 1))
    first, then = played.centre.site("full", "readings")[:2]
    assert [one["seq"] for one in first.body["readings"]] == [seqs[-1]]
    assert then.body["readings"][0]["seq"] == 1
    readings = {one["seq"]: one for one in played.centre.readings("full")}
    ends = [wire.epoch(readings[seq]["taken_at"]) for seq in seqs]
    assert all(0.99 < later - end < 1.01 for end, later in pairwise(ends))
    assert first.at - BACKLOG_S - 10 < ends[0] < ends[-1] < first.at
    assert len({one["boot"] for one in readings.values()}) == 1


def test_a_wrong_clock_is_off_by_two_hours_and_says_that_it_is_not_synchronised(
    played: Played,
) -> None:
    off = []
    for seen in played.centre.site("clock", "readings"):
        for one in seen.body["readings"]:
            age_s = seen.at - wire.epoch(one["taken_at"])
            off.append(age_s < -3600)
            assert one["clock"]["synced"] is not off[-1]
            assert abs(age_s + (7200 if off[-1] else 0)) < WITHIN_S
    assert (off[0], off[-1]) == (False, False)
    assert off.count(True) >= 2


def test_an_access_point_that_is_off_does_not_answer_and_the_others_do(played: Played) -> None:
    answers = [one["access_points"]["ap-1"]["reachable"] for one in played.centre.readings("point")]
    assert answers[0] is True
    assert answers.count(False) >= 2
    calm = played.centre.readings("calm")
    assert all(one["access_points"]["ap-1"]["reachable"] for one in calm)


def test_a_cut_line_is_dead_in_the_readings_and_people_are_gone(played: Played) -> None:
    ladders = [one["ladder"] for one in played.centre.readings("cut")]
    assert ladders[0]["isp"] == "ok"
    assert sum(one["gateway"] == "ok" and one["isp"] == "fail" for one in ladders) >= 2
    people = [one["clients"]["associated"] for one in played.centre.readings("cut")]
    assert 0 in people
    assert people[0] > 0


def test_readings_are_sent_again_when_the_centre_asks_and_the_answer_says_which(
    played: Played,
) -> None:
    centre = played.centre
    since = time.time()
    asked = centre.command("calm", "resend", **{"from": 2, "to": 3})
    reply = until(lambda: centre.reply("calm", asked), WITHIN_S, "the answer")
    assert reply["ok"] is True
    assert (reply["result"]["from"], reply["result"]["to"], reply["result"]["count"]) == (2, 3, 2)
    until(
        lambda: {2, 3} <= {one["seq"] for one in centre.readings("calm", since)},
        *(WITHIN_S, "them"),
    )


@pytest.mark.parametrize(
    ("do", "args", "why"),
    [
        ("trace", {}, "resend, not 'trace'"),
        ("resend", {"to": 3}, "from"),
        ("resend", {"from": 4, "to": 3}, "above"),
        ("resend", {"from": "x", "to": 3}, "int"),
    ],
    ids=["unknown", "without an argument", "the wrong way round", "no number"],
)
def test_a_command_that_cannot_be_done_is_answered_with_the_reason(
    played: Played, do: str, args: dict[str, Any], why: str
) -> None:
    asked = played.centre.command("calm", do, **args)
    reply = until(lambda: played.centre.reply("calm", asked), WITHIN_S, "the answer")
    assert reply["ok"] is False
    assert why in reply["result"]["error"]


def test_a_device_that_dies_while_it_waits_for_its_line_does_not_speak_when_that_is_mended(
    broker: Broker,
) -> None:
    cut, dark = event("c", "cable_cut"), event("d", "power_off")
    with Centre(broker) as centre, Town(broker.url, ["one", "two"]).living() as town:
        town.strikes(cut, "one")
        town.begin("one")
        town.strikes(dark, "one")
        town.passes(cut, "one")
        town.begin("two")
        until(lambda: centre.readings("two"), WITHIN_S, "another one")
        assert centre.said("one", "online") == []
        town.passes(dark, "one")
        until(lambda: centre.said("one", "online"), WITHIN_S, "the site")


def test_an_event_that_is_over_before_a_site_is_switched_on_does_not_switch_it_on(
    broker: Broker,
) -> None:
    dark, killed = event("d", "power_off"), event("k", "agent_killed")
    with Centre(broker) as centre, Town(broker.url, ["one", "two"]).living() as town:
        town.strikes(dark, "one")
        town.passes(dark, "one")
        town.strikes(killed, "one")
        town.passes(killed, "one")
        town.begin("two")
        until(lambda: len(centre.readings("two")) > 1, WITHIN_S, "another one")
        assert centre.said("one", "online") == []
        town.begin("one")
        until(lambda: centre.readings("one"), WITHIN_S, "its readings")
