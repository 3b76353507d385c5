"""When the path is traced, and what is told of it: rules alone, and a real chain of routers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from msgspec import UNSET

from agent import wire
from agent.helpers.trace import REFUSAL, ROUTER, TARGET, Answers, hops
from agent.probes import ProbeError
from agent.probes.path import AGAIN_S, Due, Goal, PathWatch, Tracer, path, trace
from tests.lab.net import Namespace, cable, child_environment, inside
from tests.wait import until

AT = "2026-11-22T06:49:20.100Z"
OK = wire.Ladder(gateway="ok", domestic="ok", world="ok")


def failing(*rungs: str) -> wire.Ladder:
    return wire.Ladder(**dict.fromkeys(rungs, "fail"))  # type: ignore[arg-type]  # rungs by name


class Watched:
    """A `PathWatch` that starts all that is due."""

    def __init__(self, every_s: float = 86_400.0) -> None:
        self._watch = PathWatch(every_s)

    def window(self, ladder: wire.Ladder, now_s: float) -> Due | None:
        due = self._watch.due(ladder, now_s)
        self._watch.observe(ladder, due, now_s)
        return due


DAILY = Due(("domestic", "world"), "daily")


def test_the_first_window_is_traced_and_then_one_a_day() -> None:
    watched = Watched()
    assert watched.window(OK, 0.0) == DAILY
    assert watched.window(OK, 86_399.0) is None
    assert watched.window(OK, 86_400.0) == DAILY


def test_a_rung_that_first_fails_is_traced_once_while_it_fails() -> None:
    watched = Watched()
    watched.window(OK, 0.0)
    assert watched.window(failing("world"), 60.0) == Due(("world",), "failure")
    assert watched.window(failing("world"), 120.0) is None
    assert watched.window(failing("world"), 60.0 + AGAIN_S) is None


def test_of_several_new_failures_the_lowest_rung_is_traced() -> None:
    watched = Watched()
    watched.window(OK, 0.0)
    assert watched.window(failing("domestic", "world", "dns"), 60.0) == Due(
        ("domestic",), "failure"
    )


def test_a_rung_that_flaps_is_traced_again_after_ten_minutes() -> None:
    watched = Watched()
    watched.window(OK, 0.0)
    watched.window(failing("world"), 60.0)
    watched.window(OK, 120.0)
    assert watched.window(failing("world"), 180.0) is None
    watched.window(OK, 600.0)
    assert watched.window(failing("world"), 660.0) == Due(("world",), "failure")


def test_a_rung_that_a_window_left_out_has_not_recovered() -> None:
    watched = Watched()
    watched.window(OK, 0.0)
    watched.window(failing("dns"), 60.0)
    watched.window(wire.Ladder(carrier="ok"), 120.0)  # a slowed window without probes
    assert watched.window(failing("dns"), 120.0 + AGAIN_S) is None


def test_another_rung_that_fails_is_traced_though_one_fails_already() -> None:
    watched = Watched()
    watched.window(OK, 0.0)
    watched.window(failing("world"), 60.0)
    assert watched.window(failing("domestic", "world"), 120.0) == Due(("domestic",), "failure")


def test_a_missing_carrier_is_not_traced() -> None:
    watched = Watched()
    watched.window(OK, 0.0)
    assert watched.window(wire.Ladder(carrier="fail"), 60.0) is None


def line(*found: dict[str, object], reached: bool = True) -> bytes:
    told = {"target": "192.0.2.9", "address": "192.0.2.9", "reached": reached, "hops": found}
    return json.dumps(told).encode()


NEAR = {"ttl": 1, "address": "10.0.0.1", "rtt_ms": 1.5}
SILENT = {"ttl": 2}
ABROAD = {"ttl": 3, "address": "203.0.113.9", "rtt_ms": 31.0}
GOAL = Goal("192.0.2.9", "domestic")


def test_a_way_through_a_foreign_prefix_is_told_with_the_hop() -> None:
    found = path(line(NEAR, SILENT, ABROAD), GOAL, "daily", AT, ["203.0.113.0/24"])
    assert found.foreign_hop is True
    assert [hop.foreign for hop in found.hops] == [False, UNSET, True]
    assert (found.rung, found.why, found.at, found.stops_at) == ("domestic", "daily", AT, 3)


def test_a_way_that_stays_in_the_country_is_told_so() -> None:
    found = path(line(NEAR, SILENT), GOAL, "daily", AT, ["203.0.113.0/24", "2001:db8::/32"])
    assert (found.foreign_hop, found.stops_at) == (False, 1)


def test_without_prefixes_nothing_is_said_of_what_is_foreign() -> None:
    found = path(line(NEAR, ABROAD), GOAL, "failure", AT, [])
    assert (found.foreign_hop, found.hops[1].foreign) == (UNSET, UNSET)


def test_a_way_on_which_nobody_answers_stops_nowhere() -> None:
    found = path(line(reached=False), GOAL, "failure", AT, [])
    assert (found.reached, found.hops, found.stops_at) == (False, [], UNSET)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"hops": [{"ttl": "one"}]}'])
def test_a_helper_that_talks_nonsense_is_named(text: bytes) -> None:
    with pytest.raises(ProbeError, match=r"^the trace helper talks nonsense of 192\.0\.2\.9: "):
        path(text, GOAL, "failure", AT, [])


def network(
    length: int, *, silent: tuple[int, ...] = (), end: str = TARGET
) -> tuple[list[int], object]:
    """Pretends a way of `length` hops; also the TTLs that were asked for."""
    asked: list[int] = []

    def ask(ttls: list[int]) -> Answers:
        asked.extend(ttls)
        kinds = {ttl: ROUTER if ttl < length else end for ttl in ttls if ttl not in silent}
        return {
            ttl: (f"10.0.0.{min(ttl, length)}", 1.0, kind)
            for ttl, kind in kinds.items()
            if kind == ROUTER or end != "nobody"
        }

    return asked, ask


def test_hops_end_with_the_target() -> None:
    asked, ask = network(3)
    reached, found = hops(ask, 2)  # type: ignore[arg-type]  # see network
    assert reached
    assert [hop["address"] for hop in found] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert max(asked) == 6


def test_a_silent_hop_is_asked_again_and_stays_without_address() -> None:
    asked, ask = network(3, silent=(2,))
    _, found = hops(ask, 2)  # type: ignore[arg-type]  # see network
    assert found[1] == {"ttl": 2}
    assert asked.count(2) == 2
    assert asked.count(1) == 1


def test_a_way_into_silence_is_given_up_after_some_silent_hops() -> None:
    asked, ask = network(4, end="nobody")
    reached, found = hops(ask, 1)  # type: ignore[arg-type]  # see network
    assert not reached
    assert len(found) == 3
    assert max(asked) == 12


def test_a_router_that_refuses_ends_the_way() -> None:
    _, ask = network(3, end=REFUSAL)
    reached, found = hops(ask, 1)  # type: ignore[arg-type]  # see network
    assert not reached
    assert len(found) == 3


@pytest.fixture(scope="module")
def chain() -> Iterator[list[Namespace]]:
    """agent - gateway - ISP - target, 10.0.1.1 to 10.0.3.2."""
    with ExitStack() as stack:
        agent, gateway, isp, target = (stack.enter_context(Namespace()) for _ in range(4))
        cable(agent, "10.0.1.1/24", gateway, "10.0.1.2/24")
        cable(gateway, "10.0.2.1/24", isp, "10.0.2.2/24")
        cable(isp, "10.0.3.1/24", target, "10.0.3.2/24")
        gateway.forward()
        isp.forward()
        agent.route("default", "10.0.1.2")
        gateway.route("default", "10.0.2.2")
        isp.route("10.0.1.0/24", "10.0.2.1")
        target.route("default", "10.0.3.1")
        yield [agent, gateway, isp, target]


@pytest.mark.needs_root
def test_a_real_way_is_told_hop_by_hop(chain: list[Namespace]) -> None:
    with inside(chain[0].name):
        found, error = trace([Goal("10.0.3.2", "domestic")], "daily", ["10.0.2.0/24"])
    assert error is None
    assert [hop.address for hop in found[0].hops] == ["10.0.1.2", "10.0.2.2", "10.0.3.2"]
    assert all(0 <= hop.rtt_ms < 1000 for hop in found[0].hops)
    assert (found[0].reached, found[0].foreign_hop) == (True, True)


@pytest.mark.needs_root
@pytest.mark.slow
def test_a_cut_way_stops_at_the_last_router_before_the_cut(chain: list[Namespace]) -> None:
    chain[2].cut("10.0.3.2")
    try:
        with inside(chain[0].name):
            found, error = trace([Goal("10.0.3.2", "domestic")], "failure", [])
    finally:
        chain[2].mend()
    assert error is None
    assert (found[0].reached, found[0].stops_at) == (False, 2)
    assert found[0].hops[-1].address == "10.0.2.2"


@pytest.mark.needs_root
def test_a_router_without_a_way_on_ends_the_trace(chain: list[Namespace]) -> None:
    with inside(chain[0].name):
        found, _ = trace([Goal("10.0.9.9")], "command", [])
    assert [hop.address for hop in found[0].hops] == ["10.0.1.2", "10.0.2.2"]
    assert not found[0].reached


@pytest.mark.needs_root
@pytest.mark.slow
def test_a_name_that_does_not_resolve_costs_the_other_targets_nothing(
    chain: list[Namespace],
) -> None:
    with inside(chain[0].name):
        found, error = trace([Goal("nowhere.invalid"), Goal("10.0.1.2")], "command", [])
    assert [one.target for one in found] == ["10.0.1.2"]
    assert error is not None
    assert error.startswith("nowhere.invalid does not resolve: ")


@pytest.mark.needs_root
def test_without_permission_it_says_which_capability_is_missing(chain: list[Namespace]) -> None:
    request = json.dumps({"targets": ["10.0.1.2"]})
    done = subprocess.run(
        chain[0].within("setpriv", "--bounding-set=-all", "--inh-caps=-all",
                        sys.executable, "-m", "agent.helpers.trace", request),
        env=child_environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    with pytest.raises(ProbeError, match=r"^tracing is not permitted: grant CAP_NET_RAW$"):
        path(done.stdout.encode(), Goal("10.0.1.2"), "command", AT, [])


@pytest.mark.needs_root
def test_a_failure_is_traced_beside_the_windows_and_taken_once(chain: list[Namespace]) -> None:
    tracer = Tracer(86_400.0, [])
    with inside(chain[0].name):
        tracer.observe(failing("gateway"), {"gateway": "10.0.1.2"}, 0.0)
        taken = until(lambda: tracer.take()[0], 60.0, "the trace to end")
    assert [(one.rung, one.why, one.reached) for one in taken] == [("gateway", "failure", True)]
    assert tracer.take() == ([], None)
