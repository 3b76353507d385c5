"""The fuzzer over the wire: a real mosquitto, `pantau ingest` and `pantau-agent run`.

The same damaged payloads, some with odd MQTT 5 properties, and what a broker may be handed
besides. After each chunk a good reading must be stored and acknowledged, and the agent must
answer a command; then every message of the chunk is held against the judge.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.fuzzing import garbled, properties
from bench.fuzzing.compare import Aside, Compare, Message
from bench.fuzzing.findings import Report, rss_mib
from bench.fuzzing.judge import inflated
from bench.fuzzing.seeds import TO_AGENT, Seeds
from bench.fuzzing.traffic import MARKER, Traffic
from tests.lab.city import City
from tests.lab.peer import Peer
from tests.lab.process import Service
from tests.wait import until

ANSWER_S = 90.0
"""An answer that takes longer is none; the slowest is told (a busy machine makes it slow)."""
CHUNK = 100
"""Payloads between two answers; the agent's queue holds 100."""
GROWTH_MIB = 32.0
"""What a process may grow by; the largest messages pass before it is first measured."""
_AGENT, _GOOD = "real-0001", "good-0001"
_SITES = [f"fuzz-{n:04}" for n in range(20)]
_LARGEST = 16 << 20
_STANDING = (
    *("pantau/v1/sites/fuzz-0001/readings", "pantau/v1/sites/fuzz-0002/presence"),
    *("pantau/v1/sites/fuzz-0003/replies", "pantau/v1/sites//readings"),
)
_STANDING_ELSEWHERE = (
    *(f"pantau/v1/sites/{_AGENT}/{leaf}" for leaf in TO_AGENT),
    *("pantau/v1/state/a/b/c", "pantau/v1/state/" + "y" * 60_000, "pantau/v1/alerts/a/b/c"),
    *(MARKER, "pantau/v1/server/ingest", f"pantau/v1/sites/{_GOOD}/acks"),
)
_BAD_WORDS = ("Traceback", "internal error", "fault of ours", "could not be handled")


def run(
    folder: Path,
    seed: int,
    payloads: int,
    say: Callable[[Report], None] = lambda _: None,
    *,
    pantau: Sequence[str] = (),
) -> Report:
    """Fuzz so many payloads over the wire; the same seed makes the same ones, but for times.

    Args:
        folder: broker, ingest and agent live here.
        seed: decides all.
        payloads: how many.
        say: told of each tenth.
        pantau: what to run as ingest instead of the installed command.
    """
    report = Report(growth_limit_mib=GROWTH_MIB)
    known = [site for n, site in enumerate(_SITES) if n % 5]
    city = City(folder / "city", None, [_AGENT], also=[_GOOD, *known])
    if pantau:
        city.ingest.command[:1] = pantau
    with city:
        city.agents[_AGENT].tables["mqtt"]["keepalive_s"] = 15
        city.agents[_AGENT].start()
        rng = random.Random(seed)  # noqa: S311  # by seed
        with Peer(city.broker, "_fuzz", version=5) as peer:
            wire = OverWire(city, peer, rng, report)
            try:
                wire.begin()
                wire.go(payloads, say)
                wire.hand_over_garbage()
                wire.restart()
            except AssertionError as err:
                report.find("no answer", "", b"", str(err))
            wire.end()
    return report


class OverWire:
    """One run against `city`, of which `peer` is the device that sends."""

    def __init__(self, city: City, peer: Peer, rng: random.Random, report: Report) -> None:
        self._city, self._peer, self._rng, self._report = city, peer, rng, report
        self._agent = city.agents[_AGENT]
        self._look = Compare(city.database, report)
        self._pids = {city.ingest.name: city.ingest.pid, _AGENT: self._agent.pid}
        self._agent_rss_mib: list[float] = []
        self._settled = 0
        for topic in (f"{_GOOD}/acks", f"{_AGENT}/replies"):
            peer.subscribe(f"pantau/v1/sites/{topic}")

    # The way there and back

    def _send(self, message: Message, odd: bool = False) -> None:
        more = properties.odd(self._rng) if odd else None
        self._peer.send(message.topic, message.payload, retain=message.retain, properties=more)

    def _heard(self, leaf: str, key: str, value: object) -> bool:
        """Whether something with this key came; what came is forgotten."""
        heard, self._peer.heard = self._peer.heard, []
        for one in heard:
            if one.topic.endswith(leaf):
                body = json.loads(one.payload) if one.payload[:1] == b"{" else {}
                if body.get(key) == value:
                    return True
        return False

    def _await(self, who: str, leaf: str, key: str, value: object, service: Service) -> None:
        begun_s = time.monotonic()
        until(lambda: self._heard(leaf, key, value), ANSWER_S, f"an answer of {who}")
        took_ms = int(1000 * (time.monotonic() - begun_s))
        name = f"slowest answer of {who}, ms"
        self._report.verdicts[name] = max(took_ms, self._report.verdicts[name])
        self._lives(service)

    def settle_ingest(self) -> None:
        """A good reading is stored and acknowledged, so all that was sent before is taken in."""
        stream = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        now = time.time()
        seeds = Seeds(self._rng, [_GOOD], _AGENT, lambda: stream)
        seeds.begin(now)
        while True:
            _, tree = seeds.make("readings", now)
            if len(tree["readings"]) == 1:
                break
        tree["stream"], tree["oldest"], tree["readings"][0]["seq"] = stream, 1, 1
        message = Message(
            f"pantau/v1/sites/{_GOOD}/readings", json.dumps(tree).encode(), False, now
        )
        self._send(message)
        self._await("ingest", "/acks", "stream", stream, self._city.ingest)
        self._look.one(message, [])

    def settle_agent(self) -> None:
        """The agent answers a command, so it has taken all that was sent before."""
        self._settled += 1
        asked = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        command = {"v": 1, "site": _AGENT, "id": asked, "do": "probe", "args": {"name": "none"}}
        command["expires_at"] = "2099-01-01T00:00:00.000Z"
        topic = f"pantau/v1/sites/{_AGENT}/commands"
        self._send(Message(topic, json.dumps(command).encode(), False, 0.0))
        self._await("the agent", "/replies", "id", asked, self._agent)

    def _lives(self, service: Service) -> None:
        if not service.running or service.pid != self._pids[service.name]:
            self._report.find(f"{service.name} ended", "", b"", str(service))

    # What is sent

    def begin(self) -> None:
        """Wait until both work; the largest messages pass once, so that memory has its shape."""
        until(lambda: self._look.newest_stream(_AGENT), 60, "the agent's first reading")
        self.settle_agent()
        self._chunk(self._large())

    def _large(self) -> list[Message]:
        """Payloads about as large as the broker takes; the last of each is beyond it."""
        topics = [f"pantau/v1/sites/{_SITES[1]}/readings", f"pantau/v1/sites/{_SITES[1]}/presence"]
        return [
            Message(topic, byte * size, False, 0.0)
            for topic in topics
            for byte, size in ((b" ", _LARGEST), (b"[", _LARGEST - 1), (b"x", _LARGEST))
        ]

    def go(self, payloads: int, say: Callable[[Report], None]) -> None:
        """So many damaged payloads, chunk by chunk."""
        stream = self._look.newest_stream(_AGENT) or ""
        verbs = ("resend", "reading", "probe", "echo", "dance")
        seeds = Seeds(self._rng, _SITES, _AGENT, lambda: stream, verbs=verbs, broker=False)
        seeds.begin(time.time())
        traffic = Traffic(self._rng, seeds)
        begun_s = time.monotonic()
        while self._report.payloads < payloads:
            chunk = []
            stream = self._look.newest_stream(_AGENT) or stream
            for _ in range(min(CHUNK, payloads - self._report.payloads)):
                leaf, message = traffic.next(time.time())
                self._report.payloads += 1
                if "\n" in message.topic:
                    continue  # a topic that no broker takes; see `hand_over_garbage`
                if leaf in TO_AGENT:
                    self._report.verdicts["to the agent"] += 1
                    self._send(message, odd=self._rng.random() < 0.2)
                else:
                    chunk.append(message)
            traffic.sent = chunk[:20]
            self._chunk(chunk)
            self.settle_agent()
            if self._report.payloads * 20 // payloads > len(self._report.rss_mib):
                self._sample()
            if self._report.payloads * 10 // payloads > len(self._report.tenths_s):
                self._report.tenths_s.append(time.monotonic() - begun_s)
                say(self._report)

    def _chunk(self, messages: list[Message]) -> None:
        """Send them, wait until they are taken in, and hold them against the judge."""
        for one in messages:
            self._send(one, odd=self._rng.random() < 0.2)
        self.settle_ingest()
        asides = list(self._look.asides().values())
        for one in messages:
            if one.topic != MARKER:
                mine = bool(asides) and _of(one, asides[0][0])
                self._look.one(one, asides.pop(0) if mine else [])
        for left in asides:
            self._look.unsent(left[0])

    def _sample(self) -> None:
        self._report.rss_mib.append(rss_mib(self._city.ingest.pid))
        self._agent_rss_mib.append(rss_mib(self._agent.pid))

    def hand_over_garbage(self) -> None:
        """What no client library sends; the broker must end such a connection."""
        for name, version, packet in garbled.packets():
            if not garbled.refused(self._city.broker.host, self._city.broker.port, version, packet):
                self._report.find("the broker bears what is no MQTT", name, packet)
            self._report.verdicts["refused by the broker"] += 1
        empty = [f"pantau/v1/sites/{_SITES[1]}/{leaf}" for leaf in ("readings", "presence")]
        beyond = Message(empty[0], b" " * (_LARGEST + 1), False, 0.0)
        with Peer(self._city.broker, "_large", version=5) as other:  # the broker may end it
            other.send(beyond.topic, beyond.payload)
            until(lambda: "_large" in self._city.broker.log.read_text(), ANSWER_S, "its login")
        self._chunk([Message(topic, b"", False, 0.0) for topic in empty])
        self._chunk(self._large())
        self.settle_agent()

    # What stands at the broker when both start

    def restart(self) -> None:
        """Garbage stands retained on all that both read at their start, and both start."""
        self._chunk(
            [Message(topic, b"\xff{[" + topic.encode()[:40], True, 0.0) for topic in _STANDING]
        )
        for topic in _STANDING_ELSEWHERE:
            self._peer.publish(topic, b'\xff{"' + topic.encode()[:40], retain=True)
        before = self._city.ingest.stop(), self._agent.stop()
        if any(before):
            self._report.find("ended otherwise than in order", "", b"", str(before))
        self._city.ingest.start()
        self._city.at_work()
        self._agent.start()
        self._pids = {"ingest": self._city.ingest.pid, _AGENT: self._agent.pid}
        until(lambda: self._agent.lines("connected"), 30, f"the agent\n{self._agent}")
        self.settle_ingest()
        self.settle_agent()
        met = {row.topic for rows in self._look.asides().values() for row in rows}
        for topic in set(_STANDING) - met:
            self._report.find("what stood at the broker is not in quarantine", topic, b"")
        self._report.verdicts["restarted on garbage"] = 2

    def end(self) -> None:
        """What both said, what they hold, and what a command shows of it."""
        for service in (self._city.ingest, self._agent):
            log = service.log.read_text(errors="replace")
            for word, count in Counter(w for w in _BAD_WORDS for _ in range(log.count(w))).items():
                self._report.find(f"{service.name} says {word!r}", "", b"", f"{count}\n{service}")
        self._report.verdicts["answers of the agent"] = self._settled
        if len(self._agent_rss_mib) > 1:
            grown = self._agent_rss_mib[-1] - self._agent_rss_mib[0]
            self._report.verdicts["the agent grew by KiB"] = int(1024 * grown)
            if grown > GROWTH_MIB:
                self._report.find("the agent's memory grows", "", b"", f"{self._agent_rss_mib}")
        shown = sum(1 for _ in self._city.rows("quarantine"))
        self._report.verdicts["rows of the quarantine"] = shown
        if shown != self._look.rows:
            self._report.find("`pantau quarantine` shows other rows than there are", "", b"")
        self._look.close()


def _of(message: Message, row: Aside) -> bool:
    """Whether a row of the quarantine may come of this message."""
    if row.topic != message.topic:
        return False
    if row.size_bytes == len(message.payload) and message.payload.startswith(row.head):
        return True
    return row.head in inflated(message.payload)
