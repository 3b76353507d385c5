"""A device gets nothing through that is not its own, against the broker files we ship.

Mosquitto grants every subscription and drops a forbidden publish without a word,
so what counts here is what arrives. Nothing waits for silence to last: mosquitto
handles packets one after the other, so once a message that came *later* (a fence)
has arrived, what has not arrived by then never will.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import topic_matches_sub

from tests.lab.broker import SHIPPED, Broker
from tests.lab.peer import Peer, Refused
from tests.lab.pki import Authority
from tests.wait import until

_PAGE = Path(__file__).parents[2] / "docs" / "mqtt.md"
_ACL = SHIPPED / "acl"
OWN, OTHER = "bitung-0001", "bitung-0002"
_ROOT = "pantau/v1"
_WRITES = ("readings", "presence", "replies")
_READS = ("acks", "settings", "commands")
_SITE_TOPICS = [
    f"{_ROOT}/sites/{user}/{leaf}"
    for user in (OWN, OTHER, "_ingest")
    for leaf in (*_WRITES, *_READS)
]
_SERVICE_TOPICS = [
    f"{_ROOT}/state/maesa/telkom/{OWN}",
    f"{_ROOT}/state/maesa/telkom/{OTHER}",
    f"{_ROOT}/alerts/maesa/telkom/0f9c",
    f"{_ROOT}/server/ingest",
    f"{_ROOT}/server/ingest/marker",
    f"{_ROOT}/server/{OWN}",
    f"{_ROOT}/server/demo",
]
TOPICS = [*_SITE_TOPICS, *_SERVICE_TOPICS]
_NOBODYS = [
    *(f"{_ROOT}/sites/{user}/{leaf}" for user in ("_deploy", "_ops") for leaf in _WRITES),
    f"{_ROOT}/sites/{OWN}",
    f"{_ROOT}/sites/{OWN}/readings/more",
    f"{_ROOT}/sites/{OWN}/else",
    f"{_ROOT}/else",
]
"""Where no device has anything to say; operators would hear it."""
MAY_WRITE = {f"{_ROOT}/sites/{OWN}/{leaf}" for leaf in _WRITES}
MAY_READ = {f"{_ROOT}/sites/{OWN}/{leaf}" for leaf in _READS}
_MOST_BYTES = 16 << 20
"""The largest message by the shipped configuration."""
FENCE_OUT = f"{_ROOT}/sites/{OWN}/replies"
FENCE_IN = f"{_ROOT}/sites/{OWN}/acks"

_numbers = itertools.count()
versions = pytest.mark.parametrize("version", [4, 5], ids=["mqtt 3.1.1", "mqtt 5"])


def _each(names: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "topic", names, ids=lambda topic: topic.removeprefix(_ROOT + "/")
    )


topics = _each(TOPICS)
all_topics = _each([*TOPICS, *_NOBODYS])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("acl")
    # Small packets go out at once: it spares each of these tests several delayed TCP ACKs.
    quick = ["set_tcp_nodelay true"]
    with Broker(folder, authority=authority, extra=quick) as running:
        yield running


@pytest.fixture(scope="module")
def ingest(shipped: Broker) -> Iterator[Peer]:
    with Peer(shipped, "_ingest") as peer:
        yield peer


@pytest.fixture(scope="module")
def ops(shipped: Broker) -> Iterator[Peer]:
    """Sees everything, and so tells what the broker really passed on."""
    with Peer(shipped, "_ops") as peer:
        peer.subscribe(f"{_ROOT}/#")
        yield peer


@pytest.fixture(scope="module")
def other(shipped: Broker) -> Iterator[Peer]:
    with Peer(shipped, OTHER) as peer:
        yield peer


def _word() -> bytes:
    """A payload that no other message has."""
    return b"word-%d" % next(_numbers)


def _rightful(topic: str, *, own: Peer, other: Peer, ingest: Peer) -> Peer:
    """Who is allowed to publish on `topic`."""
    if topic in MAY_WRITE:
        return own
    return other if topic.split("/")[3:] in [[OTHER, leaf] for leaf in _WRITES] else ingest


def _retained_now(ops: Peer, own: Peer, topic: str) -> list[bytes]:
    """What stands retained on `topic`: subscribing again delivers it again."""
    before, fence = len(ops.heard), _word()
    ops.subscribe(f"{_ROOT}/#")
    own.publish(FENCE_OUT, fence)
    ops.wait_for(fence)
    return [m.payload for m in ops.heard[before:] if m.topic == topic and m.retained]


def test_the_matrix_holds_every_topic_of_the_page_and_of_the_acl() -> None:
    names = {"SITE": OWN, "DISTRICT": "maesa", "ISP": "telkom", "ALERT": "0f9c", "NAME": "ingest"}
    page = re.findall(r"^\| \[`(pantau/\S+)`\]", _PAGE.read_text(), re.MULTILINE)
    assert len(page) >= 10
    for topic in page:
        assert re.sub(r"\b[A-Z]+\b", lambda found: names[found[0]], topic) in TOPICS
    acl = re.findall(r"^(?:pattern|topic) \w+ (\S+)$", _ACL.read_text(), re.MULTILINE)
    assert len(acl) >= 15
    for allowed in acl:
        wanted = allowed.replace("%u", OWN)
        assert any(topic_matches_sub(wanted, topic) for topic in TOPICS), allowed


@versions
@all_topics
@pytest.mark.parametrize("retain", [False, True], ids=["passing", "retained"])
def test_a_publish_goes_through_only_on_own_topics(
    shipped: Broker, ops: Peer, version: int, topic: str, retain: bool
) -> None:
    word, fence = _word(), _word()
    with Peer(shipped, OWN, version=version) as own:
        own.publish(topic, word, retain=retain)
        own.publish(FENCE_OUT, fence)
        ops.wait_for(fence)
        assert ops.has(word) == (topic in MAY_WRITE)
        if retain:
            assert _retained_now(ops, own, topic) == ([word] if topic in MAY_WRITE else [])
            own.publish(topic, b"", retain=True)


@versions
@all_topics
@pytest.mark.parametrize("retain", [False, True], ids=["passing", "retained"])
def test_a_will_goes_through_only_on_own_topics(
    shipped: Broker, ops: Peer, version: int, topic: str, retain: bool
) -> None:
    word, fence = _word(), _word()
    try:
        Peer(shipped, OWN, version=version, will=(topic, word, retain)).connect().cut()
    except Refused:
        assert topic not in MAY_WRITE
    # The broker sends what is due of the old session before it admits the new one.
    with Peer(shipped, OWN, version=version) as own:
        own.publish(FENCE_OUT, fence)
        ops.wait_for(fence)
        assert ops.has(word) == (topic in MAY_WRITE)
        if retain:
            assert _retained_now(ops, own, topic) == ([word] if topic in MAY_WRITE else [])
            own.publish(topic, b"", retain=True)


@versions
@topics
def test_a_subscription_delivers_only_own_topics(
    shipped: Broker, ops: Peer, ingest: Peer, other: Peer, version: int, topic: str
) -> None:
    kept, live, fence = _word(), _word(), _word()
    with Peer(shipped, OWN, version=version) as own:
        rightful = _rightful(topic, own=own, other=other, ingest=ingest)
        rightful.publish(topic, kept, retain=True)
        ops.wait_for(kept)
        own.subscribe(topic)
        rightful.publish(topic, live)
        ops.wait_for(live)
        own.subscribe(FENCE_IN)
        ingest.publish(FENCE_IN, fence)
        own.wait_for(fence)
        assert (own.has(kept), own.has(live)) == ((True, True) if topic in MAY_READ else (0, 0))
        rightful.publish(topic, b"", retain=True)


@versions
@pytest.mark.parametrize(
    "pattern",
    [
        *(f"{_ROOT}/#", "#", "+/+/#", f"{_ROOT}/sites/#", f"{_ROOT}/sites/+/+", "+/+/+/+/+"),
        f"$share/group/{_ROOT}/#",
    ],
)
def test_a_wildcard_subscription_delivers_only_own_topics(
    shipped: Broker, ops: Peer, ingest: Peer, other: Peer, version: int, pattern: str
) -> None:
    fence = _word()
    with Peer(shipped, OWN, version=version) as own:
        own.subscribe(pattern)
        for topic in TOPICS:
            word = _word()
            _rightful(topic, own=own, other=other, ingest=ingest).publish(topic, word)
            ops.wait_for(word)
        ingest.publish(FENCE_IN, fence)
        own.wait_for(fence)
        assert {message.topic for message in own.heard} == MAY_READ


@versions
def test_a_device_hears_nothing_of_the_brokers_own_topics(
    shipped: Broker, ingest: Peer, version: int
) -> None:
    with Peer(shipped, OWN, version=version) as own:
        fence = _word()
        own.subscribe("$SYS/#")
        own.subscribe(FENCE_IN)
        ingest.publish(FENCE_IN, fence)
        own.wait_for(fence)
        assert [message.topic for message in own.heard] == [FENCE_IN]


def test_the_brokers_own_topics_do_speak_where_no_acl_forbids_it(broker: Broker) -> None:
    with Peer(broker, "anyone") as anyone:
        anyone.subscribe("$SYS/broker/version")
        anyone.wait_for(b"mosquitto version " + _version_in(broker))


def _version_in(broker: Broker) -> bytes:
    return broker.log.read_text().split("mosquitto version ")[1].split()[0].encode()


@versions
@pytest.mark.parametrize("claimed", [None, OTHER, "_ingest"])
@pytest.mark.parametrize("victim", [OTHER, "_ingest"])
def test_a_foreign_client_id_takes_over_nobody(
    shipped: Broker,
    ops: Peer,
    ingest: Peer,
    other: Peer,
    version: int,
    victim: str,
    claimed: str | None,
) -> None:
    target, topic = {
        OTHER: (other, f"{_ROOT}/sites/{OTHER}/commands"),
        "_ingest": (ingest, f"{_ROOT}/server/ingest/marker"),
    }[victim]
    target.subscribe(topic)
    word, forged, fence = _word(), _word(), _word()
    with Peer(shipped, OWN, version=version, client_id=victim, claimed=claimed) as intruder:
        intruder.subscribe(topic)
        intruder.publish(topic, forged)
        ingest.publish(topic, word)
        target.wait_for(word)
        intruder.subscribe(FENCE_IN)
        ingest.publish(FENCE_IN, fence)
        intruder.wait_for(fence)
        assert [message.payload for message in intruder.heard] == [fence]
    assert not ops.has(forged)
    assert target.disconnects == 0


@versions
@pytest.mark.parametrize("clean", [True, False], ids=["to wipe it", "to read it"])
def test_a_foreign_client_id_reaches_no_session_that_is_kept(
    shipped: Broker, ingest: Peer, version: int, clean: bool
) -> None:
    victim = "bitung-0003"
    topic, word, fence = f"{_ROOT}/sites/{victim}/commands", _word(), _word()
    with Peer(shipped, victim, version=version, clean=False) as before:
        before.subscribe(topic)
    ingest.publish(topic, word)
    with Peer(shipped, OWN, version=version, client_id=victim, clean=clean) as intruder:
        intruder.subscribe(FENCE_IN)
        ingest.publish(FENCE_IN, fence)
        intruder.wait_for(fence)
        assert not intruder.has(word)
    with Peer(shipped, victim, version=version, clean=False) as after:
        after.wait_for(word)
    with Peer(shipped, victim, version=version):
        pass  # a clean session, so that the next round begins without one
    with Peer(shipped, OWN, version=version):
        pass


@versions
@pytest.mark.parametrize("name", ["+", "#"])
def test_a_name_that_is_a_wildcard_opens_nothing(
    shipped: Broker, ops: Peer, ingest: Peer, version: int, name: str
) -> None:
    words = {topic: _word() for topic in _SITE_TOPICS}
    try:
        with Peer(shipped, name, version=version, client_id="wild") as wild:
            wild.subscribe(f"{_ROOT}/sites/#")
            for topic, word in words.items():
                wild.publish(topic, word)
            for leaf in _READS:
                ingest.publish(f"{_ROOT}/sites/{OTHER}/{leaf}", _word())
    except Refused:
        return
    fence = _word()
    ingest.publish(f"{_ROOT}/server/ingest", fence)
    ops.wait_for(fence)
    assert [word for word in words.values() if ops.has(word)] == []
    assert wild.heard == []


@versions
def test_ingest_hears_every_device_and_may_answer(
    shipped: Broker, ops: Peer, ingest: Peer, version: int
) -> None:
    marker = f"{_ROOT}/server/ingest/marker"
    for pattern in (*(f"{_ROOT}/sites/+/{leaf}" for leaf in _WRITES), marker):
        ingest.subscribe(pattern)
    with Peer(shipped, OWN, version=version) as own:
        for leaf in _WRITES:
            word = _word()
            own.publish(f"{_ROOT}/sites/{OWN}/{leaf}", word)
            ingest.wait_for(word)
        for leaf in _READS:
            word = _word()
            own.subscribe(f"{_ROOT}/sites/{OWN}/{leaf}")
            ingest.publish(f"{_ROOT}/sites/{OWN}/{leaf}", word, retain=leaf != "commands")
            own.wait_for(word)
            ingest.publish(f"{_ROOT}/sites/{OWN}/{leaf}", b"", retain=True)
    for topic in _SERVICE_TOPICS:
        word = _word()
        ingest.publish(topic, word)
        ops.wait_for(word)
    word = _word()
    ingest.publish(marker, word)
    ingest.wait_for(word)


def test_ingest_cannot_speak_for_a_device(ops: Peer, ingest: Peer) -> None:
    words = [_word(), _word()]
    for leaf, word in zip(("readings", "replies"), words, strict=True):
        ingest.publish(f"{_ROOT}/sites/{OWN}/{leaf}", word)
    fence = _word()
    ingest.publish(f"{_ROOT}/server/ingest", fence)
    ops.wait_for(fence)
    assert [word for word in words if ops.has(word)] == []


@topics
def test_operators_look_and_change_nothing(
    ops: Peer, ingest: Peer, other: Peer, shipped: Broker, topic: str
) -> None:
    forged, fence, word = _word(), _word(), _word()
    ops.publish(topic, forged, retain=True)
    ingest.publish(f"{_ROOT}/server/ingest", fence)
    ops.wait_for(fence)
    assert not ops.has(forged)
    with Peer(shipped, OWN) as own:
        _rightful(topic, own=own, other=other, ingest=ingest).publish(topic, word)
        ops.wait_for(word)


@topics
def test_the_playbooks_hear_states_alone_and_change_nothing(
    ops: Peer, ingest: Peer, other: Peer, shipped: Broker, topic: str
) -> None:
    forged, fence, word = _word(), _word(), _word()
    with Peer(shipped, "_deploy") as deploy, Peer(shipped, OWN) as own:
        deploy.publish(topic, forged, retain=True)
        deploy.subscribe(topic)
        _rightful(topic, own=own, other=other, ingest=ingest).publish(topic, word)
        ops.wait_for(word)
        state = f"{_ROOT}/state/maesa/telkom/{OWN}"
        deploy.subscribe(state)
        ingest.publish(state, fence)
        deploy.wait_for(fence)
        assert deploy.has(word) == topic.startswith(f"{_ROOT}/state/")
    assert not ops.has(forged)


@versions
def test_the_playbooks_leave_no_will_that_anyone_hears(
    shipped: Broker, ops: Peer, ingest: Peer, version: int
) -> None:
    words = {topic: _word() for topic in TOPICS}
    for topic, word in words.items():
        with contextlib.suppress(Refused):
            Peer(shipped, "_deploy", version=version, will=(topic, word, True)).connect().cut()
    with Peer(shipped, "_deploy", version=version):
        pass  # the broker sends what is due of the last session first
    fence = _word()
    ingest.publish(f"{_ROOT}/server/ingest", fence)
    ops.wait_for(fence)
    assert [topic for topic, word in words.items() if ops.has(word)] == []


@versions
@pytest.mark.parametrize("service", ["_ingest", "_ops", "_deploy"])
def test_a_device_speaks_for_no_service_whatever_it_claims_to_be(
    shipped: Broker, ops: Peer, version: int, service: str
) -> None:
    """Every topic, published and as a will, with the service's client id and user name."""
    leaves = (*_WRITES, *_READS)
    topics = [*TOPICS, *(f"{_ROOT}/sites/{service}/{leaf}" for leaf in leaves)]
    said, willed = ({topic: _word() for topic in topics if topic not in MAY_WRITE} for _ in "12")
    fence = _word()
    more = {"version": version, "client_id": service, "claimed": service}
    for topic in said:
        with contextlib.suppress(Refused):
            device = Peer(shipped, OWN, will=(topic, willed[topic], True), **more).connect()  # type: ignore[arg-type]  # they fit
            device.publish(topic, said[topic], retain=True)
            device.cut()
    with Peer(shipped, OWN, version=version) as own:
        own.publish(FENCE_OUT, fence)
        ops.wait_for(fence)
    assert [topic for topic, word in said.items() if ops.has(word)] == []
    assert [topic for topic, word in willed.items() if ops.has(word)] == []
    assert ops.disconnects == 0


@versions
def test_a_message_that_is_too_large_reaches_nobody_and_hurts_nobody(
    shipped: Broker, ops: Peer, other: Peer, version: int
) -> None:
    """On MQTT 5 it ends the connection of who sent it; on 3.1.1 that one goes on as well."""
    too_large, aside, after = b"x" * (_MOST_BYTES + 1), _word(), _word()
    theirs = f"{_ROOT}/sites/{OTHER}/replies"
    disconnects = other.disconnects, ops.disconnects
    with Peer(shipped, OWN, version=version) as own:
        other.publish(theirs, aside)
        own.send(f"{_ROOT}/sites/{OWN}/readings", too_large)
        if version == 5:
            until(lambda: own.disconnects, 60, "the end of the connection")
        else:
            own.publish(FENCE_OUT, after)
            ops.wait_for(after)
    with Peer(shipped, OWN, version=version) as own:
        fence = _word()
        other.publish(theirs, fence)
        own.publish(FENCE_OUT, fence + b" too")
        for word in (aside, fence, fence + b" too"):
            ops.wait_for(word)
    assert max(len(message.payload) for message in ops.heard) < len(too_large)
    assert (other.disconnects, ops.disconnects) == disconnects


@versions
def test_without_a_certificate_nobody_gets_in(
    shipped: Broker, tmp_path_factory: pytest.TempPathFactory, version: int
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "Another CA")
    with pytest.raises(Refused):
        Peer(shipped, OWN, version=version, authority=stranger).connect()
    with pytest.raises(Refused):
        Peer(shipped, OWN, version=version, certificate=False, claimed=OWN).connect()
    with Peer(shipped, OWN, version=version):
        pass  # the same with our certificate


def test_without_tls_nobody_gets_in(shipped: Broker) -> None:
    connect = bytes.fromhex("101700044d5154540402001e000b") + OWN.encode()
    with socket.create_connection((shipped.host, shipped.port), timeout=20) as plain:
        plain.sendall(connect)
        with contextlib.suppress(ConnectionResetError):
            assert not plain.recv(64).startswith(b"\x20"), "a CONNACK without TLS"
