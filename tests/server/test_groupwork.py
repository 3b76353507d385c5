"""Groups through a real store: who waits, who is told, and where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from server.cli import main
from server.model import Kind, Site
from server.store import StoreError
from tests.server.centre import Centre
from tests.server.made import Device, identity, presence, says

NAMES = tuple(f"aa-{number}" for number in range(4))
SITES = tuple(Site(name, name, "girian", "telkom") for name in NAMES)


def alerts(centre: Centre) -> dict[str, str]:
    """What stands at the broker: topic and kind of each alert."""
    return {
        topic: body["kind"]
        for topic, body in centre.retained().items()
        if topic.startswith("alerts/")
    }


def town(folder: Path) -> tuple[Centre, list[Device]]:
    """Four sites of one ISP that are online."""
    centre = Centre(folder, *SITES)
    devices = [Device(site=name, stream=identity(name)) for name in NAMES]
    for device in devices:
        session = f"session of {device.site}"
        centre.hears(
            says(presence("online", session, site=device.site), 999.0), device.live(1000.0)
        )
    return centre, devices


def lost(site: str, at: float) -> object:
    """The will of a site."""
    return says(presence("offline", f"session of {site}", reason="lost", site=site), at)


@pytest.mark.parametrize("broken", [False, True])
def test_an_outage_that_waits_for_a_group_is_told_also_when_that_commit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    centre, devices = town(tmp_path)
    centre.hears(lost("aa-0", 1001.0))
    centre.hears(lost("aa-1", 1031.0))  # pending until 1061
    centre.waits(1031.5)
    assert alerts(centre) == {}

    for now in range(1033, 1041):
        centre.hears(*(device.live(float(now)) for device in devices[2:]))
        centre.waits(float(now))
    if broken:
        with monkeypatch.context() as patch:
            patch.setattr(centre.store, "put_healths", _full)
            with pytest.raises(StoreError):
                centre.waits(1041.6)
    centre.hears(devices[1].live(1043.0))  # it was not gone after all
    for now in range(1044, 1090, 5):
        centre.hears(*(device.live(float(now)) for device in devices[1:]))
        centre.waits(float(now))

    assert list(alerts(centre).values()) == [Kind.SITE_OFFLINE]


def _full(_: object) -> None:
    raise StoreError("disk full")


def gone(centre: Centre) -> None:
    """All four go, and their group is found."""
    centre.hears(*(lost(name, 1001.0) for name in NAMES))
    for now in range(1031, 1060):
        centre.waits(float(now))


def test_a_group_is_one_alert_at_the_broker_and_one_line_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    centre, _ = town(tmp_path)
    gone(centre)
    assert list(alerts(centre).values()) == [Kind.GROUP_OUTAGE]
    centre.store.close()
    config = tmp_path / "server.toml"
    config.write_text(f'[store]\nurl = "{centre.url}"\n')

    assert main(["alerts", "--json", "--config", str(config)]) == 0

    [body] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (body["kind"], body["site_count"]) == (Kind.GROUP_OUTAGE, len(NAMES))


def test_a_member_that_moves_is_told_of_in_its_new_district(tmp_path: Path) -> None:
    centre, _ = town(tmp_path)
    gone(centre)

    centre.enter(replace(SITES[0], district="maesa"), valid_from=1061.0)
    centre.ingest.refresh_registry(1061.0)

    standing = {
        topic: body["sites"]
        for topic, body in centre.retained().items()
        if topic.startswith("alerts/")
    }
    assert {topic.split("/")[1]: sites for topic, sites in standing.items()} == {
        "girian": list(NAMES[1:]),
        "maesa": ["aa-0"],
    }


def test_a_group_that_is_over_is_forgotten(tmp_path: Path) -> None:
    """A process that runs for years must not keep every group that there ever was."""
    centre, devices = town(tmp_path)
    gone(centre)
    returned = centre.ingest._groupwork._returned
    for now in range(1060, 1100, 5):
        centre.hears(*(device.live(float(now)) for device in devices[:2]))
        centre.waits(float(now))
        returned = {**returned, **centre.ingest._groupwork._returned}
    assert returned  # of the first to come back it was asked why
    for now in range(1100, 1800, 5):
        centre.hears(*(device.live(float(now)) for device in devices))
        centre.waits(float(now))

    assert [one.firing for one in centre.incidents() if one.kind is Kind.GROUP_OUTAGE] == [False]
    assert centre.ingest._groupwork._returned == {}
