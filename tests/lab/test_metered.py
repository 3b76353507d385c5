"""A metered link: what the agent counts against what passes the interface; tests that hang."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent import wire
from server.fleet.fleet import in_memory
from tests.agent.servers import tcp_server, udp_server
from tests.lab.city import Agent, City
from tests.lab.net import Namespace, inside
from tests.lab.observer import Observer, Seen
from tests.lab.peer import Peer
from tests.lab.pki import Authority
from tests.lab.test_ladder import answer_204, answer_dns
from tests.wait import until

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

SITE = "maesa-0001"
CENTRE = "10.99.0.1"
ETHERNET_BYTES = 14
WINDOWS = 12
ON_TIME_S = 4.0


def _readings(observer: Observer, *, since: float = 0.0) -> Iterator[tuple[Seen, dict[str, Any]]]:
    for seen in observer.site(SITE, "readings", since=since):
        for reading in seen.body["readings"]:
            yield seen, reading


def _newest(observer: Observer, since: float = 0.0) -> dict[str, Any]:
    return max((reading for _, reading in _readings(observer, since=since)), key=_seq)


def _seq(reading: dict[str, Any]) -> int:
    return int(reading["seq"])


def _passed(namespace: Namespace) -> int:
    """Bytes at IP level through the interface of the agent's cable."""
    links = json.loads(namespace.ip("-statistics", "-json", "link", "show"))
    counted = [
        one["stats64"][way] for one in links if one["ifname"] != "lo" for way in ("rx", "tx")
    ]
    return sum(way["bytes"] - ETHERNET_BYTES * way["packets"] for way in counted)


def _wait_for_windows(observer: Observer, count: int) -> dict[str, Any]:
    begun = _seq(_newest(observer))
    until(lambda: _seq(_newest(observer)) >= begun + count, 90, f"{count} windows more")
    return _newest(observer)


def test_what_is_counted_is_what_passes_and_a_power_cut_forgets_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    with City(tmp_path / "city", authority, [SITE], apart=True) as city:
        agent, centre = city.agents[SITE], city.namespace
        assert centre is not None
        assert agent.namespace is not None
        with (
            inside(centre.name),
            udp_server(answer_dns, CENTRE) as resolver,
            tcp_server(answer_204, CENTRE) as page,
            Observer(city.broker, centre) as observer,
        ):
            agent.tables |= {
                "reading": {"window_s": 2},
                "targets": {"domestic": [CENTRE], "world": [CENTRE]},
                "dns": {"names": ["example.org"], "resolver": resolver},
                "web": {"url": f"http://{page}/204"},
                "metered": {"monthly_mb": 1_000_000},
            }
            agent.start()
            until(lambda: observer.site(SITE, "readings"), 60, "the first reading")
            before = _wait_for_windows(observer, 1)
            passed_before = _passed(agent.namespace)
            after = _wait_for_windows(observer, WINDOWS)
            passed = _passed(agent.namespace) - passed_before
            counted = after["metered"]["used_bytes"] - before["metered"]["used_bytes"]
            print(f"counted {counted}, passed {passed}")
            assert 0.97 * passed <= counted <= 1.5 * passed

            agent.kill9()
            cut = _newest(observer)["metered"]["used_bytes"]
            streams = {seen.body["stream"] for seen in observer.site(SITE, "readings")}
            agent.start()
            until(
                lambda: (
                    {s.body["stream"] for s in observer.site(SITE, "readings")} - streams
                    or _seq(_newest(observer)) > _seq(after) + 2
                ),
                60,
                "a reading after the cut",
            )
            again = observer.site(SITE, "readings")[-1].body["readings"][-1]["metered"]
            assert cut <= again["used_bytes"] < cut + counted


def test_a_small_budget_is_kept_by_slowing_and_the_reading_says_how(
    tmp_path: Path, authority: Authority
) -> None:
    with City(tmp_path / "city", authority, [SITE]) as city, Observer(city.broker) as observer:
        agent = city.agents[SITE]
        agent.tables |= {
            "targets": {"world": ["127.0.0.1"]},
            "metered": {"monthly_mb": 400},
        }
        agent.start()
        until(lambda: observer.site(SITE, "readings"), 60, "the first reading")
        _, first = next(_readings(observer))
        assert first["metered"]["budget_bytes"] == 400_000_000
        assert first["metered"]["slowed"] == ["tests", "echoes", "probes", "windows"]
        agent.wait_for("metered link: step", "slowed: tests, echoes, probes, windows")


def _helper(agent: Agent) -> int | None:
    """The process id of the test that is under way."""
    for child in psutil.Process(agent.pid).children():
        with contextlib.suppress(psutil.Error):  # it ended just now
            if "agent.helpers.throughput" in " ".join(child.cmdline()):
                return child.pid
    return None


def test_while_a_test_hangs_and_is_killed_each_window_is_published_on_time(
    tmp_path: Path,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        City(tmp_path / "city", None, [SITE]) as city,
        Observer(city.broker) as observer,
        Peer(city.broker, "_centre") as centre,
        in_memory() as spool,  # a slow disk leaves windows out
    ):
        agent = city.agents[SITE]
        agent.spool_in(Path(spool))
        agent.tables["throughput"] = {
            "method": "iperf3",
            "server": f"127.0.0.1:{silent.getsockname()[1]}",
            "per_day": 0,
        }
        agent.start()
        until(lambda: observer.site(SITE, "readings"), 60, "the first reading")
        asked = {
            "v": 1, "site": SITE, "id": str(uuid.uuid4()), "do": "throughput",
            "expires_at": "2999-01-01T00:00:00Z",
        }  # fmt: skip
        centre.publish(f"pantau/v1/sites/{SITE}/commands", json.dumps(asked))
        helper = until(lambda: _helper(agent), 30, "the test's process")
        first = _newest(observer)
        last = _wait_for_windows(observer, 4)
        assert observer.site(SITE, "replies") == []
        os.kill(helper, signal.SIGKILL)
        replies = until(lambda: observer.site(SITE, "replies"), 30, "the reply")
        assert replies[0].body["id"] == asked["id"]
        assert replies[0].body["result"]["error"] == "the test's process ended without a result"

        during = [r for _, r in _readings(observer) if first["seq"] <= r["seq"] <= last["seq"]]
        steps = [b["uptime_s"] - a["uptime_s"] for a, b in pairwise(during)]
        assert steps == pytest.approx([1.0] * len(steps), abs=0.05)
        assert all("throughput" not in reading for reading in during)
        told_s = [
            seen.at - wire.epoch(reading["taken_at"])
            for seen, reading in _readings(observer)
            if reading in during
        ]
        assert max(told_s) < ON_TIME_S
