"""Who gets another release when, and what a device asks of it; no machine is needed for that."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lab.net import sh

_ANSIBLE = Path(__file__).parents[2] / "deploy" / "ansible"
_waves = runpy.run_path(str(_ANSIBLE / "filter_plugins" / "pantau_waves.py"))["pantau_waves"]
_TRIAL = _ANSIBLE / "roles" / "agent" / "files" / "trial.py"
_NEW = "/opt/pantau/0.2.0/bin/python"
_OLD = "/opt/pantau/0.1.0/bin/python"
_CITY = [[f"{district}-{number:02}", district] for district in "bac" for number in range(20)]


def test_one_goes_first_then_some_of_every_district_then_district_by_district() -> None:
    waves = _waves(_CITY, 5)
    assert waves[:2] == [["a-00"], ["b-00", "c-00", "a-01"]]
    assert [{site[0] for site in wave} for wave in waves[2:]] == [{"a"}, {"b"}, {"c"}]


@pytest.mark.parametrize("percent", [0, 1, 5, 50, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 21, 60])
def test_every_site_has_one_wave_and_no_wave_is_empty(percent: float, count: int) -> None:
    waves = _waves(_CITY[:count], percent)
    assert sorted(site for wave in waves for site in wave) == sorted(s for s, _ in _CITY[:count])
    assert all(waves)


def test_a_site_that_is_asked_for_goes_first() -> None:
    assert _waves(_CITY, 5, "c-07")[:2] == [["c-07"], ["a-00", "b-00", "c-00"]]


@pytest.mark.parametrize(
    ("active", "status", "program", "says"),
    [
        ("active", "connected with MQTT 5; the centre confirms; 0 readings wait", _NEW, ""),
        ("active", "connected with MQTT 5; 0 readings wait", _NEW, ""),  # says nothing of it
        (
            "active",
            "connected with MQTT 5; the centre confirmed nothing yet; 3 readings wait",
            _NEW,
            "confirms none of its readings",
        ),
        ("active", "connected with MQTT 5; 0 readings wait", _OLD, "cut off"),
        ("active", "", _NEW, "finished no window"),
        ("active", "safe mode: 3 crashes in 600 s; 9 readings wait", _NEW, "says: safe mode"),
        ("activating", "", _NEW, "does not become ready"),
        ("activating", "", "", "does not stay up (result exit-code)"),
        ("failed", "", "", "does not stay up (result exit-code)"),
    ],
)
def test_a_release_proves_itself_by_a_window_a_broker_and_a_centre_that_confirms(
    active: str, status: str, program: str, says: str
) -> None:
    trial = runpy.run_path(str(_TRIAL))
    agent = trial["Agent"](active, "exit-code", status, program)
    missing = trial["missing"]("0.2.0", agent)
    assert (missing == "") == (says == "")
    assert says in missing


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ('{"checks": [{"name": "broker", "ok": true}, {"name": "echo", "ok": true}]}', True),
        ('{"checks": [{"name": "broker", "ok": true}, {"name": "echo", "ok": false}]}', False),
        ("Traceback", True),
        ("{}", True),
    ],
)
def test_a_centre_that_sends_no_echo_is_away_and_a_release_that_cannot_ask_is_not_spared(
    tmp_path: Path, said: str, answers: bool
) -> None:
    asked = runpy.run_path(str(_TRIAL))["_centre_answers"]
    asked.__globals__["_OPT"] = tmp_path
    program = tmp_path / "0.2.0/bin/pantau-agent"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit 1\n")
    program.chmod(0o755)
    assert asked("0.2.0") is answers
    assert asked("0.3.0"), "there is none"


_UNCONFIRMED = "connected with MQTT 5; the centre confirmed nothing yet; 3 readings wait"


@pytest.mark.parametrize(
    ("answers", "confirmed", "said"),
    [
        ([True, True], False, "confirms none of its readings; 0.1.0 runs again"),
        ([False, False, True, True], False, "confirms none of its readings; 0.1.0 runs again"),
        ([False, False], True, "0.2.0 proved itself"),
        ([False, True], True, "0.2.0 proved itself"),  # it came back while it was asked
        ([True, False, True, False], True, "0.2.0 proved itself"),
    ],
)
def test_a_release_is_at_fault_where_the_centre_answers_twice_and_confirms_nothing(
    tmp_path: Path, answers: list[bool], confirmed: bool, said: str
) -> None:
    trial = runpy.run_path(str(_TRIAL))
    known = trial["_watch"].__globals__
    left, went = list(answers), []

    def centre_answers(_: str) -> bool:
        return left.pop(0)

    def agent() -> object:
        status = _UNCONFIRMED if left or not confirmed else "connected; the centre confirms"
        return trial["Agent"]("active", "", status, _NEW)

    known |= {
        "_RECORD": tmp_path / "record.json", "_VERDICT": tmp_path / "verdict.json",
        "_LOOK_S": 0.0, "_agent": agent, "_centre_answers": centre_answers, "_go_back": went.append,
    }  # fmt: skip
    trial["_write"](tmp_path / "record.json", {"old": "0.1.0", "new": "0.2.0", "within_s": 0.01})
    assert trial["_watch"]() == 0
    assert said in (tmp_path / "verdict.json").read_text()
    assert went == ([] if confirmed else ["0.1.0"])
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize(
    ("starts_s", "proves_s", "said"),
    [
        (4, 9, "0.2.0 proved itself after 9 s"),
        (4, 10, "0.2.0 finished no window; 0.1.0 runs again"),
        (6, 8, "0.2.0 was not started: the play was cut off; 0.1.0 runs again"),
    ],
)
def test_the_time_begins_anew_as_the_release_first_runs(
    tmp_path: Path, starts_s: int, proves_s: int, said: str
) -> None:
    trial = runpy.run_path(str(_TRIAL))
    passed_s = 0

    def sleep(_: float) -> None:
        nonlocal passed_s
        passed_s += 1

    def agent() -> object:
        status = "connected; the centre confirms" if passed_s >= proves_s else ""
        return trial["Agent"]("active", "", status, _NEW if passed_s >= starts_s else _OLD)

    trial["_watch"].__globals__.update(
        _RECORD=tmp_path / "record.json", _VERDICT=tmp_path / "verdict.json", _agent=agent,
        _go_back=lambda _: None, time=SimpleNamespace(monotonic=lambda: passed_s, sleep=sleep),
    )  # fmt: skip
    trial["_write"](tmp_path / "record.json", {"old": "0.1.0", "new": "0.2.0", "within_s": 5})
    assert trial["_watch"]() == 0
    assert json.loads((tmp_path / "verdict.json").read_text())["said"] == said


@pytest.mark.needs_root
def test_a_power_cut_after_a_release_proved_itself_brings_no_trial_back(tmp_path: Path) -> None:
    image, card, later = tmp_path / "card.img", tmp_path / "card", tmp_path / "later"
    sh("truncate", "-s", "16M", str(image))
    sh("mkfs.ext4", "-q", str(image))
    card.mkdir()
    later.mkdir()
    sh("mount", "-o", "loop,noatime,commit=1800", str(image), str(card))  # as pantau-card does
    try:
        trial = runpy.run_path(str(_TRIAL))
        record = card / "record.json"
        known = trial["_watch"].__globals__
        known |= {
            "_RECORD": record, "_VERDICT": card / "verdict.json",
            "_agent": lambda: trial["Agent"]("active", "", "connected; the centre confirms", _NEW),
        }  # fmt: skip
        trial["_write"](record, {"old": "0.1.0", "new": "0.2.0", "within_s": 60.0})
        assert trial["_watch"]() == 0
        sh("cp", str(image), f"{image}.cut")  # the power is cut now
    finally:
        sh("umount", str(card))
    sh("mount", "-o", "loop", f"{image}.cut", str(later))
    try:
        assert (later / "verdict.json").exists()
        assert not (later / "record.json").exists()
    finally:
        sh("umount", str(later))


def test_all_that_a_play_writes_beside_the_release_is_kept_for_the_way_back() -> None:
    trial = runpy.run_path(str(_TRIAL))
    tasks = (_ANSIBLE / "roles/agent/tasks/configure.yml").read_text()
    written = {Path(found) for found in re.findall(r'(?:dest|path): "?(/etc/[^"{\s]+)', tasks)}
    assert len(written) >= 6
    kept = trial["_FILES"]
    assert {
        file for file in written if not any(one in (file, *file.parents) for one in kept)
    } == set()
    copies = [trial["_kept"](file) for file in kept]
    assert len({*copies}) == len(copies)


def test_what_is_kept_comes_back_as_it_was_and_what_was_not_there_goes(tmp_path: Path) -> None:
    copy = runpy.run_path(str(_TRIAL))["_copy"]
    for name in ("was", "kept"):
        (tmp_path / name).mkdir()
    was, kept = tmp_path / "was", tmp_path / "kept"
    (was / "file").write_text("old")
    (was / "link").symlink_to("/nowhere")
    (was / "folder").mkdir()
    (was / "folder/part").write_text("old")
    names = ("file", "link", "folder", "nothing")
    for name in names:
        copy(was / name, kept / name)
    (was / "file").write_text("new")
    (was / "link").unlink()
    (was / "folder/more").write_text("new")
    (was / "nothing").write_text("new")
    for _ in range(2):  # a way back that was cut off is gone once more
        for name in names:
            copy(kept / name, was / name)
        assert (was / "file").read_text() == "old"
        assert (was / "link").readlink() == Path("/nowhere")
        assert [one.name for one in (was / "folder").iterdir()] == ["part"]
        assert not (was / "nothing").exists()
