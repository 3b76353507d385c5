"""Rules and announced work on a running ingest, entered by the commands.

Real broker, real ``pantau ingest``; the sites are modelled ones that send by the agent's own code.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.lab.city import City
from tests.lab.observer import Observer
from tests.lab.town import Town, event
from tests.wait import until

pytestmark = pytest.mark.slow

THERE, HERE = "b-0", "t-1"
_SITES = f"site,name,district,isp\n{THERE},There,maesa,biznet\n{HERE},Here,girian,telkom\n"
_STRICT = "[isp.biznet]\nrtt_raise_ms = 0.001\nrtt_clear_ms = 0.0005\n"
_LONG_S = 60.0
DARK = event("dark", "power_off")


def _state(observer: Observer, site: str) -> dict[str, Any]:
    """The newest that was said of it, retained or not."""
    told = [one.body for one in observer.seen("state/") if one.topic.endswith(f"/{site}")]
    return told[-1] if told else {}


def _offline(observer: Observer, site: str) -> list[Any]:
    """What was said on the topics of its outages, in order."""
    topics = {
        one.topic
        for one in observer.alerts(site)
        if one.body and one.body["kind"] == "site_offline"
    }
    return [one.body for one in observer.seen("alerts/") if one.topic in topics]


def test_rules_and_announced_work_take_hold_on_a_running_ingest(tmp_path: Path) -> None:
    city = City(
        tmp_path / "city",
        None,
        [],
        health={"min_echoes": 1, "raise_windows": 1, "clear_windows": 1},
    )
    table, rules, none = (tmp_path / name for name in ("town.csv", "strict.toml", "none.toml"))
    table.write_text(_SITES)
    rules.write_text(_STRICT)
    none.write_text("")
    began = datetime.fromtimestamp(time.time() - 60, UTC).isoformat(timespec="seconds")
    ends = datetime.fromtimestamp(time.time() + 86_400, UTC).isoformat(timespec="seconds")
    with (
        city,
        Observer(city.broker) as observer,
        Town(city.broker.url, [THERE, HERE], window_s=2.0, keepalive_s=2).living() as town,
    ):

        def becomes(site: str, **fields: object) -> None:
            until(
                lambda: fields.items() <= _state(observer, site).items(),
                _LONG_S,
                f"{site} {fields}",
            )

        city.pantau("sites", "import", str(table))
        town.begin(THERE, HERE)
        for site in (THERE, HERE):
            becomes(site, status="online")

        told = city.pantau("rules", "import", str(rules))
        assert told.endswith("a running ingest applies it within 10 s\n")
        becomes(THERE, status="degraded")
        assert city.status()[HERE] == "online"
        city.pantau("rules", "import", str(none))
        becomes(THERE, status="online")

        announce = ("maintenance", "add", "--isp", "biznet", "--from", began, "--to", ends)
        city.pantau(*announce)
        becomes(THERE, maintenance=True)
        town.strikes(DARK, THERE)
        becomes(THERE, status="offline", maintenance=True)
        town.strikes(DARK, HERE)
        until(lambda: _offline(observer, HERE), _LONG_S, "the alert of the site without work")
        assert _offline(observer, THERE) == []
        [row] = [
            row
            for row in city.rows("incidents")
            if row["sites"] == [THERE] and not row["resolved_at"]
        ]
        assert row["maintenance"] is True

        city.pantau("maintenance", "cancel", "m1")
        until(lambda: _offline(observer, THERE), _LONG_S, "the alert of what outlasts the work")
        becomes(THERE, status="offline", maintenance=False)

        city.pantau(*announce)
        until(lambda: _offline(observer, THERE)[-1]["maintenance"], _LONG_S, "the alert to say so")
        assert _offline(observer, THERE)[-1]["status"] == "firing"
        town.passes(DARK, THERE)
        becomes(THERE, status="online", maintenance=True)
        until(lambda: _offline(observer, THERE)[-1]["status"] == "resolved", _LONG_S, "its end")
