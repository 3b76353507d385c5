"""A site that flaps, through real ingest: one alert, and no outage that stays is missed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from server import inforce
from server.draft import Draft
from server.events import Opened, Resolved
from server.health import Health
from server.memory import Memory
from server.model import Incident, Kind, Rules, Site
from tests.server.centre import Centre, home
from tests.server.made import MINE, SITE, Device, identity

STATE = f"state/girian/telkom/{SITE}"
REST_S = Rules().flap_rest_s
DOWN = {"domestic": "fail", "world": "fail"}


class Restless:
    """A site and the centre that watches it, tick by tick."""

    def __init__(self, folder: Path, **rules: float) -> None:
        self.centre = home(folder, **rules)
        self.device = Device()
        self.now = 1000.0

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 50.0)
            self.centre.waits(self.now)

    def reads(self, **fields: Any) -> None:
        self.centre.hears(self.device.live(self.now, **fields))

    def flaps(self) -> None:
        """Until it flaps: silent, and back, again and again. The last is an outage."""
        self.reads()
        for _ in range(4):
            self.passes(300)
            self.reads()
        self.passes(200)

    def fires(self) -> dict[str, Any]:
        """The alerts that stand at the broker and fire, by kind."""
        told = [one for at, one in self.centre.retained().items() if at.startswith("alerts/")]
        firing = [one for one in told if one["status"] == "firing"]
        assert len(firing) == len({one["kind"] for one in firing})
        return {one["kind"]: one for one in firing}

    def open(self, kind: Kind) -> Incident:
        """The open incident of a kind."""
        (found,) = [one for one in self.centre.incidents() if one.firing and one.kind is kind]
        return found

    def why(self, incident: Incident) -> list[tuple[str | None, str]]:
        """The group and the reason of each of its revisions."""
        kept = self.centre.store.revisions(incident.id)
        return [(one.group, one.why) for _, one in kept]


def test_one_alert_stands_for_all_and_the_outage_is_recorded_and_covered(tmp_path: Path) -> None:
    site = Restless(tmp_path)
    site.flaps()

    (alert,) = site.fires().values()
    assert (alert["kind"], alert["severity"]) == ("site_flapping", "warning")
    assert alert["reasons"] == ["9 changes of status in 20 min"]
    assert alert["title"] == "Pasar Girian is flapping: 9 changes of status in 20 min"
    assert site.centre.retained()[STATE]["flapping"] is True
    assert site.centre.retained()[STATE]["status"] == "offline"
    outage = site.open(Kind.SITE_OFFLINE)
    assert (outage.group, outage.told) == (alert["id"], False)
    assert site.centre.standing()[STATE] == site.centre.retained()[STATE]


def test_while_it_flaps_nothing_else_is_said(tmp_path: Path) -> None:
    site = Restless(tmp_path)
    site.flaps()
    before = {one.topic for one in site.centre.store.outbox(0) if "/alerts/" in one.topic}
    for _ in range(6):
        site.reads()
        site.passes(300)

    after = {one.topic for one in site.centre.store.outbox(0) if "/alerts/" in one.topic}
    assert after == before
    outages = [one for one in site.centre.incidents() if one.kind is Kind.SITE_OFFLINE]
    assert len(outages) == 11


def test_an_outage_that_stays_is_alerted_within_the_bound(tmp_path: Path) -> None:
    site = Restless(tmp_path)
    site.flaps()
    outage = site.open(Kind.SITE_OFFLINE)
    site.passes(outage.detected_at + REST_S - 1 - site.now)
    assert list(site.fires()) == ["site_flapping"]

    site.passes(1)

    (alert,) = site.fires().values()
    assert (alert["id"], alert["group"]) == (outage.id, None)
    assert site.centre.retained()[STATE]["flapping"] is False
    assert site.why(site.open(Kind.SITE_OFFLINE))[-1] == (
        None,
        "the site has calmed, and it still lasts",
    )


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    site = Restless(tmp_path)
    site.flaps()
    site.centre.ingest.refresh_registry(site.now + 60)  # what ended is looked at again
    stood = site.centre.standing()
    site.centre.restart()
    assert site.centre.standing() == stood
    site.passes(REST_S)

    assert list(site.fires()) == ["site_offline"]


def test_what_was_told_before_is_revised_once_and_stands_and_is_revised_again_when_it_calms(
    tmp_path: Path,
) -> None:
    store = home(tmp_path).store
    memory = Memory(inforce.of_default(Rules()))
    memory.registry[SITE] = MINE
    access_point = Opened(Kind.ACCESS_POINT_OFFLINE, 1000, 1000, ("ap-1 unreachable",))
    flapping = Opened(Kind.SITE_FLAPPING, 900, 1100, ("9 changes of status in 20 min",))
    told: list[list[tuple[int, str | None]]] = []
    for event in (access_point, flapping, Resolved(Kind.SITE_FLAPPING, 2000)):
        posted = len(store.outbox(0))
        draft = Draft(memory, store, 3600)
        with store.transaction():
            draft.apply(Health(SITE), (event,))
            draft.save(1000)
        draft.merge()
        (ours,) = (one for one in memory.firing.values() if one.kind is access_point.kind)
        letters = [one.payload for one in store.outbox(0)[posted:] if ours.id in one.topic]
        bodies = [msgspec.json.decode(one) for one in letters]
        told.append([(one["revision"], one["group"]) for one in bodies])

    (flaps,) = (one for one in store.incidents() if one.kind is Kind.SITE_FLAPPING)
    assert told == [[(1, None)], [(2, flaps.id)], [(3, None)]]
    assert ours.why == "the site has calmed, and it still lasts"


def test_a_site_imported_while_it_flaps_has_one_alert(tmp_path: Path) -> None:
    site = Restless.__new__(Restless)
    site.centre, site.device, site.now = Centre(tmp_path), Device(), 1000.0
    site.flaps()
    assert site.fires() == {}
    site.centre.enter(MINE)
    site.centre.ingest.refresh_registry(site.now)

    assert list(site.fires()) == ["site_flapping"]
    site.passes(REST_S)
    assert list(site.fires()) == ["site_offline"]


def test_a_group_goes_before_the_flapping_and_gives_back_what_it_took(tmp_path: Path) -> None:
    site = Restless(tmp_path, flap_start_ratio=0.2, flap_stop_ratio=0.1)
    others = [Device(site=name, stream=identity(name)) for name in ("bb-1", "bb-2")]
    site.centre.enter(*(Site(one.site, one.site, "maesa", "telkom") for one in others))
    site.centre.ingest.refresh_registry(site.now)
    for _ in range(3):  # silent for 150 s, twice
        for _ in range(4):
            site.centre.hears(*(one.live(site.now) for one in others))
            site.passes(50)
        site.reads()
    assert list(site.fires()) == ["site_flapping"]
    flapping = site.open(Kind.SITE_FLAPPING)
    site.centre.hears(*(one.live(site.now) for one in others))

    site.passes(200)
    group = site.open(Kind.GROUP_OUTAGE)
    outages = {one.site: one for one in site.centre.incidents() if one.firing}
    assert {outages[name].group for name in group.sites} == {group.id}
    assert len(group.sites) == 3

    site.centre.hears(*(one.live(site.now) for one in others))
    site.passes(120)  # of these a minute in which few of the group are away
    assert site.open(Kind.SITE_OFFLINE).group == flapping.id
    assert set(site.fires()) == {"site_flapping"}


STEPS = st.lists(
    st.tuples(st.sampled_from(["reads", "down", "silent"]), st.sampled_from([60, 160, 300, 1000])),
    min_size=10,
    max_size=25,
)


@settings(max_examples=8, deadline=None)
@given(steps=STEPS)
def test_never_two_alerts_of_a_flapping_site_and_no_outage_silent_for_longer_than_the_bound(
    steps: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as folder:
        site = Restless(Path(folder), flap_start_ratio=0.2, flap_stop_ratio=0.1)
        for what, seconds in steps:
            if what != "silent":
                site.reads(**({"ladder": DOWN} if what == "down" else {}))
            site.passes(seconds)
            fires = site.fires()
            if "site_flapping" in fires:
                assert list(fires) == ["site_flapping"]
            for one in site.centre.incidents():
                if one.firing and site.now - one.detected_at >= REST_S:
                    assert one.kind in fires
        site.centre.store.close()
