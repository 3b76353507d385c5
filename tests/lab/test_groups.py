"""An ISP's five sites go while a district's power goes: two alerts, and each site in its own.

Real broker, real ``pantau ingest``; the sites are modelled ones that send by the agent's own code.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.city import City
from tests.lab.observer import Observer, Seen
from tests.lab.town import Town, event
from tests.wait import until

pytestmark = pytest.mark.slow

BIZNET = [f"b-{n}" for n in range(5)]
CUT, POWER = event("cut", "isp_down"), event("dark", "district_power_down")
DARK = [f"p-{n}" for n in range(5)]
OTHERS = [f"t-{n}" for n in range(12)]
_ROWS = [
    *[f"{one},{one},d-{n},biznet," for n, one in enumerate(BIZNET)],
    *[f"{one},{one},lembeh,{'telkom' if n % 2 else 'icon'},l-1" for n, one in enumerate(DARK)],
    *[f"{one},{one},d-{n % 5},{'telkom' if n % 2 else 'icon'}," for n, one in enumerate(OTHERS)],
]


def _alerts(observer: Observer, kind: str) -> list[Seen]:
    return [one for one in observer.seen("alerts/") if one.body and one.body["kind"] == kind]


def _groups(observer: Observer, status: str = "firing") -> dict[str, list[dict[str, Any]]]:
    """Each group's newest copies, by id."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for seen in _alerts(observer, "group_outage"):
        found[seen.body["id"], seen.topic] = seen.body
    told: dict[str, list[dict[str, Any]]] = {}
    for (group, _), body in found.items():
        if body["status"] == status:
            told.setdefault(group, []).append(body)
    return told


def _members(copies: list[dict[str, Any]]) -> list[str]:
    return sorted(site for body in copies for site in body["sites"])


def test_an_isp_and_a_districts_power_at_once_are_two_groups_and_silent_members(
    tmp_path: Path,
) -> None:
    city = City(tmp_path / "city", None, [])
    table = tmp_path / "town.csv"
    table.write_text("\n".join(["site,name,district,isp,power_area", *_ROWS, ""]))
    everybody = [*BIZNET, *DARK, *OTHERS]
    with (
        city,
        Observer(city.broker) as observer,
        Town(city.broker.url, everybody, window_s=2.0, keepalive_s=2).living() as town,
    ):
        city.pantau("sites", "import", str(table))
        town.begin(*everybody)
        until(lambda: set(city.status().values()) == {"online"}, 60, "all to be online")
        for site in (*BIZNET, *DARK):
            until(lambda s=site: len(observer.live_readings(s)) > 1, 30, f"readings of {site}")
        went_at = time.time()
        town.strikes(CUT, *BIZNET)
        town.strikes(POWER, *DARK)
        until(
            lambda: sorted(map(_members, _groups(observer).values())) == [BIZNET, DARK],
            30,
            "the two groups",
        )
        assert time.time() - went_at < 30
        until(lambda: list(city.status().values()).count("offline") == 10, 30, "ten offline")
        ledger = {row["sites"][0]: row for row in city.rows("incidents") if len(row["sites"]) == 1}
        assert set(ledger) == {*BIZNET, *DARK}
        assert _alerts(observer, "site_offline") == []

        # Ingest restarts in the middle; all but two of the ISP's come back, the two are taken over
        # a minute later.
        city.ingest.stop()
        city.ingest.start()
        city.at_work()
        town.passes(CUT, *BIZNET[:3])
        town.passes(POWER, *DARK)
        until(lambda: len(_groups(observer, "resolved")) == 2, 150, "both groups to end")
        until(
            lambda: (
                {one.body["sites"][0] for one in _alerts(observer, "site_offline")}
                == set(BIZNET[3:])
            ),
            30,
            "the two that are left to be taken over",
        )
        causes = {
            tuple(_members(copies)): {body["cause"]["verdict"] for body in copies}
            for copies in _groups(observer, "resolved").values()
        }
        assert causes == {tuple(BIZNET): {"isp"}, tuple(DARK): {"power"}}
        assert not _groups(observer)
        for site in (*DARK, *BIZNET[:3]):
            assert observer.alerts(site)
            assert {one.body["kind"] for one in observer.alerts(site)} == {"group_outage"}
