"""The dns probe against real servers that answer well, badly, late or not at all."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest

from agent import wire
from agent.measured import Outcome
from agent.probes import Context, ProbeError, run
from agent.probes.dns_client import endpoint, system_address, system_resolver
from agent.probes.dns_packet import question
from tests.agent.servers import UdpAnswer, udp_server, unused_udp

ANSWER_A = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 192, 0, 2, 1)


def reply(packet: bytes, *, rcode: int = 0, answers: int = 1) -> bytes:
    header = packet[:2] + struct.pack("!5H", 0x8180 | rcode, 1, answers, 0, 0)
    return header + packet[12:] + ANSWER_A * answers


def resolve(answer: UdpAnswer, *names: str, deadline_s: float = 5.0) -> Outcome:
    with udp_server(answer) as resolver:
        context = Context(names=names or ("example.org",), resolver=resolver)
        return run("dns", context, deadline_s)


def test_an_answer_with_an_address_is_ok_and_has_a_time() -> None:
    outcome = resolve(lambda packet: [reply(packet)])
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Dns)
    assert outcome.value.ok
    assert 0 < outcome.value.time_ms < 5000


@pytest.mark.parametrize(
    ("rcode", "said", "outcome_"),
    [
        (1, "FORMERR", "servfail"),
        (2, "SERVFAIL", "servfail"),
        (3, "NXDOMAIN", "nxdomain"),
        (5, "REFUSED", "refused"),
        (9, "RCODE 9", "servfail"),
    ],
)
def test_a_resolver_that_says_no_is_not_ok_and_quoted(rcode: int, said: str, outcome_: str) -> None:
    outcome = resolve(lambda packet: [reply(packet, rcode=rcode, answers=0)])
    assert isinstance(outcome.value, wire.Dns)
    assert not outcome.value.ok
    assert outcome.value.time_ms > 0
    assert outcome.value.outcome == outcome_
    assert outcome.error == f"127.0.0.1 answers {said} for example.org"


def test_an_answer_without_an_address_is_not_ok() -> None:
    outcome = resolve(lambda packet: [reply(packet, answers=0)])
    assert outcome.error == "127.0.0.1 answers no address for example.org"


@pytest.mark.parametrize("length", [15, 30, 33, 44])
def test_half_an_answer_is_not_ok(length: int) -> None:
    outcome = resolve(lambda packet: [reply(packet)[:length]])
    assert outcome.error == "127.0.0.1 answers half a packet for example.org"


def test_a_question_that_comes_back_is_not_ok() -> None:
    outcome = resolve(lambda packet: [packet])
    assert outcome.error == "127.0.0.1 answers something that is no answer for example.org"


def test_an_answer_to_another_question_is_not_ok() -> None:
    outcome = resolve(lambda packet: [reply(packet).replace(b"example", b"examplf")])
    assert outcome.error == "127.0.0.1 answers something that is no answer for example.org"


def test_garbage_and_foreign_answers_do_not_count() -> None:
    def answer(packet: bytes) -> list[bytes]:
        foreign = bytes([packet[0] ^ 0xFF]) + packet[1:]
        return [b"", b"\x00", foreign, reply(foreign), reply(packet)]

    outcome = resolve(answer)
    assert outcome.error is None


def test_garbage_alone_is_a_timeout() -> None:
    outcome = resolve(lambda packet: [bytes([packet[0] ^ 0xFF]) + b"??"], deadline_s=0.3)
    assert outcome.value == wire.Dns(ok=False, outcome="timeout")
    assert outcome.error == "timeout after 0.3 s"


def test_a_resolver_that_keeps_silent_is_a_timeout() -> None:
    outcome = resolve(lambda _: [], deadline_s=0.3)
    assert outcome.value == wire.Dns(ok=False, outcome="timeout")
    assert outcome.error == "timeout after 0.3 s"


def test_an_answer_after_the_deadline_counts_no_more() -> None:
    def answer(packet: bytes) -> list[bytes]:
        late.wait(0.5)
        return [reply(packet)]

    late = threading.Event()
    outcome = resolve(answer, deadline_s=0.3)
    late.set()
    assert outcome.error == "timeout after 0.3 s"


def test_another_resolver_is_asked_beside_it_and_does_not_decide() -> None:
    with (
        udp_server(lambda packet: [reply(packet)]) as resolver,
        udp_server(lambda packet: [reply(packet, rcode=2, answers=0)]) as other,
    ):
        context = Context(names=("example.org",), resolver=resolver, compare_with=other)
        outcome = run("dns", context, 5.0)
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Dns)
    assert outcome.value.ok
    compared = outcome.value.compared
    assert isinstance(compared, wire.ComparedDns)
    assert (compared.resolver, compared.ok, compared.outcome) == (other, False, "servfail")


def test_a_resolver_that_fails_is_told_beside_one_that_does_not() -> None:
    with udp_server(lambda packet: [reply(packet)]) as other:
        context = Context(names=("example.org",), resolver=unused_udp(), compare_with=other)
        outcome = run("dns", context, 5.0)
    assert outcome.error == "Connection refused"
    assert isinstance(outcome.value, wire.Dns)
    assert isinstance(outcome.value.compared, wire.ComparedDns)
    assert (outcome.value.ok, outcome.value.compared.ok) == (False, True)


@pytest.mark.parametrize(("silent", "outcome_"), [(True, "timeout"), (False, "unreachable")])
def test_why_the_other_resolver_failed_is_told(silent: bool, outcome_: str) -> None:
    with udp_server(lambda packet: [reply(packet)]) as resolver, udp_server(lambda _: []) as mute:
        other = mute if silent else unused_udp()
        context = Context(names=("example.org",), resolver=resolver, compare_with=other)
        outcome = run("dns", context, 0.5)
    assert isinstance(outcome.value, wire.Dns)
    assert isinstance(outcome.value.compared, wire.ComparedDns)
    assert outcome.value.compared.outcome == outcome_


def test_a_question_that_got_lost_is_asked_again() -> None:
    asked: list[bytes] = []

    def answer(packet: bytes) -> list[bytes]:
        asked.append(packet)
        return [reply(packet)] if len(asked) == 2 else []

    outcome = resolve(answer)
    assert isinstance(outcome.value, wire.Dns)
    assert outcome.value.time_ms >= 600, "the time counts from the first question"


def test_one_name_that_resolves_is_enough() -> None:
    outcome = resolve(
        lambda packet: [reply(packet, rcode=3 if b"gone" in packet else 0)],
        "gone.example.org",
        "example.org",
    )
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Dns)
    assert outcome.value.ok


def test_names_that_all_fail_are_all_named() -> None:
    outcome = resolve(lambda packet: [reply(packet, rcode=3, answers=0)], "a.example", "b.example")
    assert outcome.error is not None
    assert "NXDOMAIN for a.example" in outcome.error
    assert "NXDOMAIN for b.example" in outcome.error


def test_a_port_where_nobody_listens_is_refused_at_once() -> None:
    outcome = run("dns", Context(names=("example.org",), resolver=unused_udp()), 5.0)
    assert outcome.value == wire.Dns(ok=False, outcome="unreachable")
    assert outcome.error == "Connection refused"


def test_without_names_there_is_nothing_to_measure() -> None:
    outcome = run("dns", Context(), 1.0)
    assert (outcome.value, outcome.error) == (None, None)


@pytest.mark.parametrize("name", ["", "..", "a" * 64 + ".org", "a..b"])
def test_a_name_that_is_none_is_named(name: str) -> None:
    outcome = run("dns", Context(names=(name,), resolver="127.0.0.1"), 1.0)
    assert outcome.error == f"{name!r} is no host name"


def test_a_question_is_as_in_rfc_1035() -> None:
    assert question(0x1234, "example.org.") == bytes.fromhex(
        "1234 0100 0001 0000 0000 0000 07 6578616d706c65 03 6f7267 00 0001 0001"
    )


def test_the_systems_resolver_is_the_first_name_server() -> None:
    text = "# by dhcpcd\noptions edns0\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n"
    assert system_resolver(text) == "192.0.2.53"


def test_a_comment_that_is_not_utf_8_hides_no_name_server(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes("# für das Rathaus\nnameserver 192.0.2.53\n".encode("latin-1"))
    assert system_address(file) == "192.0.2.53"


@pytest.mark.parametrize("text", ["", "# nameserver 192.0.2.53\nnameserver\nsearch lan\n"])
def test_a_system_without_name_server_says_what_to_set(text: str) -> None:
    with pytest.raises(ProbeError, match=r"no nameserver .* set resolver in \[dns\]"):
        system_resolver(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_a_resolver_is_an_address_with_or_without_port(
    text: str, expected: tuple[str, int]
) -> None:
    assert endpoint(text) == expected


@pytest.mark.parametrize("text", ["dns.example", "192.0.2", "192.0.2.53:dns", "[2001:db8::53]"])
def test_a_resolver_that_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ProbeError, match="is no IP address"):
        endpoint(text)
