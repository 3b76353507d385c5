"""What ingest finds in its queue after an absence is told only if it still lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import wire
from tests.lab import garbage
from tests.lab.city import City
from tests.lab.garbage import SITE, STREAM
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.wait import until

_FAILING = {"world": "fail", "first_failure": "world"}


@pytest.mark.parametrize(("good", "lasts"), [(5, False), (0, True)])
def test_a_trouble_found_in_the_queue_is_told_only_if_it_lasts(
    tmp_path: Path, good: int, lasts: bool
) -> None:
    with (
        City(tmp_path / "city", None, [], also=[SITE]) as city,
        Observer(city.broker) as observer,
        Peer(city.broker, SITE) as device,
    ):
        seq = 0

        def say(**reading: object) -> None:
            nonlocal seq
            seq += 1
            message = garbage.message(garbage.reading(seq, **reading))
            device.publish(wire.site_topic(SITE, "readings"), message)

        say()
        until(lambda: observer.through(SITE, STREAM) == seq, 30, "the first reading")
        city.ingest.kill9()
        for _ in range(3):
            say(ladder=_FAILING)
        for _ in range(good):
            say(ladder={"world": "ok"})
        city.ingest.start()
        until(lambda: observer.through(SITE, STREAM) == seq, 30, "what was queued")
        city.ingest.wait_for("caught up")
        assert observer.alerts(SITE) == []
        say(ladder=_FAILING if lasts else {"world": "ok"})
        until(lambda: observer.through(SITE, STREAM) == seq, 30, "what came after it")
        if lasts:
            until(lambda: observer.alerts(SITE), 30, "the alert")
        told = [(one.body["kind"], one.body["status"]) for one in observer.alerts(SITE)]
        assert told == ([("site_degraded", "firing")] if lasts else [])
        kept = [(one["kind"], one["status"]) for one in city.rows("incidents")]
        assert kept == [("site_degraded", "firing" if lasts else "resolved")]
