"""The filter probe against a resolver that filters as a test wants."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from agent import wire
from agent.measured import Outcome
from agent.probes import Context, FilterRules, Runner
from agent.probes.dns_filter import FilterProbe, manner
from agent.probes.dns_packet import Answer, judge, question
from tests.agent.servers import udp_server, unused_udp

OPEN = "192.0.2.1"
PAGE = "203.0.113.80"
PAGES = (PAGE, "198.51.100.0/24", "page.example")


def record(kind: int, data: bytes) -> bytes:
    return struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"


def reply(packet: bytes, *records: bytes, rcode: int = 0) -> bytes:
    header = packet[:2] + struct.pack("!5H", 0x8180 | rcode, 1, len(records), 0, 0)
    return header + packet[12:] + b"".join(records)


def a(address: str) -> bytes:
    return record(1, socket.inet_aton(address))


def cname(name: str) -> bytes:
    return record(5, encoded(name))


def resolver(packet: bytes) -> list[bytes]:
    """Filters in every manner, by the first label of the name."""
    manners: dict[bytes, Callable[[], list[bytes]]] = {
        b"open": lambda: [reply(packet, a(OPEN))],
        b"answer": lambda: [reply(packet, a(PAGE))],
        b"cname": lambda: [reply(packet, cname("www.page.example"), a("192.0.2.80"))],
        b"nxdomain": lambda: [reply(packet, rcode=3)],
        b"refused": lambda: [reply(packet, rcode=5)],
        b"empty": lambda: [reply(packet)],
        b"servfail": lambda: [reply(packet, rcode=2)],
        b"silent": list,
    }
    return manners[packet[13 : 13 + packet[12]]]()


def look(*must_be_filtered: str, must_resolve: tuple[str, ...] = ()) -> Outcome:
    rules = FilterRules(must_resolve, must_be_filtered, PAGES, 3600.0)
    with udp_server(resolver) as place:
        context = Context(resolver=place, filter=rules)
        return Runner({"filter": FilterProbe()}).run("filter", context, 1.0)


@pytest.mark.parametrize("how", ["answer", "cname", "nxdomain", "refused", "empty"])
def test_a_name_that_is_filtered_is_told_with_how(how: str) -> None:
    outcome = look(f"{how}.example")
    assert outcome.error is None
    assert isinstance(outcome.value, wire.Filter)
    found = outcome.value.names[f"{how}.example"]
    assert (found.ok, found.how, outcome.value.wrong) == (True, how, 0)


def test_a_name_that_should_be_filtered_and_is_not_is_wrong() -> None:
    outcome = look("open.example")
    assert outcome.value == wire.Filter(
        wrong=1, names={"open.example": wire.FilteredName(ok=False, how="open")}
    )


def test_a_name_that_must_resolve_and_is_filtered_is_wrong() -> None:
    outcome = look(must_resolve=("open.example", "cname.example"))
    assert outcome.value == wire.Filter(
        wrong=1,
        names={
            "open.example": wire.FilteredName(ok=True, how="open"),
            "cname.example": wire.FilteredName(ok=False, how="cname"),
        },
    )


def test_a_name_without_a_usable_answer_is_not_judged_but_told() -> None:
    outcome = look("servfail.example", "silent.example", "nxdomain.example")
    assert isinstance(outcome.value, wire.Filter)
    assert list(outcome.value.names) == ["nxdomain.example"]
    assert outcome.error is not None
    assert "answers SERVFAIL for servfail.example" in outcome.error
    assert "is silent about silent.example" in outcome.error


def test_a_resolver_that_is_not_there_is_named() -> None:
    context = Context(resolver=unused_udp(), filter=FilterRules(("open.example",), (), (), 3600.0))
    outcome = Runner({"filter": FilterProbe()}).run("filter", context, 1.0)
    assert (outcome.value, outcome.error) == (None, "Connection refused")


def test_a_silent_resolver_is_a_timeout_and_asked_again_in_the_next_window() -> None:
    runner = Runner({"filter": FilterProbe()})
    rules = FilterRules(("silent.example",), (), (), 3600.0)
    with udp_server(resolver) as place:
        outcomes = [
            runner.run("filter", Context(resolver=place, filter=rules), 0.3) for _ in range(2)
        ]
    assert [one.error for one in outcomes] == ["timeout after 0.3 s"] * 2


def test_what_was_looked_at_is_left_alone_until_it_is_due() -> None:
    runner = Runner({"filter": FilterProbe()})
    rules = FilterRules(("open.example",), (), (), 3600.0)
    with udp_server(resolver) as place:
        context = Context(resolver=place, filter=rules)
        first, second = (runner.run("filter", context, 1.0) for _ in range(2))
    assert first.value is not None
    assert (second.value, second.error) == (None, None)


def test_without_names_there_is_nothing_to_look_at() -> None:
    outcome = Runner({"filter": FilterProbe()}).run("filter", Context(), 1.0)
    assert (outcome.value, outcome.error) == (None, None)


def test_an_address_where_nobody_can_be_is_a_filter_without_pages() -> None:
    assert manner(Answer("answer", addresses=("0.0.0.0",)), ()) == "answer"  # noqa: S104  # no bind


def test_an_address_in_a_network_of_pages_is_the_filter() -> None:
    assert manner(Answer("answer", addresses=("198.51.100.7",)), PAGES) == "answer"


def test_a_name_that_only_ends_like_a_page_is_not_the_filter() -> None:
    found = Answer("answer", addresses=(OPEN,), aliases=("homepage.example",))
    assert manner(found, PAGES) == "open"


def test_names_that_point_back_are_followed_and_circles_are_garbage() -> None:
    asked = question(1, "a.example")
    good = reply(asked, record(5, b"\x03www\xc0\x0c"), a(OPEN))
    assert judge(good, asked) == Answer("answer", "", (OPEN,), ("www.a.example",))
    at = len(asked) + 12
    circle = reply(asked, record(5, bytes([0xC0, at])), a(OPEN))
    assert judge(circle, asked).outcome == "garbage"


@pytest.mark.parametrize("length", [0, 3, 5, 16])
def test_an_address_of_another_length_is_garbage(length: int) -> None:
    asked = question(1, "a.example")
    assert judge(reply(asked, a(OPEN), record(1, bytes(length))), asked).outcome == "garbage"
