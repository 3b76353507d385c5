"""Stories: what they say, and how each mistake in one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.fleet import registry, story
from server.fleet.story import EVENTS, OF_CENTRE, OF_MANY, BadStory, Event
from tests.fleet.lab import site

SITES = [
    site("a", isp="biznet", power_area="feeder-1", access_points=("roof", "hall")),
    site("b", isp="biznet", backhaul="tower-1"),
    site("c", isp="telkom", power_area="feeder-1", district="maesa"),
]
TOML = """
seed = 3
start_after_s = 12.5
[fleet]
real = ["c"]
begins_at = "2026-01-31T08:00:00Z"
[[event]]
id = "later"
at_s = 60
what = "isp_down"
isp = "biznet"
[[event]]
id = "sooner"
at_s = 30.0
lasts_s = 120
what = "link_lossy"
site = "b"
loss_ratio = 0.5
"""
CSV = """id,at_s,lasts_s,what,site,isp,loss_ratio
later,60,,isp_down,,biznet,
sooner,30,120,link_lossy,b,,0.5
"""
EVENT = {"at_s": "1", "what": "'cable_cut'", "site": "'a'"}


def event(**changes: str | None) -> str:
    """A story of one event, whose keys are written as given; None leaves one out."""
    keys = {**EVENT, **changes}
    lines = [f"{key} = {value}" for key, value in keys.items() if value is not None]
    return "\n".join(["[[event]]", "id = 'e7'", *lines])


def only(text: str) -> Event:
    """The one event of a story."""
    (found,) = story.parse("s.toml", text, SITES).events
    return found


def test_toml_tells_the_events_in_their_order_with_whom_they_strike() -> None:
    told = story.parse("s.toml", TOML, SITES)
    assert told.events == (
        Event("sooner", 30.0, 120.0, "link_lossy", ("b",), 0.5),
        Event("later", 60.0, None, "isp_down", ("a", "b")),
    )
    assert (told.start_after_s, told.real) == (12.5, {"c"})
    assert told.begins_at == "2026-01-31T08:00:00Z"


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "as a spreadsheet saves it"])
def test_csv_tells_the_same_events(mark: str) -> None:
    assert story.parse("s.csv", mark + CSV, SITES).events == (
        story.parse("s.toml", TOML, SITES).events
    )


def test_a_time_of_toml_itself_says_when_it_begins_too() -> None:
    told = story.parse("s.toml", "fleet.begins_at = 2026-01-31T16:00:00+08:00", SITES)
    assert told.begins_at == "2026-01-31T16:00:00+08:00"


@pytest.mark.parametrize(
    ("by", "target", "struck"),
    [
        ("site", "b", ("b",)),
        ("isp", "biznet", ("a", "b")),
        ("backhaul", "tower-1", ("b",)),
        ("power_area", "feeder-1", ("a", "c")),
        ("district", "maesa", ("c",)),
        ("access_point", "a/hall", ("a",)),
    ],
)
def test_an_event_strikes_all_that_share_its_target(
    by: str, target: str, struck: tuple[str, ...]
) -> None:
    assert only(event(**{"site": None, by: f"'{target}'"})).sites == struck


def test_an_access_point_may_be_named_and_else_is_the_first_of_each_site() -> None:
    off = "'access_point_off'"
    assert only(event(what=off, site=None, access_point="'a/hall'")).points == ("hall",)
    assert only(event(what=off, site=None, isp="'biznet'")).points == ()


def test_each_kind_of_event_is_known_and_has_its_parameter_or_the_default_of_it() -> None:
    for what, parameter in EVENTS.items():
        default = story.DEFAULTS[parameter] if parameter else 0.0
        assert only(event(what=f"'{what}'")).value == default
        if parameter:
            assert only(event(what=f"'{what}'", **{parameter: "0.25"})).value == 0.25
    for what in OF_CENTRE:
        assert only(event(what=f"'{what}'", site=None)).sites == ()


WRONG = {
    "neither TOML nor CSV": ("[[event", "s.toml: ", "TOML"),
    "a number of too many digits": (f"seed = {'9' * 5000}", "s.toml: ", "TOML"),
    "an unknown key": ("colour = 1", "'colour'", "there are event, fleet, seed"),
    "fleet is no table": ("fleet = 1", "s.toml: fleet", "table"),
    "event is no array": ("event = 1", "event", "array of tables"),
    "an event is no table": ("event = [1]", "event 1", "no table"),
    "an unknown key of fleet": ("fleet.colour = 1", "fleet.colour", "remove it"),
    "real is no list": ("fleet.real = 'a'", "fleet.real", "list of sites"),
    "real holds a list": ("fleet.real = [['a']]", "fleet.real", "no site"),
    "real names a stranger": ("fleet.real = ['z']", "fleet.real", "no site 'z'"),
    "begins at no time": ("fleet.begins_at = 'soon'", "fleet.begins_at is 'soon'", "zone"),
    "begins without a zone": ("fleet.begins_at = 2026-01-31T08:00:00", "begins_at", "zone"),
    "begins at a number": ("fleet.begins_at = 1", "fleet.begins_at is '1'", "zone"),
    "start_after_s is negative": ("start_after_s = -1", "start_after_s is -1", "from 0 on"),
    "an event has an unknown key": (event(colour="1"), "event e7", "'colour'; remove it"),
    "an unknown kind": (event(what="'flood'"), "event e7", "'flood'; there are cable_cut"),
    "no kind": (event(what=None), "event e7", "there are cable_cut"),
    "no time": (event(at_s=None), "event e7: at_s is None", "number from 0 on"),
    "a time that is text": (event(at_s="'soon'"), "event e7: at_s is 'soon'", "number"),
    "a time that is true": (event(at_s="true"), "event e7: at_s is True", "number"),
    "a time that is a list": (event(at_s="[1]"), "event e7: at_s is [1]", "number"),
    "a time that is no number": (event(at_s="nan"), "event e7: at_s is nan", "number"),
    "a time that never comes": (event(at_s="inf"), "event e7: at_s is inf", "number"),
    "a time beyond all numbers": (event(at_s="1" + "0" * 400), "event e7: at_s is 1", "number"),
    "it lasts less than no time": (event(lasts_s="-1"), "event e7: lasts_s is -1", "from 0"),
    "all of it is lost and more": (
        event(what="'link_lossy'", loss_ratio="1.5"),
        "event e7: loss_ratio is 1.5",
        "from 0 to 1",
    ),
    "a delay that is text": (
        event(what="'link_slow'", delay_ms="'long'"),
        "event e7: delay_ms is 'long'",
        "number",
    ),
    "it strikes nobody": (event(site=None), "event e7", "by one of site, isp"),
    "it strikes twice": (event(isp="'biznet'"), "event e7", "by one of site, isp"),
    "an unknown site": (event(site="'z'"), "event e7", "no site in the registry has site 'z'"),
    "an unknown isp": (event(site=None, isp="'z'"), "event e7", "has isp 'z'"),
    "an unknown access point": (
        event(what="'access_point_off'", site=None, access_point="'a/cellar'"),
        "event e7",
        "has access_point 'a/cellar'",
    ),
    "a name that two events bear": (f"{event()}\n{event()}", "'e7'", "an id of its own"),
}


@pytest.mark.parametrize(("text", "place", "mend"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_in_one_line_with_its_place_and_mend(
    text: str, place: str, mend: str
) -> None:
    with pytest.raises(BadStory) as told:
        story.parse("s.toml", text, SITES)
    line = str(told.value)
    assert line.startswith("s.toml: ")
    assert place in line
    assert mend in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("id,at_s,what,site\ne7,1,flood,a\n", "event e7: unknown event 'flood'"),
        ("id,at_s,what,site\ne7,soon,cable_cut,a\n", "event e7: at_s is 'soon'"),
        ("id,at_s,what,site,colour\ne7,1,cable_cut,a,red\n", "event e7: unknown key 'colour'"),
        ("at_s,what,site\n1,cable_cut,a\n2,flood,a\n", "event 2: unknown event"),
        ("id,at_s,what,site\ne7,1,cable_cut,a,b\n", "line 2 has more cells than the header"),
        ('id,at_s,what,site\n"e7,1,cable_cut,a\n', "unexpected end of data; it has to be TOML"),
    ],
    ids=["kind", "number", "column", "without an id", "cells", "quotes"],
)
def test_a_mistake_in_csv_is_told_as_well(text: str, named: str) -> None:
    with pytest.raises(BadStory) as told:
        story.parse("s.csv", text, SITES)
    assert str(told.value).startswith("s.csv: ")
    assert named in str(told.value)


def test_a_seed_tells_the_same_story_again_and_another_one_another() -> None:
    sites = registry.made_up(1, 40)

    def told(seed: int) -> story.Story:
        return story.made_up(seed, sites, events=60, over_s=600.0)

    assert told(5) == told(5)
    assert told(5) != told(6)
    assert registry.made_up(1, 40) == sites != registry.made_up(2, 40)


def test_a_story_by_seed_tells_of_physical_events_within_its_time_each_under_its_own_name() -> None:
    sites = registry.made_up(1, 40)
    events = story.made_up(5, sites, events=2000, over_s=600.0).events
    assert {one.what for one in events} == set(EVENTS)
    assert len({one.id for one in events}) == 2000
    by_id = {one.id: one for one in sites}
    for one in events:
        assert 0 <= one.at_s <= 600 * 0.8
        assert one.lasts_s is not None
        shared = OF_MANY.get(one.what, "id")
        assert len({getattr(by_id[name], shared) for name in one.sites}) == 1
    starts = [one.at_s for one in events]
    assert starts == sorted(starts)


def test_a_made_up_registry_can_be_written_and_read_again() -> None:
    sites = registry.made_up(7, 30)
    read = registry.read(registry.to_csv(sites), 1.8e9)
    assert [replace(one, timezone="") for one in read] == [
        replace(one, timezone="") for one in sites
    ]
