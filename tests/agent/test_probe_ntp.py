"""The ntp probe against scripted servers, good and bad, and against a real one."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import wire
from agent.measured import Outcome
from agent.probes import Context, Runner
from agent.probes.ntp import BURST, NtpProbe
from agent.probes.ntp_packet import Sample, sample, timestamp
from tests.agent.servers import UdpAnswer, udp_server, unused_udp
from tests.lab.net import Namespace, cable, child_environment, inside
from tests.wait import until

APART_S = 0.02
SERVER_HEAD = 0x24  # leap 0, version 4, mode 4


def reply(
    packet: bytes,
    *,
    head: int = SERVER_HEAD,
    stratum: int = 2,
    ahead_s: float = 0.0,
    reference: bytes = b"GPS\0",
    received: int | None = None,
    transmitted: int | None = None,
    root_dispersion: int = 0,
) -> bytes:
    """An answer whose clock is `ahead_s` of ours."""
    now = timestamp(time.time_ns() + round(ahead_s * 1e9))
    times = (
        int.from_bytes(packet[40:48], "big"),
        now if received is None else received,
        now if transmitted is None else transmitted,
    )
    head_fields = (head, stratum, 6, -20, 0, root_dispersion, reference, now)
    return struct.pack("!BBbbII4s4Q", *head_fields, *times)


def ask(*answers: UdpAnswer, probe: NtpProbe | None = None, deadline_s: float = 3.0) -> Outcome:
    runner = Runner({"ntp": probe or NtpProbe(APART_S)})
    with _servers(answers) as places:
        return runner.run("ntp", Context(time_servers=places), deadline_s)


class _servers:  # noqa: N801  # used as a function
    def __init__(self, answers: tuple[UdpAnswer, ...]) -> None:
        self._servers = [udp_server(answer) for answer in answers]

    def __enter__(self) -> tuple[str, ...]:
        return tuple(server.__enter__() for server in self._servers)

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.__exit__(None, None, None)


@pytest.mark.parametrize("ahead_s", [0.0, 1.5, -3600.0, 30 * 365 * 86400.0])
def test_the_offset_is_how_far_the_server_is_ahead(ahead_s: float) -> None:
    outcome = ask(lambda packet: [reply(packet, ahead_s=ahead_s)])
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Ntp)
    assert outcome.value.offset_ms == pytest.approx(ahead_s * 1000, abs=100)
    assert 0 <= outcome.value.delay_ms < 1000
    assert (outcome.value.stratum, outcome.value.samples) == (2, BURST)


def test_the_question_is_a_clients_and_tells_nothing_of_our_clock() -> None:
    asked: list[bytes] = []

    def answer(packet: bytes) -> list[bytes]:
        asked.append(packet)
        return [reply(packet)]

    ask(answer)
    assert [len(packet) for packet in asked] == [48] * BURST
    assert {packet[0] for packet in asked} == {0x23}
    assert {packet[1:40] for packet in asked} == {bytes(39)}
    assert len({packet[40:] for packet in asked}) == BURST


def test_the_sample_with_the_smallest_delay_counts() -> None:
    """The server takes 500 ms for all answers but the third, and does not say so."""
    numbers = itertools.count()

    def answer(packet: bytes) -> list[bytes]:
        slow = next(numbers) != 2
        told = timestamp(time.time_ns())
        if slow:
            threading.Event().wait(0.5)
        return [reply(packet, received=told, transmitted=told)]

    outcome = ask(answer, probe=NtpProbe(0.6), deadline_s=9.0)  # longer than the server takes
    assert isinstance(outcome.value, wire.Ntp)
    assert outcome.value.delay_ms < 400
    assert abs(outcome.value.offset_ms) < 200  # half of the delay at most


def test_of_several_servers_the_nearest_counts_and_is_named() -> None:
    def far(packet: bytes) -> list[bytes]:
        told = timestamp(time.time_ns())
        threading.Event().wait(0.1)
        return [reply(packet, ahead_s=9.0, received=told, transmitted=told)]

    with udp_server(far) as first, udp_server(lambda packet: [reply(packet)]) as second:
        context = Context(time_servers=(first, second))
        outcome = Runner({"ntp": NtpProbe(APART_S)}).run("ntp", context, 3.0)
    assert isinstance(outcome.value, wire.Ntp)
    assert outcome.value.server == second


def test_one_server_that_answers_is_enough() -> None:
    outcome = ask(lambda _: [], lambda packet: [reply(packet)], deadline_s=0.6)
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Ntp)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda p: [reply(p, stratum=0, reference=b"RATE")], "says kiss-o'-death RATE"),
        (lambda p: [reply(p, stratum=0, reference=b"DENY")], "says kiss-o'-death DENY"),
        (lambda p: [reply(p, head=0x23)], "answers in mode 3, not as a server"),
        (lambda p: [reply(p, head=0x25)], "answers in mode 5, not as a server"),
        (lambda p: [reply(p, head=0xE4)], "is not synchronised itself"),
        (lambda p: [reply(p, stratum=16)], "is not synchronised itself"),
        (lambda p: [reply(p, root_dispersion=17 << 16)], "is too far from its own source"),
        (lambda p: [reply(p, transmitted=0)], "tells impossible times"),
        (lambda p: [reply(p, received=2, transmitted=1)], "tells impossible times"),
        (lambda p: [reply(p, received=1, transmitted=1 << 62)], "tells impossible times"),
        (lambda p: [reply(p)[:47]], "answers something that is no answer to our question"),
        (lambda _: [b"\xff" * 48], "answers something that is no answer to our question"),
        (lambda _: [reply(bytes(48))], "answers something that is no answer to our question"),
        (lambda p: [p], "answers something that is no answer to our question"),
    ],
)
def test_an_answer_that_is_none_is_named(answer: UdpAnswer, error: str) -> None:
    outcome = ask(answer, deadline_s=0.6)
    assert outcome.value is None
    assert outcome.error is not None
    assert outcome.error.startswith("127.0.0.1:")
    assert outcome.error.endswith(error)


def test_an_old_answer_does_not_count_beside_the_right_one() -> None:
    old: list[bytes] = []

    def answer(packet: bytes) -> list[bytes]:
        old.append(reply(packet, ahead_s=99.0))
        return [*old[:-1], reply(packet)]

    outcome = ask(answer)
    assert isinstance(outcome.value, wire.Ntp)
    assert abs(outcome.value.offset_ms) < 1000
    assert outcome.value.samples == BURST


def test_a_server_that_keeps_silent_is_a_timeout() -> None:
    outcome = ask(lambda _: [], deadline_s=0.4)
    assert (outcome.value, outcome.error) == (None, "timeout after 0.4 s")


def test_an_answer_after_the_deadline_is_a_timeout() -> None:
    def answer(packet: bytes) -> list[bytes]:
        threading.Event().wait(0.6)
        return [reply(packet)]

    assert ask(answer, deadline_s=0.4).error == "timeout after 0.4 s"


def test_a_port_where_nobody_listens_is_named() -> None:
    place = unused_udp()
    outcome = Runner({"ntp": NtpProbe(APART_S)}).run("ntp", Context(time_servers=(place,)), 0.6)
    assert outcome.value is None
    assert outcome.error == f"{place} cannot be asked: Connection refused"


def test_a_name_that_does_not_resolve_is_named() -> None:
    context = Context(time_servers=("time.invalid.:123x",))
    outcome = Runner({"ntp": NtpProbe(APART_S)}).run("ntp", context, 1.0)
    assert outcome.value is None
    assert outcome.error is not None


@pytest.mark.needs_root
def test_a_name_that_hangs_does_not_cost_the_other_servers() -> None:
    """The way to the system's resolver leads into silence, and its client waits long."""
    with Namespace() as here, Namespace() as there:
        cable(here, "10.0.0.1/24", there, "10.0.0.2/24")
        here.route("default", "10.0.0.2")
        with inside(here.name), udp_server(lambda p: [reply(p)]) as place:
            context = Context(time_servers=("time.example", place))
            outcome = Runner({"ntp": NtpProbe(APART_S)}).run("ntp", context, 2.0)
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Ntp)
    assert outcome.value.server == place


def test_a_server_that_says_rate_is_left_alone_for_a_while() -> None:
    asked: list[bytes] = []

    def answer(packet: bytes) -> list[bytes]:
        asked.append(packet)
        return [reply(packet, stratum=0, reference=b"RATE")]

    runner = Runner({"ntp": NtpProbe(APART_S)})
    with udp_server(answer) as place:
        first, second = (runner.run("ntp", Context(time_servers=(place,)), 0.6) for _ in range(2))
    assert first.error == f"{place} says kiss-o'-death RATE"
    assert second.error == f"{place} said RATE; not asked for now"
    assert len(asked) == 1


def test_a_kiss_that_was_not_asked_for_silences_nobody() -> None:
    """Forged from beside the path, it does not know our question's number."""

    def answer(packet: bytes) -> list[bytes]:
        return [reply(bytes(48), stratum=0, reference=b"DENY"), reply(packet)]

    outcome = ask(answer)
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Ntp)


def test_without_servers_there_is_nothing_to_measure() -> None:
    outcome = Runner({"ntp": NtpProbe(APART_S)}).run("ntp", Context(), 1.0)
    assert (outcome.value, outcome.error) == (None, None)


def test_offset_and_delay_are_those_of_rfc_5905() -> None:
    """T1 = 0 s, T2 = 1.010 s, T3 = 1.030 s, T4 = 0.060 s of one day."""
    day_ns = 1_700_000_000 * 10**9
    told = [timestamp(day_ns + round(s * 1e9)) for s in (1.010, 1.030)]
    answer = reply(bytes(48), received=told[0], transmitted=told[1])
    found = sample(answer, "x", day_ns, day_ns + 60_000_000)
    assert found == Sample(pytest.approx(990.0), pytest.approx(40.0), 2, "x")


def test_the_turn_of_the_era_in_2036_is_no_jump() -> None:
    turn_ns = (2**32 - 2_208_988_800) * 10**9
    told = timestamp(turn_ns + 500_000_000)
    assert told < timestamp(turn_ns - 1_000_000_000)
    answer = reply(bytes(48), received=told, transmitted=told)
    found = sample(answer, "x", turn_ns - 1_000_000_000, turn_ns - 1_000_000_000)
    assert found.offset_ms == pytest.approx(1500.0)


@pytest.fixture
def chrony(tmp_path: Path) -> Iterator[Callable[[Namespace], subprocess.Popen[str]]]:
    """Starts chrony in a namespace as a server that only has its own clock; ends it."""
    started: list[subprocess.Popen[str]] = []

    def start(namespace: Namespace) -> subprocess.Popen[str]:
        conf = tmp_path / "chrony.conf"
        conf.write_text(
            "local stratum 3\nallow 10.0.0.0/24\ncmdport 0\n"
            f"bindcmdaddress /\npidfile {tmp_path}/chrony.pid\n"
        )
        command = ("chronyd", "-x", "-d", "-u", "root", "-f", str(conf))
        started.append(
            namespace.popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.needs_root
def test_a_real_server_agrees_with_our_clock(
    chrony: Callable[[Namespace], subprocess.Popen[str]],
) -> None:
    with Namespace() as here, Namespace() as there:
        cable(here, "10.0.0.1/24", there, "10.0.0.2/24")
        server = chrony(there)

        def measured() -> dict[str, float] | None:
            assert server.poll() is None, "chronyd ended"
            context = json.dumps({"time_servers": ["10.0.0.2"]})
            done = subprocess.run(
                here.within(sys.executable, "-m", "tests.lab.one_probe", "ntp", context),
                env=child_environment(), input="", capture_output=True, text=True,
                timeout=60, check=True,
            )  # fmt: skip
            value: dict[str, float] | None = json.loads(done.stdout)["value"]
            return value

        found = until(measured, 30.0, "an answer of chrony")
    assert abs(found["offset_ms"]) < 5, "both read the same clock"
    assert found["delay_ms"] < 50
    assert (found["stratum"], found["samples"]) == (3, BURST)
