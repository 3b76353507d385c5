"""The simulated site, stepped with explicit times: it must obey every rule of a real agent."""

from __future__ import annotations

import uuid

import msgspec
import pytest

from agent import wire
from server.simulate_link import busy
from server.simulate_site import JOURNAL_READINGS, Act, Message, SiteModel

NOW = 1_800_000_000.0
SITE = "girian-07"
SESSION = str(uuid.uuid4())


def model(seed: int = 0) -> SiteModel:
    site = SiteModel(SITE, window_s=2.0, seed=seed)
    site.suffer(Act.POWER_ON, NOW)
    return site


def take(site: SiteModel, count: int, *, start: float = NOW) -> float:
    """So many windows; the time at the end of the last."""
    now = start
    for _ in range(count):
        now += site.window_s
        site.take_reading(now)
    return now


def seqs(message: Message) -> list[int]:
    batch = wire.decode_readings(message.payload, site=SITE)
    assert batch.bad == []
    return [good.reading.seq for good in batch.good]


def newest(site: SiteModel) -> wire.Reading:
    return wire.decode_reading(site.journal[site.last_seq]).reading


def ack(stream: str, through: int) -> bytes:
    return wire.encode(wire.Ack(v=1, stream=stream, through=through))


def command(do: str, now: float, **args: int) -> bytes:
    return wire.encode(
        wire.Command(
            v=1,
            site=SITE,
            id=str(uuid.uuid4()),
            do=do,
            expires_at=wire.iso(now + 30),
            args={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in args.items()},
        )
    )


def hear_ack(site: SiteModel, through: int, *, stream: str | None = None) -> None:
    site.hear(NOW, wire.site_topic(SITE, "acks"), ack(stream or site.stream, through))


def test_every_reading_is_valid_and_numbered_without_a_gap() -> None:
    site = model()
    take(site, 5)
    assert [wire.decode_reading(raw).reading.seq for raw in site.journal.values()] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_healthy_line_has_a_ladder_without_a_failure() -> None:
    site = model()
    take(site, 1)
    reading = newest(site)
    assert reading.ladder.domestic == "ok"
    assert reading.ladder.first_failure is msgspec.UNSET
    assert reading.ping is not msgspec.UNSET
    assert reading.ping.domestic is not msgspec.UNSET
    assert 20 < reading.ping.domestic.rtt_p50_ms < 150  # type: ignore[operator]  # measured


def test_a_lossy_line_loses_beyond_the_isp_only() -> None:
    site = model()
    site.suffer(Act.LOSE, NOW)
    take(site, 1)
    ping = newest(site).ping
    assert ping is not msgspec.UNSET
    assert ping.isp.loss_ratio == 0.0  # type: ignore[union-attr]  # measured
    assert ping.domestic.loss_ratio > 0.05  # type: ignore[union-attr,operator]  # measured
    assert newest(site).ladder.domestic == "ok"


def test_a_cut_fails_from_the_isp_upwards_and_the_gateway_still_answers() -> None:
    site = model()
    site.suffer(Act.CUT, NOW)
    take(site, 1)
    ladder = newest(site).ladder
    assert (ladder.gateway, ladder.isp, ladder.world, ladder.web) == ("ok", "fail", "fail", "fail")
    assert ladder.first_failure == "isp"


def test_the_edges_of_a_cut_are_repeated_while_it_lasts_and_closed_when_it_ends() -> None:
    site = model()
    now = take(site, 1)
    site.suffer(Act.CUT, now + 0.5)
    now = take(site, 1, start=now)
    while_cut = newest(site).dead
    site.suffer(Act.MEND, now + 1.0)
    now = take(site, 1, start=now)
    when_mended = newest(site).dead
    take(site, 1, start=now)
    assert while_cut is not msgspec.UNSET
    assert when_mended is not msgspec.UNSET
    begun = wire.iso(NOW + 2.5)
    assert {(one.start, one.end) for one in while_cut} == {(begun, None)}
    assert {(one.start, one.end) for one in when_mended} == {(begun, wire.iso(NOW + 5.0))}
    assert {one.rung for one in while_cut} == {"isp", "domestic", "world"}
    assert newest(site).dead == []


def test_a_window_that_a_cut_touches_only_partly_still_has_answers() -> None:
    site = model()
    site.suffer(Act.CUT, NOW + 1.0)
    take(site, 1)
    assert newest(site).ladder.domestic == "ok"
    assert newest(site).ping.domestic.loss_ratio == 0.5  # type: ignore[union-attr]  # measured


def test_a_healed_line_loses_nothing_more() -> None:
    site = model()
    site.suffer(Act.LOSE, NOW)
    now = take(site, 1)
    site.suffer(Act.HEAL, now)
    take(site, 1, start=now)
    assert newest(site).ping.world.loss_ratio == 0.0  # type: ignore[union-attr]  # measured


def test_a_site_without_power_is_not_reachable() -> None:
    site = model()
    site.suffer(Act.POWER_OFF, NOW)
    assert not site.reachable
    assert not SiteModel(SITE, window_s=2.0).reachable


def test_a_power_cut_changes_the_boot_and_keeps_stream_and_journal() -> None:
    site = model()
    now = take(site, 3)
    boot, stream = site.boot, site.stream
    site.suffer(Act.POWER_OFF, now)
    site.suffer(Act.POWER_ON, now + 60)
    take(site, 1, start=now + 60)
    reading = newest(site)
    assert site.reachable
    assert (site.stream, reading.seq) == (stream, 4)
    assert reading.boot != boot
    assert reading.uptime_s < 5


def test_a_link_cut_keeps_the_boot_and_the_uptime_grows() -> None:
    site = model()
    now = take(site, 1)
    before = newest(site)
    site.suffer(Act.CUT, now)
    assert not site.reachable
    now = take(site, 5, start=now)
    site.suffer(Act.MEND, now)
    take(site, 1, start=now)
    assert newest(site).boot == before.boot
    assert newest(site).uptime_s == before.uptime_s + 12


def test_a_connection_says_presence_then_the_newest_reading_then_the_backlog() -> None:
    site = model()
    now = take(site, 150)
    presence, live, *backlog = site.hello(now, SESSION)
    assert presence.retain
    hello = wire.decode(wire.Presence, presence.payload, site=SITE)
    assert (hello.state, hello.session) == ("online", SESSION)
    assert seqs(live) == [150]
    assert [seqs(message) for message in backlog] == [
        list(range(1, 101)),
        list(range(101, 150)),
    ]


def test_the_will_ends_the_session_that_it_was_made_for() -> None:
    will = model().will(NOW, SESSION)
    lost = wire.decode(wire.Presence, will.payload, site=SITE)
    assert will.retain
    assert (lost.state, lost.session, lost.reason) == ("offline", SESSION, "lost")


def test_an_ack_releases_and_the_next_connection_sends_only_the_rest() -> None:
    site = model()
    now = take(site, 5)
    hear_ack(site, 3)
    _presence, live, backlog = site.hello(now, SESSION)
    assert (seqs(live), seqs(backlog)) == ([5], [4])


def test_an_ack_of_another_stream_or_an_older_one_releases_nothing() -> None:
    site = model()
    take(site, 5)
    hear_ack(site, 4)
    hear_ack(site, 5, stream=str(uuid.uuid4()))
    hear_ack(site, 2)
    assert site.through == 4


def test_an_ack_beyond_the_newest_reading_releases_no_reading_of_the_future() -> None:
    site = model()
    take(site, 2)
    hear_ack(site, 1000)
    assert site.through == 2


def test_when_all_is_released_a_connection_says_only_its_presence() -> None:
    site = model()
    now = take(site, 2)
    hear_ack(site, 2)
    assert len(site.hello(now, SESSION)) == 1


def test_a_resend_sends_what_is_held_of_the_range_and_replies() -> None:
    site = model()
    now = take(site, 6)
    hear_ack(site, 6)
    message, reply = site.hear(
        now, wire.site_topic(SITE, "commands"), command("resend", now, **{"from": 2, "to": 4})
    )
    assert seqs(message) == [2, 3, 4]
    answer = wire.decode(wire.Reply, reply.payload, site=SITE)
    assert (answer.ok, answer.result) == (True, {"readings": 3})


@pytest.mark.parametrize(
    ("do", "at", "args"),
    [
        ("trace", NOW, {}),
        ("resend", NOW + 60, {"from": 1, "to": 2}),
        ("resend", NOW, {"from": 1}),
    ],
    ids=["unknown", "expired", "without an argument"],
)
def test_a_command_that_cannot_be_done_is_answered_with_the_reason(
    do: str, at: float, args: dict[str, int]
) -> None:
    site = model()
    take(site, 2)
    (reply,) = site.hear(at, wire.site_topic(SITE, "commands"), command(do, NOW, **args))
    answer = wire.decode(wire.Reply, reply.payload, site=SITE)
    assert answer.ok is False
    assert answer.result != {}


def test_what_is_broken_or_for_another_site_is_passed_over() -> None:
    site = model()
    take(site, 2)
    assert site.hear(NOW, wire.site_topic(SITE, "acks"), b"{") == []
    assert site.hear(NOW, wire.site_topic("maesa-01", "acks"), ack(site.stream, 2)) == []
    assert site.through == 0


def test_a_full_journal_loses_its_oldest_reading_and_says_so() -> None:
    site = model()
    now = take(site, JOURNAL_READINGS + 3)
    assert site.oldest == 4
    _presence, live, *_ = site.hello(now, SESSION)
    assert wire.decode_readings(live.payload, site=SITE).envelope.oldest == 4


def test_the_same_seed_measures_the_same_and_another_does_not() -> None:
    def pings(seed: int) -> list[object]:
        site = model(seed=seed)
        take(site, 3)
        return [wire.decode_reading(raw).reading.ping for raw in site.journal.values()]

    assert pings(1) == pings(1)
    assert pings(1) != pings(2)


def test_the_city_is_busiest_in_the_evening() -> None:
    midnight_utc = 1_800_000_000 // 86400 * 86400
    at = {
        hour: busy(midnight_utc + hour * 3600) for hour in range(24)
    }  # hours of UTC, WITA is 8 on
    assert max(at, key=lambda hour: at[hour]) == 12
    assert min(at, key=lambda hour: at[hour]) == 0
