"""The backfill end to end: what a script did to a city, and what the ledger makes of it.

Real agents in namespaces of their own, a real broker, a real ingest. All of it befalls one city
at the same time: a link is cut for 60 windows (an hour of windows of 60 s; here they take 1 s), a
device loses its power, an agent is killed, a device whose clock is 3 h slow loses its link and
finds the time once it is back, a site loses one of two access points, the line of another comes
and goes, and an ISP's five sites go while the power of a district goes. Then all come back, and
their backlogs.

The judge knows nothing but the record of what the script did and when (`tests.lab.record`), and
what an operator saw at the broker. Seconds that an agent saw must be right to the second: each
edge may be off by `SEEN_S`, and by how late this machine wakes those who sleep.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.wire import epoch, iso
from server.fleet.fleet import in_memory
from tests.faults.mutate import Fault, apply, copy_sources
from tests.lab.city import Agent, City
from tests.lab.net import Namespace, cable
from tests.lab.observer import Observer, Seen
from tests.lab.pki import Authority
from tests.lab.record import NOTHING, Bounds, Deed, Pacemaker, Record, read
from tests.wait import until

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

LINK, POWER, KILLED, CLOCK = "link-0001", "power-0001", "killed-0001", "clock-0001"
ISP = [f"isp-000{n}" for n in range(1, 6)]
DARK = [f"dark-000{n}" for n in range(1, 4)]
POINTS, FLAP = "points-0001", "flap-0001"
CALM = [f"calm-000{n}" for n in range(1, 4)]
CUT = [LINK, CLOCK, *ISP]
UNPOWERED = [POWER, *DARK]
AWAY = [*CUT, *UNPOWERED, KILLED]
SITES = [*AWAY, POINTS, FLAP, *CALM]
ALONE = [LINK, POWER, KILLED, CLOCK]
_ROWS = [
    *[f"{site},{site},of-{site},net-of-{site}," for site in (*ALONE, POINTS, FLAP)],
    *[f"{site},{site},of-{site},biznet," for site in ISP],
    *[f"{site},{site},lembeh,{'telkom' if n % 2 else 'icon'},l-1" for n, site in enumerate(DARK)],
    *[f"{site},{site},of-{site},telkom," for site in CALM],
]
CAUSE = {
    **dict.fromkeys((LINK, CLOCK), "link"),
    **dict.fromkeys(UNPOWERED, "power"),
    KILLED: "agent",
}

WINDOW_S, LONG_S = 1.0, 4.0
"""The windows of most; and of those where windows alone would not tell the second."""
LONG = [CLOCK, *ISP]
LINK_S, REST_S = 60 * WINDOW_S, 30.0
"""How long the one link is away, and how long everything else, at least."""
CLOCK_SLOW_S = 3 * 3600
ECHO_TIMEOUT_S = 2.0
"""A window's reading is made so long after its end: what stops before takes the window along."""
SEEN_S = 1.25
"""An edge in `dead` is that of an echo (11 a window, or one a second), the ledger rounds it to
the second, and where a clock is not synchronised its time is that of a message's receipt."""
CONFIRM_S = 8
"""Longer than the broker takes to miss all who went at once, as the default of 30 s is."""
_ROUNDED_S = 0.1
"""A report has minutes of three decimals."""
ROUNDS = 3
"""So often the line of the flapping site comes and goes."""
_RETURN_S = 150.0
"""Longer than an agent ever waits between two attempts to connect."""
_HEALTH = {
    "offline_confirm_s": CONFIRM_S,
    "silence_windows": 20,
    "raise_windows": 25,
    "clear_windows": 3,
    "flap_start_ratio": 0.15,
    "flap_stop_ratio": 0.1,
    "flap_rest_s": 60,
}
"""The third change of status is one too many: who goes once and comes back has two."""
_RULES = f"""\
[site.{FLAP}]
offline_confirm_s = 1
"""


class Story(NamedTuple):
    """What was done, and what was seen of it."""

    city: City
    record: Path
    slack_s: float
    observer: Observer
    mended_at: float
    begin_at: float
    end_at: float
    incidents: list[dict[str, Any]]
    report: dict[str, Any]
    half: dict[str, Any]
    """The report that ends in the middle of the outages."""

    def deed(self, what: str, site: str) -> Deed:
        """The only deed of this kind done to a site."""
        (deed,) = self.deeds(what, site)
        return deed

    def deeds(self, what: str, site: str) -> list[Deed]:
        """All deeds of this kind done to a site, in order."""
        return [one for one in read(self.record) if (one.what, one.site) == (what, site)]

    def outage(self, site: str) -> dict[str, Any]:
        """The only outage of a site in the ledger."""
        found = [one for one in self.incidents if one["sites"] == [site]]
        (outage,) = [one for one in found if one["kind"] == "site_offline"]
        return outage

    def group(self, *sites: str) -> dict[str, Any]:
        """The only group of just these sites in the ledger."""
        groups = [one for one in self.incidents if one["kind"] == "group_outage"]
        (group,) = [one for one in groups if sorted(one["sites"]) == sorted(sites)]
        return group

    def charged(self, site: str, what: str) -> float:
        """Seconds of the report's numerator, of down, or unmeasured."""
        return charged(self.report, site, what)

    def period(self, *, half: bool = False) -> list[str]:
        """The report that was asked for; half of it ends while all are away."""
        what = ("report", "availability", "--by", "site", "--recompute")
        to_at = self.middle_at if half else self.end_at
        return [*what, "--from", iso(self.begin_at), "--to", iso(to_at)]

    @property
    def middle_at(self) -> float:
        """An instant at which all are away."""
        cuts = [one.ended_at for one in read(self.record) if one.what == "cut" and one.site in CUT]
        return max(cuts) + REST_S / 2

    # What the record says of it

    def seen(self, site: str) -> tuple[Bounds, Bounds]:
        """When a link went and when it came back, as an agent that lives sees it."""
        return self._about(self.deed("cut", site)), self._about(self.deed("mend", site))

    def unseen(self, site: str) -> tuple[Bounds, Bounds]:
        """From when to when an agent measured nothing.

        Its last windows never became readings; the first new one was heard by the operator.
        """
        died, started_at = self.deed("kill", site), self.deed("start", site).began_at
        heard = self.observer.live_readings(site, since=started_at)[0]
        lost_s = WINDOW_S + ECHO_TIMEOUT_S + self.slack_s
        return (
            Bounds(died.began_at - lost_s, died.ended_at),
            Bounds(started_at - self.slack_s, heard.at),
        )

    def _about(self, deed: Deed) -> Bounds:
        return Bounds(deed.began_at - self.slack_s, deed.ended_at + self.slack_s)

    def down(self, site: str) -> Bounds:
        """How long the site was down."""
        if site in CUT:
            began, ended = self.seen(site)
            return began.until(ended)
        if site in UNPOWERED:
            began, ended = self.unseen(site)
            return began.until(ended)
        down = NOTHING
        if site == FLAP:
            for cut, mend in zip(self.deeds("cut", FLAP), self.deeds("mend", FLAP), strict=True):
                down = down.plus(self._about(cut).until(self._about(mend)))
        return down


def charged(report: dict[str, Any], site: str, what: str) -> float:
    """See `Story.charged`."""
    (row,) = [one for one in report["rows"] if one["site"] == site]
    return 60 * float(row[f"{what}_min"])


def window_s(site: str) -> float:
    """How long a site's windows are."""
    return LONG_S if site in LONG else WINDOW_S


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Story:
    folder = tmp_path_factory.mktemp("backfill")
    record = Record(folder / "record.jsonl")
    city = City(folder / "city", authority, SITES, apart=True, health=_HEALTH)
    table = folder / "town.csv"
    table.write_text("\n".join(["site,name,district,isp,power_area", *_ROWS, ""]))
    with (
        city,
        _access_points(city.agents[POINTS]) as point,
        Observer(city.broker, city.namespace) as observer,
        Pacemaker() as pacemaker,
        in_memory() as spools,
        ThreadPoolExecutor() as pool,
    ):
        city.pantau("sites", "import", str(table))
        book = folder / "rules.toml"
        book.write_text(_RULES)
        city.pantau("rules", "import", str(book))
        for site, agent in city.agents.items():
            agent.tables["targets"] = {"domestic": [city.broker.host]}
            agent.tables["reading"] = {"window_s": window_s(site)}
            agent.spool_in(Path(spools) / site)  # a slow disk leaves windows out
        slow = city.agents[CLOCK]
        shift = folder / "shift"
        shift.write_text(f"-{CLOCK_SLOW_S}")
        slow.program = [sys.executable, "-m", "tests.lab.wrong_clock", str(shift)]
        for agent in city.agents.values():
            agent.start()
        for site in SITES:
            until(lambda s=site: len(observer.live_readings(s)) > 1, 90, f"readings of {site}")
        begin_at = time.time()
        with record.doing("lose an access point", POINTS):
            point.ip("link", "set", "eth0", "down")
        flapping = pool.submit(_flap, city.agents[FLAP], observer, record)
        _fell(city, record)
        _confirmed(city, observer)
        with record.doing("give it back", POINTS):
            point.ip("link", "set", "eth0", "up")
        mended_at = _came_back(city, observer, record, shift)
        flapping.result()
        end_at = time.time()
        _settled(city, observer, end_at)
        told = Story(
            city,
            record.file,
            SEEN_S + 2 * pacemaker.late_s,
            observer,
            mended_at,
            begin_at,
            end_at,
            list(city.rows("incidents")),
            {},
            {},
        )
        (whole,), (half,) = city.rows(*told.period()), city.rows(*told.period(half=True))
        return told._replace(report=whole, half=half)


@contextlib.contextmanager
def _access_points(agent: Agent) -> Iterator[Namespace]:
    """Put two access points behind a site; gives the one that may be lost."""
    with Namespace() as lost, Namespace() as kept:
        assert agent.namespace is not None
        for number, point in enumerate((lost, kept)):
            net = f"10.98.{number}"
            _, name = cable(agent.namespace, f"{net}.1/30", point, f"{net}.2/30")
            point.ip("link", "set", name, "down")
            point.ip("link", "set", name, "name", "eth0")
            point.ip("link", "set", "eth0", "up")
        agent.tables["access_points.addresses"] = {"ap-1": "10.98.0.2", "ap-2": "10.98.1.2"}
        yield lost


def _fell(city: City, record: Record) -> None:
    """Everything at the same time, or nearly."""
    for site in (*CUT, *UNPOWERED):
        with record.doing("cut", site):
            city.agents[site].cut()
    for site in (*UNPOWERED, KILLED):
        with record.doing("kill", site):
            city.agents[site].kill9()


def _flap(agent: Agent, observer: Observer, record: Record) -> None:
    """The line of a site goes and comes, each time for as long as everybody takes to notice."""
    for _ in range(ROUNDS):
        for what, do, status in (("cut", agent.cut, "offline"), ("mend", agent.mend, "online")):
            since = time.time()
            with record.doing(what, agent.site):
                do()
            until(
                lambda at=since, to=status: [
                    one
                    for one in observer.states(agent.site)
                    if one.at > at and one.body["status"] == to
                ],
                _RETURN_S,
                f"{agent.site} to be {status}",
            )


def _confirmed(city: City, observer: Observer) -> None:
    """All of it is told, and stands long enough."""
    enough_at = time.time() + REST_S
    for site in (*AWAY, POINTS):
        until(lambda s=site: observer.alerts(s), 90, f"an alert that names {site}")
    until(lambda: {city.status()[site] for site in AWAY} == {"offline"}, 60, "all to be offline")
    until(lambda: time.time() > enough_at, 2 * REST_S, "the time to pass")


def _came_back(city: City, observer: Observer, record: Record, shift: Path) -> float:
    """All of it is mended, the one link last; gives when the first was.

    The clock that is wrong is set once its site is back, as a device does that finds the time.
    """
    mended_at = time.time()
    for site in (CLOCK, *ISP):
        _mend(city.agents[site], record)
    for site in UNPOWERED:
        city.agents[site].mend()
        with record.doing("start", site):
            city.agents[site].boot_anew(str(uuid.uuid4()))
    with record.doing("start", KILLED):
        city.agents[KILLED].start()
    until(lambda: city.status()[CLOCK] == "online", _RETURN_S, "the site with the wrong clock")
    with record.doing("set the clock", CLOCK):
        shift.write_text("0")

    def synchronised() -> bool:
        newest = observer.live_readings(CLOCK)[-1].body["readings"][-1]
        return bool(newest["clock"]["synced"])

    until(synchronised, 60, "a reading by the right clock")
    cut = next(one for one in read(record.file) if (one.what, one.site) == ("cut", LINK))
    until(lambda: time.time() > cut.ended_at + LINK_S, 2 * LINK_S, "the link's hour to pass")
    _mend(city.agents[LINK], record)
    until(lambda: set(city.status().values()) == {"online"}, _RETURN_S, "all to be online")
    return mended_at


def _mend(agent: Agent, record: Record) -> None:
    with record.doing("mend", agent.site):
        agent.mend()


def _settled(city: City, observer: Observer, end_at: float) -> None:
    """All that was measured until then is stored, and everything that is to be told is told."""

    def through(site: str) -> bool:
        """Whether all of the site's newest stream is there, and reaches beyond the end."""
        last = observer.live_readings(site)[-1]
        newest = last.body["readings"][-1]
        taken_in = observer.through(site, last.body["stream"]) >= newest["seq"]
        return taken_in and last.at > end_at + LONG_S + ECHO_TIMEOUT_S + WINDOW_S

    for site in SITES:
        until(lambda s=site: through(s), 90, f"the backlog of {site}")

    def over() -> bool:
        return all(one["status"] == "resolved" for one in city.rows("incidents"))

    until(over, 120, "everything to be resolved")


# What an operator saw while it lasted


def _told(story: Story, kind: str) -> list[Seen]:
    """What was published of incidents of a kind before anything was mended."""
    seen = story.observer.seen("alerts/")
    return [s for s in seen if s.body and s.body["kind"] == kind and s.at < story.mended_at]


@pytest.mark.parametrize("site", ALONE)
def test_who_went_alone_was_told_alone_and_at_first_without_a_cause(
    story: Story, site: str
) -> None:
    (alert,) = [s for s in _told(story, "site_offline") if s.body["sites"] == [site]]
    went = min(one.began_at for one in read(story.record) if one.site == site)
    assert (alert.body["status"], alert.body["group"]) == ("firing", None)
    assert alert.body["cause"]["verdict"] == "unknown"
    assert alert.at >= went + CONFIRM_S


@pytest.mark.parametrize(("sites", "cause"), [(ISP, "isp"), (DARK, "power")])
def test_who_went_together_was_told_together_with_a_guess_and_nobody_of_them_alone(
    story: Story, sites: list[str], cause: str
) -> None:
    copies = [s.body for s in _told(story, "group_outage") if set(s.body["sites"]) <= set(sites)]
    assert {site for body in copies for site in body["sites"]} == set(sites)
    assert len({body["id"] for body in copies}) == 1
    assert {body["cause"]["verdict"] for body in copies} == {cause}
    alone = [s.body for s in _told(story, "site_offline") if set(s.body["sites"]) & set(sites)]
    assert alone == []


def test_a_lost_access_point_was_told_of_its_site_by_name(story: Story) -> None:
    (alert,) = [s.body for s in _told(story, "access_point_offline")]
    assert alert["sites"] == [POINTS]
    assert "ap-1" in alert["title"]
    assert "ap-2" not in alert["title"]
    assert alert["cause"]["verdict"] == "access_point"
    told = "1 of 2 access points unreachable while the agent lives"
    assert alert["cause"]["evidence"] == [told]


def test_of_a_site_that_flaps_one_alert_is_told_instead_of_many(story: Story) -> None:
    """The first outage is told, as nobody knows better yet; those that the flapping covers stand
    in the ledger alone. A round that a busy machine delays may come when the site has calmed."""
    seen = [s.body for s in story.observer.seen("alerts/") if s.body and s.body["sites"] == [FLAP]]
    (flapping,) = {one["id"] for one in seen if one["kind"] == "site_flapping"}
    own = [one["id"] for one in seen if one["kind"] == "site_offline"]
    outages = [one for one in story.incidents if one["sites"] == [FLAP] and one["id"] != flapping]
    assert len(outages) == ROUNDS
    assert {one["id"] for one in outages if one["group"] == flapping} == {
        one["id"] for one in outages if one["id"] not in own
    }
    assert 1 <= len(set(own)) < ROUNDS
    assert {one["cause"]["verdict"] for one in outages} == {"link"}


def test_nothing_was_told_of_anybody_who_lived_on(story: Story) -> None:
    assert [s.body for site in CALM for s in story.observer.alerts(site)] == []


# The ledger afterwards


def test_the_ledger_has_each_outage_once_and_nothing_else(story: Story) -> None:
    told = sorted((one["kind"], *sorted(one["sites"])) for one in story.incidents)
    others = [("group_outage", *sites) for sites in (ISP, DARK)]
    others += [("access_point_offline", POINTS), ("site_flapping", FLAP)]
    others += ROUNDS * [("site_offline", FLAP)]
    assert told == sorted([*others, *(("site_offline", site) for site in AWAY)])


@pytest.mark.parametrize("site", ISP)
def test_a_member_by_itself_saw_its_line_go(story: Story, site: str) -> None:
    """Its own account says link; that the others went with it makes it the ISP's."""
    outage = story.outage(site)
    told = [one["cause"]["verdict"] for one in outage["revisions"]]
    # Each message of a backlog that comes late is looked at anew, and may say the same.
    assert [verdict for verdict, _ in groupby(told)][-2:] == ["link", "isp"], outage["revisions"]


@pytest.mark.parametrize("site", [*ALONE, *DARK])
def test_the_cause_is_what_was_done(story: Story, site: str) -> None:
    outage = story.outage(site)
    assert outage["cause"]["verdict"] == CAUSE[site], outage
    assert outage["cause"]["evidence"]


@pytest.mark.parametrize(("sites", "cause"), [(ISP, "isp"), (DARK, "power")])
def test_the_group_has_its_cause_and_its_members_name_it(
    story: Story, sites: list[str], cause: str
) -> None:
    group = story.group(*sites)
    assert group["cause"]["verdict"] == cause, group
    for site in sites:
        revisions = story.outage(site)["revisions"]
        assert group["id"] in {one["group"] for one in revisions}, revisions


@pytest.mark.parametrize("site", AWAY)
def test_the_outage_opened_with_the_last_sign_of_life_before_it(story: Story, site: str) -> None:
    went = min(one.began_at for one in read(story.record) if one.site == site)
    opened_at = epoch(story.outage(site)["opened_at"])
    assert opened_at in Bounds(went - 2 * window_s(site) - story.slack_s, went + story.slack_s)


# Availability


@pytest.mark.parametrize("site", SITES)
def test_down_is_what_was_done_to_the_second_where_the_agent_saw_it(
    story: Story, site: str
) -> None:
    down = story.down(site)
    assert story.charged(site, "down") in down, down


@pytest.mark.parametrize("site", CUT)
def test_each_edge_is_right_to_the_second(story: Story, site: str) -> None:
    """Until the middle of the outage only its beginning counts, from there on only its end."""
    began, ended = story.seen(site)
    middle = Bounds(story.middle_at, story.middle_at)
    before_s = charged(story.half, site, "down")
    assert before_s in began.until(middle), began
    assert story.charged(site, "down") - before_s in middle.until(ended), ended


@pytest.mark.parametrize("site", SITES)
def test_up_is_all_the_rest(story: Story, site: str) -> None:
    """But for the agent that was killed: nobody measured, and nobody is charged."""
    period_s = story.end_at - story.begin_at
    away = story.down(site)
    if site == KILLED:
        began, ended = story.unseen(site)
        away = began.until(ended)
        assert story.charged(site, "unmeasured") in away
    unheard_s = ECHO_TIMEOUT_S + WINDOW_S + story.slack_s if site in UNPOWERED else 0.0
    low = period_s - away.high - unheard_s - _ROUNDED_S
    up = Bounds(low, period_s - away.low + _ROUNDED_S)
    assert story.charged(site, "numerator") in up, up


@pytest.mark.parametrize("site", [*CALM, POINTS])
def test_who_lived_on_was_up_all_the_while(story: Story, site: str) -> None:
    assert story.charged(site, "down") == 0
    assert story.charged(site, "unmeasured") == 0


def test_the_stored_readings_give_the_same_availability_as_the_ledger(story: Story) -> None:
    assert story.report["same_as_ledger"] is True


# The judge


def test_the_judge_notices_edges_that_are_seconds_off(story: Story, tmp_path: Path) -> None:
    """The same readings, reckoned by sources with a fault."""
    copy_sources(tmp_path / "tree")
    off_s = 1 + max(down.high - down.low for down in map(story.down, CUT))
    place = "epoch(one.start) + shift_s"
    apply(Fault("server/timeline.py", place, f"{place} - {off_s}", ()), tmp_path / "tree")
    earlier = story._replace(begin_at=story.begin_at - 60)
    script = "import sys; from server.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *earlier.period(), "--json", "--config", story.city.config],
        cwd=tmp_path / "tree",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "tree")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["same_as_ledger"] is False, done.stderr
    passed = [site for site in CUT if charged(report, site, "down") in story.down(site)]
    assert passed == []
