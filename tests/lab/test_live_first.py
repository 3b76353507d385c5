"""While a backlog waits at ingest, what tells how a site is now does not wait behind it."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest

from agent import wire
from tests.lab import garbage
from tests.lab.city import City
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.wait import until

pytestmark = pytest.mark.slow

_SITES, _READINGS, _MESSAGES = 300, 60, 4
_BOOT, _SENT_S = "another boot", 1e6
_TOPIC = wire.site_topic(garbage.SITE, "readings")
_BACK = [f"back-{number:04}" for number in range(_SITES)]


def _backlog(site: str, message: int) -> tuple[str, bytes]:
    """Readings of long ago."""
    first = message * _READINGS + 1
    readings = [
        garbage.reading(seq, boot=_BOOT, uptime_s=float(60 * seq))
        for seq in range(first, first + _READINGS)
    ]
    stream = str(uuid.uuid5(uuid.NAMESPACE_DNS, site))
    told = {"site": site, "stream": stream, "sent_boot": _BOOT, "sent_uptime_s": _SENT_S}
    return wire.site_topic(site, "readings"), garbage.message(*readings, **told)


def _will(session: str) -> bytes:
    parted = {"v": 1, "site": garbage.SITE, "state": "offline", "session": session}
    return json.dumps({**parted, "reason": "lost", "at": wire.iso(time.time())}).encode()


def _drained(observer: Observer, messages: int) -> bool:
    """Whether all of every backlog is acknowledged."""
    acks = [one for one in observer.seen("sites/") if one.topic.endswith("acks")]
    newest = {one.topic.split("/")[1]: one.body["through"] for one in acks}
    return [newest.get(site) for site in _BACK] == [messages * _READINGS] * _SITES


def test_a_live_reading_and_a_will_overtake_a_backlog_that_waits(tmp_path: Path) -> None:
    letters = [_backlog(site, message) for message in range(_MESSAGES) for site in _BACK]
    session = str(uuid.uuid4())
    health = {"offline_confirm_s": 1}
    rows = [f"{garbage.SITE},Raw,girian,telkom", *(f"{site},B,girian,telkom" for site in _BACK)]
    table = tmp_path / "sites.csv"
    table.write_text("\n".join(["site,name,district,isp", *rows, ""]))
    with (
        City(tmp_path / "city", None, [], also=[garbage.SITE, *_BACK], health=health) as city,
        Observer(city.broker) as observer,
        Peer(city.broker, garbage.SITE) as peer,
    ):
        city.pantau("sites", "import", str(table))
        presence = wire.site_topic(garbage.SITE, "presence")
        online = {"v": 1, "site": garbage.SITE, "state": "online", "session": session}
        peer.publish(presence, json.dumps({**online, "at": wire.iso(time.time())}))
        peer.publish(_TOPIC, garbage.message(garbage.reading(1)))
        until(lambda: observer.through(garbage.SITE, garbage.STREAM) == 1, 30, "the first ack")

        for topic, payload in letters:
            peer.send(topic, payload)
        peer.publish(_TOPIC, garbage.message(garbage.reading(2)))
        peer.publish(presence, _will(session))

        until(lambda: observer.through(garbage.SITE, garbage.STREAM) == 2, 60, "the newest ack")
        assert not _drained(observer, _MESSAGES), "it must not have waited for all of it"
        until(lambda: city.status()[garbage.SITE] == "offline", 60, "the will to count")
        until(lambda: _drained(observer, _MESSAGES), 120, "the backlog")
        assert list(city.rows("quarantine")) == []


def test_what_waited_while_ingest_was_away_is_taken_as_it_came(tmp_path: Path) -> None:
    with (
        City(tmp_path / "city", None, [], also=[garbage.SITE, *_BACK]) as city,
        Observer(city.broker) as observer,
        Peer(city.broker, garbage.SITE) as peer,
    ):
        peer.publish(_TOPIC, garbage.message(garbage.reading(1)))
        until(lambda: observer.through(garbage.SITE, garbage.STREAM) == 1, 30, "the first ack")
        city.ingest.stop()
        for site in _BACK:
            peer.send(*_backlog(site, 0))
        peer.publish(_TOPIC, garbage.message(garbage.reading(2)))
        city.ingest.start()

        until(lambda: observer.through(garbage.SITE, garbage.STREAM) == 2, 60, "the newest ack")
        assert _drained(observer, 1), "it came last"
