"""Which incidents speak, and what that puts at the broker."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from server import voice
from server.model import Cause, Incident, Kind

ONE = Incident("id-1", Kind.SITE_OFFLINE, "aa-1", "maesa", "telkom", "x", 1000.0, 1030.0)
TOPIC = "pantau/v1/alerts/maesa/telkom/id-1"
GROUP = replace(
    ONE,
    id="g-1",
    kind=Kind.GROUP_OUTAGE,
    site="g-1",
    district="-",
    sites=("aa-1", "aa-2", "aa-3"),
    places=(("maesa", "telkom"), ("girian", "telkom"), ("maesa", "telkom")),
)


def test_an_incident_is_told_and_remembers_it() -> None:
    spoken = voice.speak(ONE, held=False)

    assert [topic for topic, _ in spoken.letters] == [TOPIC]
    assert spoken.incident.told
    assert voice.standing(spoken.incident) == spoken.letters


def test_one_that_is_held_or_covered_is_silent_and_does_not_stand() -> None:
    for silent in (
        voice.speak(ONE, held=True),
        voice.speak(replace(ONE, group="g-1"), held=False),
    ):
        assert silent.letters == []
        assert not silent.incident.told
        assert voice.standing(silent.incident) == []


@pytest.mark.parametrize(
    ("field", "value", "after"), [("group", "g-1", None), ("maintenance", True, False)]
)
def test_one_that_was_told_and_is_covered_says_by_what_and_is_told_to_its_end(
    field: str, value: object, after: object
) -> None:
    covered = voice.speak(replace(ONE, told=True, **{field: value}), held=False)

    ((topic, payload),) = covered.letters
    assert (topic, msgspec.json.decode(payload)[field]) == (TOPIC, value)
    assert voice.standing(covered.incident) == covered.letters
    ended = voice.speak(covered.incident.resolved(2000.0, Cause()), held=False)
    ((topic, payload),) = ended.letters
    assert (topic, msgspec.json.decode(payload)["status"]) == (TOPIC, "resolved")
    outlasting = voice.speak(replace(covered.incident, **{field: after}), held=False)
    ((topic, payload),) = outlasting.letters
    assert (topic, msgspec.json.decode(payload)[field]) == (TOPIC, after)


def test_announced_work_silences_what_begins_in_it_and_what_outlasts_it_is_told() -> None:
    inside = voice.speak(replace(ONE, maintenance=True), held=False)
    assert inside.letters == []

    outlasting = voice.speak(replace(inside.incident, maintenance=False), held=False)
    assert [topic for topic, _ in outlasting.letters] == [TOPIC]
    assert voice.speak(inside.incident.resolved(2000.0, Cause()), held=False).letters == []


def test_what_was_never_told_is_not_told_when_it_ends() -> None:
    ended = ONE.resolved(2000.0, Cause())

    assert voice.speak(ended, held=False).letters == []
    assert len(voice.speak(replace(ended, told=True), held=True).letters) == 1


def test_a_group_speaks_once_for_each_district_and_isp_with_its_own_sites() -> None:
    told = {
        topic: (msgspec.json.decode(payload)["sites"], msgspec.json.decode(payload)["site_count"])
        for topic, payload in voice.letters(GROUP)
    }

    assert told == {
        "pantau/v1/alerts/maesa/telkom/g-1": (["aa-1", "aa-3"], 2),
        "pantau/v1/alerts/girian/telkom/g-1": (["aa-2"], 1),
    }
