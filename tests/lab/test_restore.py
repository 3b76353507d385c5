"""A centre goes back to a backup: what came after that moment comes again from the spool."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.city import City
from tests.lab.journal import assert_settles, fill, of_server
from tests.lab.observer import Observer
from tests.lab.pki import Authority
from tests.wait import until

SITE = "maesa-0001"


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["the same broker", "a broker that remembers nothing"])
def test_what_came_after_the_moment_of_the_backup_comes_again_from_the_spool(
    tmp_path: Path, authority: Authority, broker: str
) -> None:
    """With the same broker the retained ack says more than the restored store holds."""
    file = str(tmp_path / "city.backup")
    with City(tmp_path / "city", authority, [SITE]) as city, Observer(city.broker) as observer:
        (agent,) = city.agents.values()
        fill(agent, 300)
        agent.start()
        until(lambda: len(of_server(city, SITE)) > 300, 60, "the backlog")
        city.pantau("backup", file)
        at_backup = set(of_server(city, SITE))
        newest = max(seq for _, seq in at_backup)
        stream = next(iter(at_backup))[0]
        until(lambda: observer.through(SITE, stream) > newest + 3, 60, "readings that come later")
        later = set(of_server(city, SITE)) - at_backup
        assert later
        city.ingest.stop()
        if broker != "the same broker":
            city.broker.stop()
            city.broker.forget()
            city.broker.start()
        city.pantau("restore", file, "--force")
        restored = set(of_server(city, SITE))
        assert restored <= at_backup | later
        lost = later - restored
        assert lost, "the backup holds everything: nothing would be shown"
        city.ingest.start()
        city.at_work()
        until(lambda: lost <= set(of_server(city, SITE)), 90, "what the backup does not hold")
        assert len(assert_settles(city, observer, agent)) > 300
