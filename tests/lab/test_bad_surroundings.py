"""What the world does to Pantau: one clear line with the place and the mend, and nothing lost.

No broker, wrong certificates, a refused login, full disks, a damaged spool, a locked database.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.spool import held
from tests.lab.city import PANTAU, City, toml
from tests.lab.journal import assert_settles, fill, of_server
from tests.lab.net import sh
from tests.lab.observer import Observer
from tests.lab.pki import Authority
from tests.lab.process import Service
from tests.wait import until

SITE = "maesa-0001"
LOCKED_S = 15.0


def _spooled(city: City, count: int) -> None:
    """Wait until the agent holds so many readings."""
    spool = city.agents[SITE].spool
    until(lambda: len(list(held(spool))) >= count, 60, f"{count} readings in the spool")


def _assert_one_line(service: Service, *words: str) -> None:
    """It said so, once; and nothing of ours fell through to a stack trace."""
    service.wait_for(*words)
    assert len(service.lines(*words)) == 1, service.said()
    assert "Traceback" not in service.said(), service.said()


def _refused_ingest(city: City, name: str, mqtt: dict[str, object], *words: str) -> None:
    """Run an ingest with these keys of [mqtt]: it must end with 2 and one line with `words`."""
    config = city.folder / f"{name}.toml"
    tables = {**city.tables, "store": {"url": f"sqlite:///{city.folder / name}.db"}, "mqtt": mqtt}
    config.write_text(toml({}, tables))
    ingest = Service(name, [PANTAU, "ingest", "--config", str(config)], city.folder / f"{name}.log")
    ingest.start()
    try:
        assert ingest.ended() == 2, ingest.said()
    finally:
        ingest.discard()
    assert len(ingest.said().splitlines()) == 1, ingest.said()
    assert ingest.lines("pantau: ", *words), ingest.said()


def test_agent_and_ingest_wait_for_a_broker_that_is_not_there_yet(
    tmp_path: Path, authority: Authority
) -> None:
    with City(tmp_path / "city", authority, [SITE], idle=True) as city:
        agent, place = city.agents[SITE], f"127.0.0.1:{city.broker.port}"
        agent.start()
        city.ingest.start()
        _assert_one_line(agent, f"broker {place}", "refused", "check mqtt.url and the network")
        _assert_one_line(city.ingest, place, "no broker there", "start it, or mend mqtt.url")
        _spooled(city, 2)
        city.broker.start()
        with Observer(city.broker) as observer:
            assert len(assert_settles(city, observer, agent)) >= 2
        assert agent.running
        assert city.ingest.running
        _assert_one_line(agent, f"broker {place}", "refused")


def test_a_certificate_that_is_not_trusted_is_named_with_its_key_and_costs_no_reading(
    tmp_path: Path, authority: Authority
) -> None:
    stranger = Authority(tmp_path / "stranger", name="Another CA")
    with (
        City(tmp_path / "city", authority, [SITE]) as city,
        Observer(city.broker) as observer,
    ):
        good = city.broker.settings("_ingest")
        foreign = stranger.client("_ingest")
        forged = {**good, "cert_file": str(foreign.cert), "key_file": str(foreign.key)}
        distrusting = {**good, "ca_file": str(stranger.ca)}
        mixed = {**good, "key_file": str(foreign.key)}
        missing = {**good, "cert_file": "/nowhere/ingest.crt"}
        place = f"127.0.0.1:{city.broker.port}"
        _refused_ingest(city, "distrusting", distrusting, place, "not trusted", "mend mqtt.ca_file")
        _refused_ingest(city, "forged", forged, place, "refused our cert", "mend mqtt.cert_file")
        _refused_ingest(city, "mixed", mixed, "mqtt.cert_file, mqtt.key_file", "mend")
        _refused_ingest(city, "missing", missing, "missing.toml: mqtt.cert_file", "/nowhere")

        agent = city.agents[SITE]
        mqtt = {**agent.tables["mqtt"], "keepalive_s": 15}  # so long a login may take
        for table, words in (
            (distrusting, ("certificate is not accepted", "check mqtt.ca_file")),
            (forged, ("no answer to the login", "check the certificate")),
        ):
            agent.tables["mqtt"] = {**mqtt, **table}
            agent.start()
            said = agent.wait_for(f"broker {place}", *words)
            if table is distrusting:
                _assert_one_line(agent, f"broker {place}", *words)
            else:  # the alert may be lost to the reset that follows it (TLS 1.3)
                assert re.search("alert unknown ca|EOF occurred|reset by peer", said), said
            assert "Traceback" not in agent.said(), agent.said()
            _spooled(city, len(list(held(agent.spool))) + 1)
            assert agent.stop() == 0
        agent.tables["mqtt"] = {**mqtt, "cert_file": "/nowhere/site.crt"}
        agent.start()
        assert agent.ended() == 2
        _assert_one_line(agent, "agent.toml: mqtt.cert_file", "/nowhere/site.crt")
        agent.tables["mqtt"] = mqtt
        agent.start()
        assert len(assert_settles(city, observer, agent)) >= 2


def test_a_refused_password_is_one_line_and_the_agent_comes_in_once_it_is_mended(
    tmp_path: Path,
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    for user in (SITE, "_ingest"):
        sh("mosquitto_passwd", "-b", str(passwords), user, "right")
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    extra = [f"password_file {passwords}"]
    with City(tmp_path / "city", None, [SITE], idle=True, broker_extra=extra) as city:
        city.broker.start()
        place = f"127.0.0.1:{city.broker.port}"
        mqtt = {**city.tables["mqtt"], "username": "_ingest", "password_file": str(secret)}
        _refused_ingest(city, "refused", mqtt, place, "login refused", "mqtt.password_file")
        agent = city.agents[SITE]
        agent.tables["mqtt"]["password_file"] = str(secret)
        agent.start()
        _assert_one_line(agent, f"refuses the login of {SITE}", "mqtt.password_file")
        _spooled(city, 1)
        secret.write_text("right\n")
        city.config.write_text(toml({}, {**city.tables, "mqtt": mqtt}))
        city.ingest.start()
        city.at_work()
        with Observer(city.broker) as observer:
            assert_settles(city, observer, agent)


@contextlib.contextmanager
def _small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A file system of its own at `folder`; gives the place of a file to fill it with."""
    folder.mkdir(exist_ok=True)
    sh("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "pantau-test", str(folder))
    try:
        yield folder / "ballast"
    finally:
        sh("umount", "--lazy", str(folder))


def _fill_disk(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.mark.needs_root
def test_ingest_goes_on_after_a_full_disk_and_no_reading_is_lost(
    tmp_path: Path, authority: Authority
) -> None:
    city = City(tmp_path / "city", authority, [SITE])
    with (
        _small_disk(city.database.parent, 8) as ballast,
        city,
        Observer(city.broker) as observer,
    ):
        agent = city.agents[SITE]
        fill(agent, 2000)
        _fill_disk(ballast)
        agent.start()
        line = city.ingest.wait_for("full", "trying again", "nothing is lost")
        assert str(city.database) in line
        _spooled(city, 2003)
        ballast.unlink()
        assert len(assert_settles(city, observer, agent)) >= 2003
        _assert_one_line(city.ingest, "the store works again")


@pytest.mark.needs_root
def test_an_agent_whose_disk_is_full_measures_and_sends_on(
    tmp_path: Path, authority: Authority
) -> None:
    """What the disk does not take is kept in memory, and sent; then the disk takes it again."""
    city = City(tmp_path / "city", authority, [SITE])
    agent = city.agents[SITE]
    with (
        _small_disk(agent.spool, 3) as ballast,
        city,
        Observer(city.broker) as observer,
    ):
        _fill_disk(ballast)
        agent.start()
        agent.wait_for("spool", "No space left on device", "kept in memory")
        until(lambda: len(observer.live_readings(SITE)) >= 3, 30, "readings without a disk")
        assert list(held(agent.spool)) == []
        ballast.unlink()
        _spooled(city, 3)
        agent.stop()

        def said() -> dict[tuple[str, int], dict[str, Any]]:
            return {
                (seen.body["stream"], reading["seq"]): reading
                for seen in observer.site(SITE, "readings")
                for reading in seen.body["readings"]
            }

        until(lambda: of_server(city, SITE).keys() == said().keys(), 30, "all that was sent")
        sent = said()
        assert {(stream, seq) for stream, seq, _ in held(agent.spool)} <= sent.keys()
        for stream in {stream for stream, _ in sent}:
            seqs = sorted(seq for name, seq in sent if name == stream)
            assert seqs == list(range(1, len(seqs) + 1)), stream
        _assert_measured_on([reading["uptime_s"] for reading in sent.values()])
        assert any("No space left" in r.get("errors", {}).get("spool", "") for r in sent.values())
        assert not list(city.rows("quarantine"))
        assert "Traceback" not in agent.said()


def _assert_measured_on(uptimes_s: Sequence[float]) -> None:
    """Windows of 1 s from the first to the last; a busy machine may cost one now and then."""
    span_s = max(uptimes_s) - min(uptimes_s)
    assert 1 < span_s + 1 <= len(uptimes_s) / 0.8, sorted(uptimes_s)


def test_a_damaged_spool_gives_up_only_what_is_damaged_and_says_so(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        City(tmp_path / "city", authority, [SITE]) as city,
        Observer(city.broker) as observer,
    ):
        agent = city.agents[SITE]
        fill(agent, 300)
        (segment,) = agent.spool.glob("*.seg")
        *_, (stream, _, _) = held(agent.spool)
        written = len(segment.read_bytes().rstrip(b"\0"))
        with segment.open("r+b") as file:
            os.pwrite(file.fileno(), b"\xff" * 64, written // 2)
        agent.start()
        line = agent.wait_for("spool", segment.name, "damaged", "lost")
        assert "Traceback" not in agent.said(), line
        until(lambda: observer.live_readings(SITE), 30, "a reading after the damage")
        readings = assert_settles(city, observer, agent)
        saved = [seq for name, seq in readings if name == stream]
        assert 50 < len(saved) < 250
        assert saved == list(range(1, len(saved) + 1))
        (news,) = {name for name, _ in readings} - {stream}
        dropped = int(readings[news, 1]["host"]["spool_dropped"])
        assert dropped == 300 - len(saved), "the readings that were lost are counted"


def test_a_database_that_another_process_locks_costs_time_and_nothing_else(
    tmp_path: Path, authority: Authority
) -> None:
    with (
        City(tmp_path / "city", authority, [SITE]) as city,
        Observer(city.broker) as observer,
    ):
        agent = city.agents[SITE]
        agent.start()
        until(lambda: observer.site(SITE, "acks"), 30, "the first ack")
        locked_at = time.monotonic()
        with contextlib.closing(sqlite3.connect(city.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            line = city.ingest.wait_for("locked", "trying again", "nothing is lost", within_s=60)
            assert str(city.database) in line
            until(lambda: time.monotonic() > locked_at + LOCKED_S, 60, "15 s of lock")
            other.execute("ROLLBACK")
        assert len(assert_settles(city, observer, agent)) >= LOCKED_S - 2
        _assert_one_line(city.ingest, "the store works again")
        assert observer.alerts(SITE) == []
        assert city.status() == {SITE: "online"}
