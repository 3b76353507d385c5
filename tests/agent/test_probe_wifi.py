"""Scans judged from what was heard, and the helpers that scan and walk, as processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from agent import hotspot, wire
from agent.helpers.walk_talk import NET_ADMIN, NET_RAW, missing
from agent.helpers.wifi_heard import Announced, channel, tell
from agent.probes import Context, ProbeError
from agent.probes.wifi import WalkProbe, WifiProbe
from agent.probes.wifi_helper import Helper
from tests.lab.net import child_environment
from tests.lab.private import held, spellings
from tests.wait import until

OURS = "02:00:00:00:00:01"
AP = Announced("020000000001", b"lab", 2437, -40.0)
TWIN = Announced("020000000099", b"lab", 2462, -20.0)
OTHER = Announced("020000000050", b"cafe", 5180, -60.0)


def judged(heard: list[Announced], **bssids: str) -> wire.Wifi:
    return msgspec.convert(tell(heard, "lab", bssids, {2437: 0.5}), wire.Wifi)


def test_ours_is_told_by_name_a_twin_is_counted_and_others_are_others() -> None:
    value = judged([OTHER, TWIN, AP], ap=OURS)
    assert (value.seen, value.expected, value.foreign, value.others) == (True, 1, 1, 1)
    heard = wire.Heard(signal_dbm=-40.0, band="2.4", channel=6, load_ratio=0.5)
    assert value.access_points == {"ap": heard}
    assert value.strongest == heard, "a louder twin is not ours"


def test_without_configured_radios_nobody_is_expected_or_foreign() -> None:
    value = judged([TWIN, AP])
    assert (value.seen, value.expected, value.foreign) == (True, msgspec.UNSET, msgspec.UNSET)
    assert isinstance(value.strongest, wire.Heard)
    assert value.strongest.signal_dbm == -20


def test_a_hotspot_that_only_the_twin_sends_is_seen_and_not_expected() -> None:
    value = judged([TWIN], ap=OURS)
    assert (value.seen, value.expected, value.foreign) == (True, 0, 1)


def test_silence_is_not_seen() -> None:
    assert judged([OTHER], ap=OURS).seen is False
    assert judged([]) == wire.Wifi(seen=False, others=0)


def test_what_is_told_holds_no_address() -> None:
    text = wire.encode(judged([AP, TWIN, OTHER], ap=OURS))
    for one in (AP, TWIN, OTHER):
        assert held(text, spellings(":".join(re.findall("..", one.address)))) == []


@pytest.mark.parametrize(
    ("frequency_mhz", "number"),
    [(2412, 1), (2472, 13), (2484, 14), (5180, 36), (5825, 165), (5955, 1), (2413, None)],
)
def test_a_frequency_has_its_channel(frequency_mhz: int, number: int | None) -> None:
    assert channel(frequency_mhz) == number


def outcome(probe: WifiProbe | WalkProbe, what: hotspot.Hotspot) -> str:
    """Its error, once there is one."""

    def step() -> str | None:
        try:
            assert probe(Context(hotspot=what)) is None
        except ProbeError as err:
            return str(err)
        return None

    return until(step, 60, "the helper to end")


@pytest.mark.needs_root
def test_a_machine_without_that_radio_says_so_in_one_line() -> None:
    wifi = hotspot.Wifi("lab", {}, "wlan99", 300)
    walk = hotspot.Walk("wlan9", "http://127.0.0.1/", None, None, 3600)
    what = hotspot.Hotspot(wifi=wifi, walk=walk)
    assert outcome(WalkProbe(), what) == "no radio named wlan9; mend interface in [walk]"
    said = outcome(WifiProbe(), what)
    assert "\n" not in said
    assert said.startswith(("no radio named wlan99", "no radio: this kernel has no wireless"))


def test_without_configuration_nothing_is_measured() -> None:
    assert WifiProbe()(Context()) is None
    assert WalkProbe()(Context()) is None


def test_a_helper_that_dies_without_a_word_is_an_error_with_its_code() -> None:
    helper: Helper[Any] = Helper("no_such_helper", wire.Wifi, 30)
    helper.begin({})
    with pytest.raises(ProbeError, match=r"the helper ended with 1: .*no_such_helper"):
        until(lambda: helper.result(5.0), 60, "the helper to end")
    assert not helper.runs


def test_a_helper_that_died_before_it_was_asked_is_an_error_with_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = subprocess.Popen

    def dead(_command: list[str], **kwargs: Any) -> subprocess.Popen[bytes]:
        process = real(["false"], **kwargs)
        process.wait()
        return process

    monkeypatch.setattr(subprocess, "Popen", dead)
    helper: Helper[Any] = Helper("wifi_scan", wire.Wifi, 30)
    helper.begin({})
    with pytest.raises(ProbeError, match="the helper ended with 1"):
        helper.result(5.0)
    assert not helper.runs


def test_a_helper_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def hanging(_command: list[str], **kwargs: Any) -> subprocess.Popen[bytes]:
        return real(["sleep", "1000"], **kwargs)

    monkeypatch.setattr(subprocess, "Popen", hanging)
    helper: Helper[Any] = Helper("wifi_scan", wire.Wifi, -5.0)
    helper.begin({})
    with pytest.raises(ProbeError, match="timeout"):
        helper.result(0.01)
    assert not helper.runs


_WALK = {"ssid": "lab", "interface": "lo", "url": "", "pass_url": None, "password_file": None}
_SCAN = {"ssid": "lab", "bssids": {}, "interface": None}
_ARP = {"addresses": {"ap-1": "127.0.0.1"}}


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("module", "request_", "granted", "error"),
    [
        ("wifi_scan", _SCAN, "+net_raw", "not permitted; grant CAP_NET_ADMIN"),
        ("walk", _WALK, "+net_raw", "not permitted; grant CAP_NET_ADMIN"),
        ("walk", _WALK, "+net_admin", "not permitted; grant CAP_NET_RAW"),
        ("walk", _WALK, "+chown", "not permitted; grant CAP_NET_ADMIN and CAP_NET_RAW"),
        ("arp", _ARP, "+net_admin", "not permitted; grant CAP_NET_RAW"),
    ],
)
def test_a_helper_says_which_capability_it_lacks(
    module: str, request_: dict[str, object], granted: str, error: str
) -> None:
    done = subprocess.run(
        ["setpriv", f"--bounding-set=-all,{granted}", "--inh-caps=-all",
         sys.executable, "-m", f"agent.helpers.{module}"],
        input=json.dumps({**request_, "limit_s": 30}), env=child_environment(),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"error": error}
    assert not done.stderr


@pytest.mark.parametrize(
    ("effective", "lacking"),
    [
        ("0000000000003000", []),
        ("0000000000001000", [NET_RAW]),
        ("0000000000002000", [NET_ADMIN]),
        ("0000000000000000", [NET_ADMIN, NET_RAW]),
    ],
)
def test_capabilities_are_read_as_the_kernel_shows_them(effective: str, lacking: list[str]) -> None:
    text = f"Name:\tpython\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t0\n"
    assert missing(text, (NET_ADMIN, NET_RAW)) == lacking
