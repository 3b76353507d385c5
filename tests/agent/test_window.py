"""From samples and outcomes to a reading: every rule of `agent.window`."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from agent import wire
from agent.measured import Links, Outcome, Sample
from agent.window import SILENT_AFTER, build, echoes, ladder, percentile, ping, silences

OFFSET_S = 1_700_000_000.0
"""Wall clock minus monotonic clock in these tests."""


def sample(
    at_s: float,
    rtt_ms: float | None = 10.0,
    *,
    rung: wire.EchoRung = "world",
    target: str = "192.0.2.1",
) -> Sample:
    return Sample(rung, target, at_s, rtt_ms)


def run_of(first_s: int, fates: str, **where: object) -> list[Sample]:
    """One echo a second, ``.`` answered and ``x`` lost."""
    return [
        sample(float(first_s + i), 10.0 if fate == "." else None, **where)  # type: ignore[arg-type]  # rung and target
        for i, fate in enumerate(fates)
    ]


def outcome(name: str, value: object = None, error: str | None = None) -> Outcome:
    return Outcome(name, value, error, 0.1)  # type: ignore[arg-type]  # tests pass what they like


def wall(at_s: float) -> str:
    return wire.iso(at_s + OFFSET_S)


def dead(rung: wire.EchoRung, start_s: float, end_s: float | None) -> wire.Dead:
    return wire.Dead(rung=rung, start=wall(start_s), end=None if end_s is None else wall(end_s))


# Percentiles and echoes


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.0, 1.0), (0.5, 10.0), (0.95, 19.0), (0.951, 20.0), (1.0, 20.0)]
)
def test_a_percentile_is_a_sample_that_so_many_samples_do_not_exceed(
    ratio: float, expected: float
) -> None:
    assert percentile([float(i) for i in range(1, 21)], ratio) == expected


@given(st.lists(st.floats(0, 1e4), min_size=1), st.sampled_from([0.5, 0.95]))
def test_a_percentile_is_the_smallest_sample_with_its_share_at_or_below(
    values: list[float], ratio: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, ratio)
    assert sum(v <= found for v in ordered) >= ratio * len(ordered) - 1e-6
    assert sum(v < found for v in ordered) < ratio * len(ordered)


def test_echo_statistics_are_over_all_targets_of_a_rung() -> None:
    samples = [
        sample(0, 10.0, target="a"),
        sample(0.5, 30.0, target="b"),
        sample(1, None, target="a"),
        sample(1.5, 20.0, target="b"),
    ]
    assert ping(samples).world == wire.Echoes(
        sent=4,
        received=3,
        loss_ratio=0.25,
        rtt_min_ms=10.0,
        rtt_p50_ms=20.0,
        rtt_p95_ms=30.0,
        rtt_max_ms=30.0,
        pdv_p95_ms=20.0,
    )


def test_a_rung_that_got_nothing_back_has_loss_and_no_times() -> None:
    assert echoes([sample(0, None), sample(1, None)]) == wire.Echoes(
        sent=2, received=0, loss_ratio=1.0
    )


def test_a_rung_to_which_nothing_was_sent_is_absent() -> None:
    assert ping([sample(0, rung="gateway")]).isp is UNSET
    assert echoes([]) is UNSET


@given(st.lists(st.one_of(st.none(), st.floats(0.001, 2000)), min_size=1, max_size=80))
def test_echo_statistics_are_always_in_order_and_valid_on_the_wire(
    rtts: list[float | None],
) -> None:
    found = echoes([sample(i, rtt) for i, rtt in enumerate(rtts)])
    decoded = msgspec.json.decode(msgspec.json.encode(found), type=wire.Echoes)
    assert decoded == found
    if any(rtt is not None for rtt in rtts):
        assert decoded.rtt_min_ms <= decoded.rtt_p50_ms <= decoded.rtt_p95_ms <= decoded.rtt_max_ms
        assert decoded.pdv_p95_ms >= 0


# The ladder


def test_an_echo_rung_is_ok_when_one_echo_came_back_from_any_of_its_targets() -> None:
    samples = [*run_of(0, "xxxxx", target="a"), *run_of(0, "xxxx.", target="b")]
    assert ladder(ping(samples), {}).world == "ok"


def test_an_echo_rung_fails_when_no_echo_came_back() -> None:
    found = ladder(ping(run_of(0, "xx", rung="isp")), {})
    assert (found.isp, found.first_failure) == ("fail", "isp")


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (outcome("dns", wire.Dns(ok=True, time_ms=3.0)), "ok"),
        (outcome("dns", wire.Dns(ok=False, time_ms=3.0)), "fail"),
        (outcome("dns", wire.Dns(ok=False), "NXDOMAIN"), "fail"),
        (outcome("dns", None, "timeout after 2.0 s"), "fail"),
        (outcome("dns", None, None), UNSET),
    ],
)
def test_dns_is_judged_by_its_value_and_its_error(result: Outcome, verdict: object) -> None:
    assert ladder(wire.Ping(), {"dns": result}).dns == verdict


def test_a_portal_fails_the_web_rung() -> None:
    portal = wire.Web(ok=False, status=302, portal=True)
    found = ladder(wire.Ping(), {"web": outcome("web", portal)})
    assert (found.web, found.first_failure) == ("fail", "web")


@pytest.mark.parametrize(("carrier", "verdict"), [("ok", "ok"), ("fail", "fail"), (None, UNSET)])
def test_carrier_is_that_of_the_default_routes_interface(carrier: object, verdict: object) -> None:
    links = Links({"eth0": wire.Link(up=True)}, carrier)  # type: ignore[arg-type]  # parametrised
    assert ladder(wire.Ping(), {"link": outcome("link", links)}).carrier == verdict


def test_a_link_probe_that_failed_leaves_carrier_unmeasured() -> None:
    assert (
        ladder(wire.Ping(), {"link": outcome("link", None, "Permission denied")}).carrier is UNSET
    )


@pytest.mark.parametrize("lowest", range(len(wire.RUNGS)))
def test_first_failure_is_the_lowest_failing_rung(lowest: int) -> None:
    failing = wire.RUNGS[lowest:]
    samples = [sample(0, None if rung in failing else 1.0, rung=rung) for rung in wire.ECHO_RUNGS]
    outcomes = {
        "link": outcome("link", Links({}, "fail" if "carrier" in failing else "ok")),
        "dns": outcome("dns", wire.Dns(ok="dns" not in failing)),
        "web": outcome("web", wire.Web(ok="web" not in failing)),
    }
    assert ladder(ping(samples), outcomes).first_failure == wire.RUNGS[lowest]


def test_nothing_failing_leaves_first_failure_absent() -> None:
    assert ladder(ping([sample(0)]), {}).first_failure is UNSET


# Silences


def test_two_lost_echoes_are_no_silence_and_three_are() -> None:
    assert silences({}, run_of(0, "..xx.."), OFFSET_S)[1] == []
    assert silences({}, run_of(0, "..xxx."), OFFSET_S)[1] == [dead("world", 2, 5.01)]


def test_a_silence_lasts_from_the_first_lost_sending_to_the_first_receipt() -> None:
    samples = [sample(0), *run_of(1, "xxxx"), sample(5.25, 40.0), sample(6)]
    assert silences({}, samples, OFFSET_S)[1] == [dead("world", 1, 5.29)]


def test_two_silences_in_one_window_are_two_edges() -> None:
    found = silences({}, run_of(0, "xxx.xxxx."), OFFSET_S)[1]
    assert found == [dead("world", 0, 3.01), dead("world", 4, 8.01)]


def test_a_silence_is_repeated_with_the_same_beginning_in_each_window_until_it_ends() -> None:
    state, first = silences({}, run_of(0, ".....xxxxx"), OFFSET_S)
    # the wall clock drifts a little, as clocks do; the beginning must not
    state, second = silences(state, run_of(10, "xxxxxxxxxx"), OFFSET_S + 0.004)
    state, third = silences(state, run_of(20, "xx........"), OFFSET_S + 0.008)
    state, fourth = silences(state, run_of(30, ".........."), OFFSET_S)
    assert first == second == [dead("world", 5, None)]
    assert third == [dead("world", 5, 22.01)]
    assert (fourth, state) == ([], {})


def test_echoes_lost_at_a_windows_end_join_those_of_the_next_window() -> None:
    state, first = silences({}, run_of(0, "........xx"), OFFSET_S)
    _, second = silences(state, run_of(10, "x........."), OFFSET_S)
    assert first == []
    assert second == [dead("world", 8, 11.01)]


def test_a_clock_that_was_set_moves_a_silence_into_its_time() -> None:
    state, _ = silences({}, run_of(0, "xxxx"), OFFSET_S)
    _, edges = silences(state, run_of(4, "x.xx"), OFFSET_S + 3600)
    assert edges[0].start == wire.iso(OFFSET_S + 3600)


def test_a_rung_is_not_silent_while_one_of_its_targets_answers() -> None:
    samples = [
        *run_of(0, "xxxxxxxx", target="a"),
        *run_of(0, "xxxxxxxx", target="b"),
        *run_of(0, "........", target="c"),
    ]
    assert silences({}, samples, OFFSET_S) == ({}, [])


def test_a_rung_is_silent_when_each_of_its_targets_missed_three() -> None:
    two = [*run_of(0, ".xxx", target="a"), *run_of(0, ".xx", target="b")]
    assert silences({}, two, OFFSET_S)[1] == []
    three = [*run_of(0, ".xxx", target="a"), *run_of(0, ".xxx", target="b")]
    assert silences({}, three, OFFSET_S)[1] == [dead("world", 1, None)]


def test_each_rung_has_its_own_silence() -> None:
    samples = [*run_of(0, "xxx.", rung="domestic"), *run_of(0, "....", rung="world")]
    assert silences({}, samples, OFFSET_S)[1] == [dead("domestic", 0, 3.01)]


def test_a_rung_that_was_not_measured_in_a_window_keeps_its_state() -> None:
    state, _ = silences({}, run_of(0, "xxx", rung="isp"), OFFSET_S)
    state, edges = silences(state, run_of(3, "...", rung="world"), OFFSET_S)
    assert edges == []
    _, edges = silences(state, run_of(6, "x..", rung="isp"), OFFSET_S)
    assert edges == [dead("isp", 0, 7.01)]


@given(st.text(".x", min_size=1, max_size=60), st.integers(1, 20))
def test_cutting_the_time_into_windows_does_not_change_the_silences(fates: str, cut: int) -> None:
    samples = run_of(0, fates)
    whole = silences({}, samples, OFFSET_S)[1]
    state, seen = silences({}, [], OFFSET_S)
    for start in range(0, len(samples), cut):
        state, edges = silences(state, samples[start : start + cut], OFFSET_S)
        known = {edge.start: edge for edge in seen}
        known.update({edge.start: edge for edge in edges})
        seen = list(known.values())
    assert seen == whole
    assert len(whole) == sum(len(run) >= SILENT_AFTER for run in fates.split("."))


# The whole reading


def test_a_reading_holds_what_was_measured_and_is_valid_on_the_wire() -> None:
    reading = build(
        seq=7,
        boot="boot",
        agent="0.1.0",
        taken_at=OFFSET_S + 60,
        uptime_s=60.0,
        clock=wire.Clock(synced=True),
        window_s=60,
        samples=run_of(0, "....xxx."),
        outcomes=[
            outcome("link", Links({"eth0": wire.Link(up=True, rx_mbps=1.0)}, "ok")),
            outcome("dns", wire.Dns(ok=False, time_ms=4.0), "192.0.2.53 answers SERVFAIL"),
            outcome("web", None, "timeout after 2.0 s"),
            outcome("host", wire.Host(cpu_ratio=0.5)),
            outcome("clients", None),
        ],
        dead=[dead("world", 4, 7.01)],
        settings_revision=3,
        errors={"isp": "nobody answers with TTL 2 towards 192.0.2.1"},
    )
    again = wire.decode_reading(wire.encode(reading)).reading
    assert again == reading
    assert reading.links == {"eth0": wire.Link(up=True, rx_mbps=1.0)}
    assert reading.ladder == wire.Ladder(
        carrier="ok", world="ok", dns="fail", web="fail", first_failure="dns"
    )
    assert (reading.web, reading.clients) == (UNSET, UNSET)
    assert reading.dns == wire.Dns(ok=False, time_ms=4.0)
    assert reading.errors == {
        "isp": "nobody answers with TTL 2 towards 192.0.2.1",
        "dns": "192.0.2.53 answers SERVFAIL",
        "web": "timeout after 2.0 s",
    }


def test_a_reading_of_nothing_has_only_what_is_required() -> None:
    reading = build(
        seq=1,
        boot="boot",
        agent="0.1.0",
        taken_at=OFFSET_S,
        uptime_s=1.0,
        clock=wire.Clock(synced=False),
        window_s=1,
        samples=[],
        outcomes=[],
        dead=[],
    )
    assert set(msgspec.to_builtins(reading)) == {
        "seq", "boot", "taken_at", "uptime_s", "clock", "window_s", "agent", "ladder"
    }  # fmt: skip
