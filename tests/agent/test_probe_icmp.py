"""The prober against a real kernel, and against a responder that answers wrongly."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.measured import Sample
from agent.probes.echo import open_echo_socket, packet, who_answers
from agent.probes.icmp import Prober, round_trip_ns
from tests.lab.net import Namespace, SoftLink, child_environment, inside
from tests.wait import until

ANYBODY = "0 2147483647"
NOBODY = "1 0"
Answer = Callable[[bytes, str], list[tuple[bytes, str]]]
"""From an echo request and its destination to packets and the source of each."""

MS = 1_000_000


# Round trips


def test_the_round_trip_is_by_the_kernels_stamp_however_late_it_is_read() -> None:
    assert round_trip_ns(0, 5_000 * MS, 900 * MS, 5_900 * MS, 5_040 * MS) == 40 * MS


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 700, -700])
def test_a_clock_that_steps_after_the_answer_does_not_matter(step_ms: int) -> None:
    now_wall_ns = (5_600 + step_ms) * MS
    assert round_trip_ns(0, 5_000 * MS, 600 * MS, now_wall_ns, 5_040 * MS) == 40 * MS


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 700, -700])
def test_a_clock_that_steps_before_the_answer_does_not_matter(step_ms: int) -> None:
    now_wall_ns, stamp_ns = (5_600 + step_ms) * MS, (5_040 + step_ms) * MS
    assert round_trip_ns(0, 5_000 * MS, 600 * MS, now_wall_ns, stamp_ns) == 40 * MS


def test_a_clock_that_steps_twice_leaves_the_time_until_the_reading() -> None:
    assert round_trip_ns(0, 5_000 * MS, 600 * MS, 9_600 * MS, 7_000 * MS) == 600 * MS


# On a real kernel


@pytest.fixture
def lone() -> Iterator[Namespace]:
    """A namespace with a loopback and nothing else."""
    with Namespace() as namespace:
        yield namespace


@contextlib.contextmanager
def probing(namespace: Namespace, *addresses: str, interval_s: float = 0.05) -> Iterator[Prober]:
    with inside(namespace.name):
        rng = random.Random(1)  # noqa: S311  # moments in time, no secrets
        prober = Prober({"world": addresses}, interval_s=interval_s, rng=rng)
        prober.start()
    try:
        yield prober
    finally:
        prober.stop()


def collect(prober: Prober, count: int, address: str | None = None) -> list[Sample]:
    """At least `count` samples that are old enough to be judged (0.5 s)."""
    seen: list[Sample] = []

    def enough() -> bool:
        taken = prober.take(0.0, time.monotonic() - 0.5)
        seen.extend(s for s in taken if address in (None, s.target))
        return len(seen) >= count

    until(enough, 30, f"{count} echoes")
    return seen


@pytest.mark.needs_root
@pytest.mark.parametrize(("group_range", "raw"), [(ANYBODY, False), (NOBODY, True)])
def test_echoes_are_sent_and_answered_on_either_kind_of_socket(
    lone: Namespace, group_range: str, raw: bool
) -> None:
    lone.run("sysctl", "-qw", f"net.ipv4.ping_group_range={group_range}")
    with inside(lone.name), open_echo_socket() as echo:
        assert echo.raw is raw
    with probing(lone, "127.0.0.1", "127.0.0.2") as prober:
        samples = collect(prober, 20)
    assert {s.target for s in samples} == {"127.0.0.1", "127.0.0.2"}
    assert all(s.rtt_ms is not None and 0 < s.rtt_ms < 500 for s in samples)
    assert prober.errors() == {}


@pytest.mark.needs_root
def test_two_probers_on_one_machine_do_not_hear_each_other(lone: Namespace) -> None:
    lone.run("sysctl", "-qw", f"net.ipv4.ping_group_range={NOBODY}")
    with probing(lone, "127.0.0.1") as one, probing(lone, "127.0.0.1") as other:
        assert all(s.rtt_ms is not None for s in collect(one, 20) + collect(other, 20))


@pytest.mark.needs_root
def test_neither_kind_of_socket_permitted_is_one_clear_error(lone: Namespace) -> None:
    lone.run("sysctl", "-qw", f"net.ipv4.ping_group_range={NOBODY}")
    code = "from agent.probes.icmp import Prober\nProber({'world': ('127.0.0.1',)})"
    done = subprocess.run(
        lone.within("setpriv", "--bounding-set=-net_raw", "--inh-caps=-all",
                    sys.executable, "-c", code),
        env=child_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == (
        "agent.probes.runner.ProbeError: ICMP is not permitted: grant CAP_NET_RAW, or put a "
        "group of this user into net.ipv4.ping_group_range"
    )


@pytest.mark.needs_root
def test_an_echo_that_the_kernel_refuses_to_send_is_sent_and_lost(lone: Namespace) -> None:
    with probing(lone, "192.0.2.1", "127.0.0.1") as prober:
        lost = collect(prober, 10, "192.0.2.1")
    assert all(s.rtt_ms is None for s in lost)


@pytest.mark.needs_root
def test_echoes_come_at_random_moments_around_their_interval(lone: Namespace) -> None:
    with probing(lone, "127.0.0.1", interval_s=0.1) as prober:
        samples = collect(prober, 40)
    gaps_s = [b.sent_s - a.sent_s for a, b in itertools.pairwise(samples)]
    assert 0.08 <= sum(gaps_s) / len(gaps_s) <= 0.2, "the mean is the interval"
    assert len({round(gap, 3) for gap in gaps_s}) > 10


@pytest.mark.needs_root
def test_a_shorter_interval_is_heeded_though_a_long_one_was_waited_for(lone: Namespace) -> None:
    with probing(lone, "127.0.0.1", interval_s=900.0) as prober:
        prober.interval_s = 0.05
        assert collect(prober, 10)


@pytest.mark.needs_root
def test_a_window_gets_the_echoes_sent_in_it_each_once(lone: Namespace) -> None:
    with probing(lone, "127.0.0.1") as prober:
        start_s = time.monotonic()
        until(lambda: time.monotonic() > start_s + 2.5, 30, "two windows to pass")
        first = prober.take(start_s, start_s + 1.0)
        second = prober.take(start_s + 1.0, start_s + 2.0)
        assert prober.take(start_s, start_s + 2.0) == []
    assert all(start_s <= s.sent_s < start_s + 1 for s in first)
    assert all(start_s + 1 <= s.sent_s < start_s + 2 for s in second)
    assert min(len(first), len(second)) >= 10


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.needs_root
def test_a_prober_stops_at_once_and_leaves_nothing_open(lone: Namespace) -> None:
    before = open_files()
    with probing(lone, "127.0.0.1", interval_s=30.0) as prober:
        assert prober.errors() == {}
    assert open_files() == before
    assert "echoes" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.needs_root
def test_a_name_becomes_an_address_and_one_that_does_not_is_told(lone: Namespace) -> None:
    # names from /etc/hosts alone: the namespace reaches no resolver
    targets = {"domestic": ("localhost",), "world": ("nowhere.invalid",)}
    with inside(lone.name):
        prober = Prober(targets, interval_s=0.05)  # type: ignore[arg-type]  # literal rungs
        prober.start()
    try:
        assert all(s.rtt_ms is not None for s in collect(prober, 5, "localhost"))
        until(lambda: "world" in prober.errors(), 60, "the name to fail")
        assert prober.errors()["world"].startswith("nowhere.invalid does not resolve: ")
        assert collect(prober, 5, "localhost")
    finally:
        prober.stop()


# Against a responder that answers wrongly


def echo_reply(request: bytes) -> bytes:
    """The right answer to an echo request, checksum put right for the new type (RFC 1624)."""
    kind, code, checksum, ident, seq = struct.unpack_from("!BBHHH", request)
    assert (kind, code) == (8, 0)
    total = checksum + 0x0800
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 0, 0, total, ident, seq) + request[8:]


def changed(reply: bytes, at: int) -> bytes:
    """A reply with one byte changed and its checksum right."""
    body = bytearray(reply)
    body[at] ^= 0x01
    body[2:4] = b"\0\0"
    whole = packet(
        int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big"), bytes(body[8:])
    )
    return echo_reply(whole)


@contextlib.contextmanager
def responder(namespace: Namespace, answer: Answer) -> Iterator[None]:
    """Answers the echoes on a namespace's loopback in the kernel's place."""
    namespace.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    with inside(namespace.name):
        hears = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        speaks = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    hears.settimeout(0.1)
    stop = threading.Event()
    heard: set[bytes] = set()

    def serve() -> None:
        while not stop.is_set():
            try:
                datagram = hears.recv(4096)
            except TimeoutError:
                continue
            if datagram[20] != 8 or datagram[20:] in heard:  # its own, sent back as a request
                continue
            heard.add(datagram[20:])
            here, there = datagram[12:16], socket.inet_ntoa(datagram[16:20])
            for icmp, source in answer(datagram[20:], there):
                head = struct.pack(
                    "!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0,
                    socket.inet_aton(source), here,
                )  # fmt: skip
                speaks.sendto(head + icmp, (socket.inet_ntoa(here), 0))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        hears.close()
        speaks.close()


def answered_with(lone: Namespace, answer: Answer, group_range: str) -> list[bool]:
    lone.run("sysctl", "-qw", f"net.ipv4.ping_group_range={group_range}")
    with responder(lone, answer), probing(lone, "127.0.0.9") as prober:
        return [s.rtt_ms is not None for s in collect(prober, 10)]


WRONG: dict[str, Answer] = {
    "nothing": lambda _, __: [],
    "another payload": lambda request, to: [(changed(echo_reply(request), 40), to)],
    "another seq": lambda request, to: [(changed(echo_reply(request), 7), to)],
    "another id": lambda request, to: [(changed(echo_reply(request), 5), to)],
    "another source": lambda request, _: [(echo_reply(request), "127.0.0.8")],
    "half the payload": lambda request, to: [(echo_reply(packet(
        *struct.unpack_from("!HH", request, 4), request[8:36])), to)],
    "half a header": lambda request, to: [(echo_reply(request)[:6], to)],
    "the request itself": lambda request, to: [(request, to)],
}  # fmt: skip


@pytest.mark.needs_root
@pytest.mark.parametrize("group_range", [ANYBODY, NOBODY], ids=["datagram", "raw"])
def test_the_right_answer_counts_even_among_wrong_ones(lone: Namespace, group_range: str) -> None:
    def answer(request: bytes, to: str) -> list[tuple[bytes, str]]:
        noise = [reply for wrong in WRONG.values() for reply in wrong(request, to)]
        return [*noise, (echo_reply(request), to), (echo_reply(request), to), *noise]

    assert all(answered_with(lone, answer, group_range))


@pytest.mark.needs_root
@pytest.mark.parametrize("group_range", [ANYBODY, NOBODY], ids=["datagram", "raw"])
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_answer_does_not_count(lone: Namespace, what: str, group_range: str) -> None:
    assert not any(answered_with(lone, WRONG[what], group_range))


@pytest.mark.needs_root
@pytest.mark.parametrize(("one_way_ms", "answered"), [(900, True), (1050, False)])
def test_an_answer_counts_until_two_seconds_have_passed(one_way_ms: int, answered: bool) -> None:
    with (
        Namespace() as near,
        Namespace() as far,
        SoftLink(near, "10.0.0.1/24", far, "10.0.0.2/24") as link,
    ):
        near.run("ping", "-c", "1", "-W", "5", "10.0.0.2")  # has the address resolved
        link.set(delay_ms=one_way_ms)
        with probing(near, "10.0.0.2", interval_s=0.8) as prober:
            start_s = time.monotonic()
            until(lambda: time.monotonic() > start_s + 6.0, 30, "late answers to be read")
            samples = prober.take(start_s, start_s + 3.0)
    assert len(samples) >= 2
    assert {s.rtt_ms is not None for s in samples} == {answered}


@pytest.mark.needs_root
def test_who_answers_hears_the_target_or_nobody(lone: Namespace) -> None:
    with inside(lone.name):
        assert who_answers("127.0.0.3", ttl=64) == "127.0.0.3"
        assert who_answers("192.0.2.1", ttl=64, timeout_s=0.1) is None
    lone.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    with inside(lone.name):
        assert who_answers("127.0.0.3", ttl=64, timeout_s=0.1) is None
