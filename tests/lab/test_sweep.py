"""What stands at a broker though it should not is cleared: after a restore, and by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.wire import PREFIX
from tests.lab.city import City
from tests.lab.observer import Observer
from tests.lab.peer import Peer
from tests.lab.pki import Authority
from tests.wait import until

_KEPT, _LATE, _SILENT = "maesa-0001", "girian-0002", "lembeh-0003"
_NEW = "maesa-0009"
_S = 60.0


def standing(observer: Observer) -> dict[str, Any]:
    """What stands on topics of states and alerts, by who heard all that was ever said there."""
    found: dict[str, Any] = {}
    for seen in [*observer.seen("alerts/"), *observer.seen("state/")]:
        found.pop(seen.topic, None)
        if seen.body is not None:
            found[seen.topic] = seen.body
    return found


def alerts(observer: Observer) -> list[str]:
    return [topic for topic in standing(observer) if topic.startswith("alerts/")]


def known(city: City) -> set[str]:
    """The alerts that the store knows to fire."""
    return {row["id"] for row in city.rows("alerts")}


@pytest.mark.needs_root
def test_after_a_restore_nothing_stands_that_the_backup_does_not_know(
    tmp_path: Path, authority: Authority
) -> None:
    file = str(tmp_path / "city.backup")
    with (
        City(tmp_path / "city", authority, [_KEPT, _LATE], also=[_SILENT]) as city,
        Observer(city.broker) as observer,
    ):
        for agent in city.agents.values():
            agent.start()
        for site in (_KEPT, _LATE):  # without a reading silence would take 2.5 windows of 60 s
            until(lambda s=site: list(city.rows("readings", s)), _S, f"a reading of {site}")
        city.agents[_KEPT].kill9()
        until(lambda: len(alerts(observer)) == 1, _S, "an alert before the backup")
        [early] = alerts(observer)
        city.pantau("backup", file)

        # What the backup does not know: an alert, a site, and where a site is.
        city.agents[_LATE].kill9()
        until(lambda: len(alerts(observer)) == 2, _S, "an alert after it")
        [late] = set(alerts(observer)) - {early}
        table = tmp_path / "more.csv"
        table.write_text(f"site,name,district,isp\n{_NEW},New,Maesa,Telkom\n"
                         f"{_SILENT},Moved,Girian,Biznet\n")  # fmt: skip
        before = {topic for topic in standing(observer) if topic.endswith(_SILENT)}
        city.pantau("sites", "import", str(table))
        moved, new = f"state/girian/biznet/{_SILENT}", f"state/maesa/telkom/{_NEW}"
        until(lambda: {moved, new} <= standing(observer).keys(), _S, "the states of the import")
        city.ingest.stop()
        city.pantau("restore", file, "--force")
        city.ingest.start()
        city.at_work()

        until(
            lambda: not {late, moved, new} & standing(observer).keys(),
            _S,
            "what is stale to be cleared",
        )
        cleared = [seen for seen in observer.seen(late) if seen.body is None]
        assert cleared, "whoever listens is told, too"
        stands = standing(observer)
        assert early in stands
        assert stands[early]["status"] == "firing"
        assert before <= stands.keys()
        # The site is silent as before: it has a new alert, and only the store's alerts stand.
        until(lambda: len(known(city)) == 2, _S, "an alert of the new judgement")
        until(
            lambda: {topic.rpartition("/")[2] for topic in alerts(observer)} == known(city),
            _S, "the broker to hold what the store knows",
        )  # fmt: skip


@pytest.mark.needs_root
def test_what_a_broker_remembers_wrongly_goes_and_what_is_right_stays(
    tmp_path: Path, authority: Authority
) -> None:
    """An alert that ended stays for its time; one that a crashed broker brought back goes."""
    with (
        City(tmp_path / "city", authority, [_KEPT], also=[_SILENT]) as city,
        Observer(city.broker) as observer,
    ):
        [agent] = city.agents.values()
        agent.start()
        until(lambda: city.status()[_KEPT] == "online", _S, "the site to be online")
        agent.kill9()
        until(lambda: alerts(observer), _S, "an alert")
        agent.start()
        [topic] = alerts(observer)
        until(lambda: standing(observer)[topic]["status"] == "resolved", _S, "its end")
        right = standing(observer)
        ghost, ghost_state = "alerts/maesa/telkom/of-long-ago", "state/maesa/telkom/nobody-0001"
        city.ingest.stop()
        with Peer(city.broker, "_ingest") as of_before:
            for one in (ghost, ghost_state):
                of_before.publish(f"{PREFIX}/{one}", json.dumps({"v": 1}).encode(), retain=True)
        until(lambda: {ghost, ghost_state} < standing(observer).keys(), _S, "the ghosts to stand")

        city.ingest.start()
        city.at_work()
        until(lambda: not {ghost, ghost_state} & standing(observer).keys(), _S, "the ghosts to go")
        stands = standing(observer)
        assert stands.keys() == right.keys()
        assert stands[topic]["status"] == "resolved"
        assert f"state/{_place(right, _SILENT)}" in stands


def _place(stands: dict[str, Any], site: str) -> str:
    [topic] = [one for one in stands if one.endswith(f"/{site}")]
    return topic.removeprefix("state/")
