"""The running agent is led to another broker or to other targets, good and bad ones."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.agent.servers import unused_tcp
from tests.agent.test_main import SITE, WAIT_S, configure, give_command, heard, running
from tests.lab.broker import Broker
from tests.lab.peer import Peer
from tests.wait import until

pytestmark = pytest.mark.slow

_ACKS = wire.site_topic(SITE, "acks")


@contextlib.contextmanager
def _confirming(broker: Broker) -> Iterator[Peer]:
    """A server at `broker` that confirms each reading; it does nothing else."""
    with Peer(broker, "_server") as peer:
        peer.subscribe("pantau/v1/sites/+/+")
        stop = threading.Event()

        def confirm() -> None:
            done, stored, through = 0, defaultdict[str, set[int]](set), Counter[str]()
            while not stop.wait(0.05):
                messages = heard(peer, "readings")
                for message in messages[done:]:
                    stream = message["stream"]
                    stored[stream].update(reading["seq"] for reading in message["readings"])
                    while through[stream] + 1 in stored[stream]:
                        through[stream] += 1
                    ack = {"v": 1, "stream": stream, "through": through[stream]}
                    peer.publish(_ACKS, json.dumps(ack), retain=True)
                done = len(messages)

        thread = threading.Thread(target=confirm)
        thread.start()
        try:
            yield peer
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def folder(tmp_path: Path, broker: Broker) -> Path:
    configure(tmp_path, f'url = "{broker.url}"\nkeepalive_s = 2')
    return tmp_path


def _trial(folder: Path, trial_s: int) -> None:
    """Short where no time would be enough, and long where some proof must come in time."""
    with (folder / "agent.toml").open("a") as file:
        file.write(f"[settings]\ntrial_s = {trial_s}\n")


def _set(peer: Peer, revision: int, **settings: Any) -> None:
    message = {"v": 1, "site": SITE, "revision": revision, **settings}
    peer.publish(wire.site_topic(SITE, "settings"), json.dumps(message), retain=True)


def _replies(peer: Peer, revision: int) -> list[dict[str, Any]]:
    return [reply for reply in heard(peer, "replies") if reply["id"] == f"settings-{revision}"]


def _revisions(peer: Peer) -> list[int | None]:
    """Under which settings the readings were taken that this broker was sent, in order."""
    return [
        reading.get("settings_revision")
        for message in heard(peer, "readings")
        for reading in message["readings"]
    ]


def _seqs(*peers: Peer) -> set[int]:
    return {
        reading["seq"]
        for peer in peers
        for message in heard(peer, "readings")
        for reading in message["readings"]
    }


def test_a_swap_to_a_broker_that_works_is_kept_and_confirmed_there(
    folder: Path, tmp_path: Path, broker: Broker
) -> None:
    _trial(folder, 30)
    with (
        Broker(tmp_path / "other") as other,
        _confirming(broker) as before,
        _confirming(other) as after,
        running(folder) as service,
    ):
        until(lambda: _seqs(before), WAIT_S, "a reading at the first broker")
        _set(before, 7, mqtt={"url": other.url})
        until(lambda: any(r["ok"] for r in _replies(after, 7)), WAIT_S, "the confirmation")

        kept = json.loads((folder / "spool" / "settings.json").read_bytes())
        assert kept["standing"]["mqtt"]["url"] == other.url
        assert "trial" not in kept
        assert heard(before, "presence")[-1]["reason"] == "upgrade", "no outage is told"
        assert give_command(after, "reading")["ok"]
        held = {seq for _, seq in service.held()}
        until(lambda: held <= _seqs(before, after), WAIT_S, "every reading, at one of the two")


def _dead(_folder: Path) -> Iterator[str]:
    yield f"mqtt://{unused_tcp()}"


def _deaf(folder: Path) -> Iterator[str]:
    """A broker that takes all in, behind which no server confirms anything."""
    with Broker(folder / "deaf") as broker:
        yield broker.url


@pytest.mark.parametrize("made", [_dead, _deaf], ids=["nobody listens", "nobody confirms"])
def test_a_swap_to_a_broker_that_does_not_work_is_taken_back_and_told(
    folder: Path, broker: Broker, made: Any
) -> None:
    _trial(folder, 4)
    wrong = contextlib.contextmanager(made)
    with wrong(folder) as url, _confirming(broker) as server, running(folder) as service:
        until(lambda: _seqs(server), WAIT_S, "a reading")
        _set(server, 6)
        until(lambda: _replies(server, 6), WAIT_S, "settings without a risk")
        _set(server, 7, mqtt={"url": url})
        lost = until(
            lambda: [r for r in _replies(server, 7) if not r["ok"]], WAIT_S, "the agent is back"
        )
        assert lost[0]["result"]["error"].startswith("rolled back: no sign of broker")
        # the broker offers the same again on each connection: they stay refused
        until(
            lambda: any("was rolled back here" in r["result"].get("error", "")
                        for r in _replies(server, 7)),
            WAIT_S,
            "the refusal of what was rolled back",
        )  # fmt: skip
        until(lambda: _revisions(server)[-1] == 6, WAIT_S, "a reading under what stood before")
        until(lambda: 7 in _revisions(server), WAIT_S, "what was measured meanwhile, too")
        held = {seq for _, seq in service.held()}
        until(lambda: held <= _seqs(server), WAIT_S, "every reading")
        _set(server, 8, window_s=2)
        until(lambda: any(r["ok"] for r in _replies(server, 8)), WAIT_S, "better settings")


@pytest.mark.parametrize(
    ("target", "ok"),
    [("127.0.0.2", True), ("240.0.0.1", False)],
    ids=["a target that answers", "a target that nobody is"],
)
def test_other_targets_are_kept_when_they_answer_and_taken_back_when_not(
    folder: Path, broker: Broker, target: str, ok: bool
) -> None:
    trial_s = 30 if ok else 4
    _trial(folder, trial_s)
    with _confirming(broker) as server, running(folder):
        until(lambda: _seqs(server), WAIT_S, "a reading")
        _set(server, 7, targets={"domestic": [target]})
        first, verdict = until(
            lambda: (found := _replies(server, 7))[1:] and found[:2], WAIT_S, "the verdict"
        )
        assert first["result"] == {"revision": 7, "trial_s": trial_s}
        assert verdict["ok"] is ok
        if not ok:
            assert verdict["result"]["error"] == "rolled back: no sign of domestic"
        until(
            lambda: heard(server, "readings")[-1]["readings"][-1]["ladder"]["domestic"] == "ok",
            WAIT_S,
            "a rung that answers",
        )


_LARGE = "x" * 1_000_000


def test_what_cannot_be_is_refused_over_the_wire_and_the_agent_goes_on(
    folder: Path, broker: Broker
) -> None:
    with _confirming(broker) as server, running(folder):
        until(lambda: _seqs(server), WAIT_S, "a reading")
        commands = wire.site_topic(SITE, "commands")
        bad = {
            "large": {"do": "reading", "site": SITE, "args": {"x": _LARGE}},
            "foreign": {"do": "reading", "site": "bitung-0124"},
            "wrong type": {"do": 7, "site": SITE},
            "unknown": {"do": "dance", "site": SITE},
        }
        for number, message in enumerate(bad.values()):
            command = {"v": 1, "id": _id(number), "expires_at": "2126-01-01T00:00:00Z", **message}
            server.publish(commands, json.dumps(command))
        _set(server, 3, targets={"world": [_LARGE]})
        _set(server, 4, window_s="60")
        _set(server, 5, site="bitung-0124")
        wanted = [
            *(_id(number) for number in range(len(bad))),
            *(f"settings-{n}" for n in (3, 4, 5)),
        ]

        def refused() -> dict[str, str]:
            return {r["id"]: r["result"]["error"] for r in heard(server, "replies") if not r["ok"]}

        until(lambda: refused().keys() >= set(wanted), WAIT_S, "every refusal")
        words = ("more than", "speaks for", "do", "unknown", "more than", "window_s", "speaks for")
        assert all(word in refused()[key] for key, word in zip(wanted, words, strict=True))
        newest = max(_seqs(server))
        until(lambda: max(_seqs(server)) > newest, WAIT_S, "the next window")


def _id(number: int) -> str:
    return f"c0ffee00-1234-4abc-8def-{number:012d}"
