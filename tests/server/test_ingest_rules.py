"""Rules for part of the sites, on a running ingest: imported, and judged by at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.model import Contract, Maintenance, Site
from tests.server.centre import Centre
from tests.server.made import MINE, OTHER, SITE, Device, identity

THERE = replace(MINE, id=OTHER, name="Pasar Winenet", isp="infotek")


class Town:
    """Two sites under two ISPs, and an ingest that lives through it all."""

    def __init__(self, folder: Path, *sites: Site) -> None:
        self.centre = Centre(folder, *(sites or (MINE, THERE)))
        self.devices = [Device(site=one, stream=identity(one)) for one in (SITE, OTHER)]
        self.now = 1000.0

    def reads(self, windows: int, **fields: Any) -> None:
        """Windows pass, the same at both sites."""
        for _ in range(windows):
            self.now += 60.0
            self.centre.ingest.refresh_registry(self.now)
            self.centre.hears(*(device.live(self.now, **fields) for device in self.devices))
            self.centre.waits(self.now)

    def imports(self, text: str) -> None:
        """As ``pantau rules import`` does."""
        with self.centre.store.transaction():
            self.centre.store.put_rules(text, self.now)

    def signs(self, *terms: Contract) -> None:
        """As ``pantau contracts import`` does."""
        with self.centre.store.transaction():
            self.centre.store.put_contract(terms[0].id, terms, self.now)

    def announces(self, work: Maintenance) -> None:
        """As ``pantau maintenance add`` does."""
        with self.centre.store.transaction():
            self.centre.store.put_maintenance(work)

    def states(self) -> list[str]:
        """The two verdicts at the broker."""
        known = self.centre.retained()
        return [
            next(body["status"] for topic, body in known.items() if topic.endswith(f"/{one}"))
            for one in (SITE, OTHER)
        ]

    def reasons(self) -> list[str]:
        """Of the first site."""
        known = self.centre.retained()
        found: list[str] = known[f"state/girian/telkom/{SITE}"]["reasons"]
        return found


SLOW = {"ping": {"domestic": {"sent": 60, "received": 60, "loss_ratio": 0.0, "rtt_p50_ms": 640.0}}}
FAST = {"ping": {"domestic": {"sent": 60, "received": 60, "loss_ratio": 0.0, "rtt_p50_ms": 20.0}}}


def speed(down_mbps: float) -> dict[str, Any]:
    return {"throughput": {"method": "speedtest", "down_mbps": down_mbps}}


def test_a_rule_of_an_isp_judges_its_sites_and_no_others(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.imports("[isp.infotek]\nrtt_raise_ms = 800\nrtt_clear_ms = 700\n")

    town.reads(3, **SLOW)

    assert town.states() == ["degraded", "online"]


def test_what_a_rule_no_longer_minds_is_cleared_and_what_it_minds_is_raised(
    tmp_path: Path,
) -> None:
    town = Town(tmp_path)
    town.reads(3, **SLOW)
    assert town.states() == ["degraded", "degraded"]

    town.imports(f"[site.{SITE}]\nrtt_raise_ms = 800\nrtt_clear_ms = 700\nclear_windows = 1\n")
    town.reads(1, **SLOW)
    assert town.states() == ["online", "degraded"]

    town.imports("")
    town.reads(3, **SLOW)
    assert town.states() == ["degraded", "degraded"]


def test_a_shorter_silence_is_due_earlier_though_no_reading_comes(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.reads(1)
    town.imports("[isp.telkom]\nsilence_windows = 1\n")
    town.centre.ingest.refresh_registry(town.now + 1.0)

    town.centre.waits(town.now + 61.0)

    assert town.states() == ["offline", "online"]


def test_the_rules_are_those_in_force_also_after_a_restart(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.imports("[isp.infotek]\nraise_windows = 1\n")
    town.centre.restart()

    town.reads(1, **SLOW)

    assert town.states() == ["online", "degraded"]


def test_rules_changed_while_ingest_was_away_hold_for_who_was_heard_before(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.reads(1)
    town.imports("[isp.telkom]\nsilence_windows = 1\n")
    town.centre.restart()

    town.centre.waits(town.now + 61.0)

    assert town.states() == ["offline", "online"]


def test_a_site_that_changes_its_isp_is_judged_by_that_ones_rules(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.imports("[isp.infotek]\nraise_windows = 1\n")
    town.reads(1)
    town.centre.enter(replace(MINE, isp="infotek"), valid_from=town.now + 1.0)

    town.reads(1, **SLOW)

    assert town.states()[1] == "degraded"
    topics = [topic for topic in town.centre.retained() if topic.startswith("state/")]
    assert f"state/girian/infotek/{SITE}" in topics
    assert town.centre.retained()[f"state/girian/infotek/{SITE}"]["status"] == "degraded"


def test_the_floors_of_a_contract_hold_from_the_moment_it_begins(tmp_path: Path) -> None:
    town = Town(tmp_path, replace(MINE, contract="t-24"), THERE)
    town.signs(
        Contract("t-24", 0.0, 1200.0),
        Contract("t-24", 1200.0, floor_down_mbps=10.0),
    )
    town.reads(2, **speed(4.0))  # until 1120
    assert town.states() == ["online", "online"]

    town.reads(4, **speed(4.0))  # 1180, and from 1240 on under the new terms

    assert town.states() == ["degraded", "online"]
    assert town.reasons() == ["down_mbps 4.0 below 10"]


def test_throughput_takes_two_tests_running_and_windows_without_one_do_not_count(
    tmp_path: Path,
) -> None:
    town = Town(tmp_path, replace(MINE, contract="t-24"), THERE)
    town.signs(Contract("t-24", 0.0, floor_down_mbps=10.0))

    def after(windows: int, **fields: Any) -> str:
        town.reads(windows, **fields)
        return town.states()[0]

    assert after(1, **speed(9.9)) == "online"
    assert after(1, **speed(10.0)) == "online"
    assert after(1, **speed(9.9)) == "online"
    assert after(5) == "online"
    assert after(1, **speed(9.9)) == "degraded"
    assert after(8) == "degraded"
    assert after(1, **speed(10.0)) == "degraded"
    assert after(1, **speed(10.0)) == "online"


def test_a_floor_that_falls_away_degrades_no_more(tmp_path: Path) -> None:
    town = Town(tmp_path, replace(MINE, contract="t-24"), THERE)
    town.signs(Contract("t-24", 0.0, floor_down_mbps=10.0))
    town.reads(2, **speed(4.0))
    assert town.states()[0] == "degraded"

    town.signs(Contract("t-24", 0.0))
    town.reads(1)

    assert town.states()[0] == "online"


def test_rules_that_health_has_made_impossible_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    town = Town(tmp_path)
    with caplog.at_level(logging.ERROR):
        town.imports("[isp.infotek]\nrtt_clear_ms = 200\n")
        town.reads(3, **SLOW)

    assert town.states() == ["degraded", "degraded"]
    assert "rtt_clear_ms" in caplog.text
