"""Whatever happens in whatever order: one open incident of a kind, and a ledger that adds up."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server import health, troubles
from server.model import UNREGISTERED, Kind, Site, Status
from tests.server.centre import Centre
from tests.server.made import OTHER, SITE, Device, Message, identity, presence, says

NAMES = (SITE, OTHER)
PLACES = {
    "girian": ("girian", "telkom", False),
    "maesa": ("maesa", "icon", False),
    "retired": ("girian", "telkom", True),
}
WINDOWS: dict[str, dict[str, Any]] = {
    "good": {"ladder": {"world": "ok", "dns": "ok"}, "host": {"undervoltage": False}},
    "no world": {"ladder": {"world": "fail", "dns": "ok"}},
    "no world, no dns": {"ladder": {"world": "fail", "dns": "fail"}},
    "undervoltage": {"ladder": {"world": "ok", "dns": "ok"}, "host": {"undervoltage": True}},
}
WHO = st.sampled_from(NAMES)
ENDS = st.sampled_from(["lost", "stopped", "upgrade", "reboot"])


class Ledger(RuleBasedStateMachine):
    """Two sites, one of them not registered at first, and all that can happen to them."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        site = Site(SITE, "Pasar", "girian", "telkom")
        self.centre = Centre(self.folder, site, flap_start_ratio=0.2, flap_stop_ratio=0.1)
        self.now = 2000.0
        self.set_back_s = 0.0
        self.devices = {name: Device(site=name, stream=identity(name)) for name in NAMES}
        self.sessions = dict.fromkeys(NAMES, 0)
        self.missed: dict[str, list[int]] = {name: [] for name in NAMES}

    def teardown(self) -> None:
        self.centre.store.close()
        shutil.rmtree(self.folder)

    @property
    def clock(self) -> float:
        """The server's time; the devices measure by the true one."""
        return self.now - self.set_back_s

    def _pass(self, seconds: float) -> None:
        """Time passes, and then is judged."""
        self.now += seconds
        self.centre.waits(self.clock)

    def _deliver(self, who: str, *seqs: int) -> None:
        message = self.devices[who].message(self.now, *seqs, received_at=self.clock)
        self.centre.hears(message)

    @rule(who=WHO, count=st.integers(1, 6), kind=st.sampled_from(sorted(WINDOWS)))
    def read(self, who: str, count: int, kind: str) -> None:
        for _ in range(count):
            self._pass(60)
            self.devices[who].reading(self.now, **WINDOWS[kind])
            self._deliver(who)

    @rule(who=WHO, kind=st.sampled_from(sorted(WINDOWS)))
    def miss(self, who: str, kind: str) -> None:
        self._pass(60)
        self.devices[who].reading(self.now, **WINDOWS[kind])
        self.missed[who].append(self.devices[who].seq)

    @rule(who=WHO)
    def catch_up(self, who: str) -> None:
        if self.missed[who]:
            self._deliver(who, *self.missed[who])
            self.missed[who] = []

    @rule(who=WHO)
    def repeat(self, who: str) -> None:
        if self.devices[who].spool:
            self._deliver(who, *self.devices[who].spool)
            self.missed[who] = []

    @rule(who=WHO, caught_up=st.booleans(), retained=st.booleans())
    def connect(self, who: str, caught_up: bool, retained: bool) -> None:
        self.sessions[who] += 1
        self._say(who, "online", None, self.sessions[who], caught_up, retained)

    @rule(who=WHO, end=ENDS, age=st.integers(0, 2), caught_up=st.booleans(), retained=st.booleans())
    def end(self, who: str, end: str, age: int, caught_up: bool, retained: bool) -> None:
        self._say(who, "offline", end, self.sessions[who] - age, caught_up, retained)

    def _say(
        self, who: str, state: Any, end: str | None, session: int, caught_up: bool, retained: bool
    ) -> None:
        part = presence(state, f"{who} {session}", reason=end, site=who)
        self.centre.hears(says(part, self.clock, retain=retained), caught_up=caught_up)

    @rule(seconds=st.sampled_from([1, 29, 31, 100, 200, 1000, 5000]))
    def wait(self, seconds: float) -> None:
        self._pass(seconds)

    @rule(seconds=st.sampled_from([1, 100, 1000]))
    def be_absent(self, seconds: float) -> None:
        self.now += seconds
        self.centre.ingest.absent(self.clock - seconds, self.clock, "away")

    @rule(seconds=st.sampled_from([1, 50, 500]))
    def have_the_clock_set_back(self, seconds: float) -> None:
        self.set_back_s = min(self.set_back_s + seconds, 1000.0)

    @rule(who=WHO)
    def reboot(self, who: str) -> None:
        self.devices[who].restart(f"boot at {self.now}", self.now - 1.0)

    @rule()
    def restart_ingest(self) -> None:
        self.centre.restart()

    @rule(who=WHO, place=st.sampled_from(sorted(PLACES)))
    def enter(self, who: str, place: str) -> None:
        district, isp, retired = PLACES[place]
        self.centre.enter(Site(who, who, district, isp, retired=retired))
        self.centre.ingest.refresh_registry(self.clock)

    @rule(who=WHO)
    def hear_garbage(self, who: str) -> None:
        topic = f"pantau/v1/sites/{who}/readings"
        self.centre.hears(Message(topic, b"garbage", False, self.clock))

    @invariant()
    def one_incident_of_a_kind_is_open_exactly_while_its_trouble_stands(self) -> None:
        firing = [(one.site, one.kind) for one in self.centre.store.firing()]
        assert len(set(firing)) == len(firing)
        expected = set()
        for row in self.centre.store.healths():
            if row.district == UNREGISTERED:
                continue
            if row.health.status is Status.OFFLINE:
                expected.add((row.health.site, Kind.SITE_OFFLINE))
            if row.health.flapping_since:
                expected.add((row.health.site, Kind.SITE_FLAPPING))
            for kind, _ in troubles.raised(row.health.troubles):
                expected.add((row.health.site, kind))
        assert set(firing) == expected

    @invariant()
    def revisions_grow_by_one_and_times_run_forward(self) -> None:
        for incident in self.centre.incidents():
            kept = [one for _, one in self.centre.store.revisions(incident.id)]
            assert [one.revision for one in kept] == list(range(1, len(kept) + 1))
            assert kept[-1] == incident
            ends = [one.resolved_at for one in kept]
            assert len(set(ends)) <= 2
            assert ends == sorted(ends, key=lambda at: at is not None)  # no end is taken back
            assert incident.opened_at <= incident.detected_at
            assert incident.resolved_at is None or incident.resolved_at >= incident.detected_at

    @invariant()
    def what_stands_retained_is_what_the_store_says(self) -> None:
        retained = self.centre.retained()
        standing = self.centre.standing()
        alerts = {t: told for t, told in retained.items() if t.startswith("alerts/")}
        states = {t: told["status"] for t, told in retained.items() if t.startswith("state/")}
        assert alerts == {t: one for t, one in standing.items() if t.startswith("alerts/")}
        assert states == {t: one["status"] for t, one in standing.items() if t[:6] == "state/"}

    @invariant()
    def what_may_run_out_has_a_due_time(self) -> None:
        for row in self.centre.store.healths():
            living = row.health.status in (Status.ONLINE, Status.DEGRADED)
            assert (row.due_at is not None) == (living or row.health.flapping_since > 0)
            assert row.due_at == health.due_at(row.health, self.centre.rules)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30)
