"""A will speaks for one session: that of an older one, which the broker publishes late, is stale.

It happens where a device comes back by another way while its old connection is still open.
Two connections of one site stand for that; the wills are those of a real broker.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from agent import wire
from tests.lab import garbage
from tests.lab.city import HEALTH, City
from tests.lab.garbage import SITE
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.wait import until

CONFIRM_S = HEALTH["offline_confirm_s"]
_TOPIC = wire.site_topic(SITE, "presence")


class _Session:
    """One connection of the site, with a session and a will of its own."""

    def __init__(self, city: City, client_id: str) -> None:
        self.id = str(uuid.uuid4())
        will = (_TOPIC, self._presence("offline"), True)
        self.peer = Peer(city.broker, SITE, client_id=client_id, will=will).connect()
        self.peer.publish(_TOPIC, self._presence("online"), retain=True)

    def _presence(self, state: str) -> bytes:
        reason = ', "reason":"lost"' if state == "offline" else ""
        at = wire.iso(time.time())
        head = f'{{"v":1,"site":"{SITE}","state":"{state}","session":"{self.id}"'
        return f'{head},"at":"{at}"{reason}}}'.encode()

    def send(self, seq: int) -> None:
        """Publish a live reading; its window of 60 s keeps silence out of the picture."""
        self.peer.publish(wire.site_topic(SITE, "readings"), garbage.message(garbage.reading(seq)))

    def has_ended(self, observer: Observer) -> bool:
        """Whether the broker has published the will."""
        said = [s.body for s in observer.site(SITE, "presence")]
        return any(b["session"] == self.id and b["state"] == "offline" for b in said)


def test_a_late_will_of_an_older_session_ends_nothing_and_that_of_the_newest_does(
    tmp_path: Path,
) -> None:
    with City(tmp_path / "city", None, [], also=[SITE]) as city, Observer(city.broker) as observer:
        older = _Session(city, "older")
        older.send(1)
        newer = _Session(city, "newer")
        newer.send(2)
        until(lambda: observer.through(SITE, garbage.STREAM) == 2, 30, "both readings")
        older.peer.cut()
        until(lambda: older.has_ended(observer), 30, "the will of the older session")
        rash_at = time.time() + CONFIRM_S + 3
        until(lambda: time.time() > rash_at, 30, "the time for a false alert")
        assert observer.alerts(SITE) == []
        assert city.status() == {SITE: "online"}
        cut_at = time.time()
        newer.peer.cut()
        alert = until(lambda: observer.alerts(SITE), 60, "the alert")[0]
        assert alert.body["kind"] == "site_offline"
        assert CONFIRM_S < alert.at - cut_at < CONFIRM_S + 6
