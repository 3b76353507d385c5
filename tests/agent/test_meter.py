"""What a metered link's month has taken: counted, kept over restarts, told."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from agent import config, traffic, wire
from agent.config import Config
from agent.config.overlay import overlaid
from agent.meter import Meter
from agent.publish.traffic import Traffic, counted

NOW_S = datetime(2026, 12, 10, tzinfo=UTC).timestamp()
MB = 1_000_000
KEYS = """
site = "bitung-0123"
[mqtt]
url = "mqtts://broker.example"
[targets]
gateway = "auto"
isp = "auto"
domestic = ["192.0.2.1"]
world = ["198.51.100.1"]
[dns]
names = ["example.org", "example.com"]
[web]
url = "https://portal.example/204"
"""


def configured(folder: Path, monthly_mb: int | None) -> Config:
    file = folder / "agent.toml"
    table = "" if monthly_mb is None else f"[metered]\nmonthly_mb = {monthly_mb}\n"
    file.write_text(KEYS + table)
    return config.load(file)


def reading(*, synced: bool = True) -> wire.Reading:
    """A window of 60 echoes to each rung, with one lost, dns that failed and no web."""
    echoes = wire.Echoes(sent=60, received=59)
    return wire.Reading(
        seq=1,
        boot="boot",
        taken_at="2026-12-10T00:00:00.000Z",
        uptime_s=60.0,
        clock=wire.Clock(synced=synced),
        window_s=60.0,
        agent="0.1.0",
        ladder=wire.Ladder(),
        ping=wire.Ping(gateway=echoes, isp=echoes, domestic=echoes, world=echoes),
        errors={"dns": "timeout after 2.0 s"},
    )


WINDOW_BYTES = 3 * (60 + 59) * 84 + 2 * 400


def test_a_window_costs_its_echoes_beyond_the_gateway_and_the_probes_that_ran(
    tmp_path: Path,
) -> None:
    asked = configured(tmp_path, 500)
    assert traffic.of_window(reading(), asked) == WINDOW_BYTES
    with_web = replace(reading(), web=wire.Web(ok=True))
    assert traffic.of_window(with_web, asked) == WINDOW_BYTES + 9_400
    both = replace(reading(), ping6=wire.Ping(world=wire.Echoes(sent=10, received=0)))
    assert traffic.of_window(both, asked) == WINDOW_BYTES + 1_040


def test_without_a_budget_nothing_is_counted_slowed_or_told(tmp_path: Path) -> None:
    meter, asked = Meter(tmp_path, None), configured(tmp_path, None)
    assert meter.observe(reading(), asked, 5_000, NOW_S, 0.0) is None
    assert meter.slowed(asked) == asked
    assert meter.spare_bytes(by_command=True) is None
    meter.close()
    assert not (tmp_path / "metered.json").exists()


def test_what_was_used_is_told_with_the_budget_and_what_is_slowed(tmp_path: Path) -> None:
    meter, asked = Meter(tmp_path, None), configured(tmp_path, 200)
    told = meter.observe(reading(), asked, 5_000, NOW_S, 0.0)
    assert told == wire.Metered(
        used_bytes=WINDOW_BYTES + 5_000,
        budget_bytes=200 * MB,
        month="2026-12",
        slowed=["tests", "echoes", "probes", "windows"],
    )
    assert meter.slowed(asked).reading.window_s > 60
    again = meter.observe(reading(), asked, 7_000, NOW_S + 60, 60.0)
    assert again is not None
    assert again.used_bytes == 2 * WINDOW_BYTES + 7_000


def test_windows_grow_to_twice_the_last_at_most_so_that_the_server_waits_long_enough(
    tmp_path: Path,
) -> None:
    meter, asked = Meter(tmp_path, None), configured(tmp_path, 80)
    lengths_s = [60.0]
    while lengths_s[-1] < 3600 and len(lengths_s) < 9:
        shown = replace(reading(), window_s=lengths_s[-1])
        meter.observe(shown, asked, 70 * MB, NOW_S, sum(lengths_s))
        lengths_s.append(meter.slowed(asked).reading.window_s)
    assert lengths_s == [60, 120, 240, 480, 960, 1920, 3600]


def test_a_test_before_the_first_window_has_its_limit_and_is_counted(tmp_path: Path) -> None:
    meter = Meter(tmp_path, None)
    meter.begin(configured(tmp_path, 500))
    spare = meter.spare_bytes(by_command=True)
    assert spare is not None
    assert 0 < spare < 500 * MB

    meter.add_test(100 * MB)

    assert (meter.spare_bytes(by_command=True) or 0) <= spare - 100 * MB


def test_an_orderly_end_keeps_what_was_used(tmp_path: Path) -> None:
    meter, asked = Meter(tmp_path, None), configured(tmp_path, 500)
    meter.observe(reading(), asked, 0, NOW_S, 0.0)
    meter.close()
    told = Meter(tmp_path, None).observe(reading(), asked, 0, NOW_S + 60, 60.0)
    assert told is not None
    assert told.used_bytes == 2 * WINDOW_BYTES


@pytest.mark.parametrize("ledger", [None, b"", b"\0\0\0", b'{"total": 7, "month": "2026-11"}'])
def test_after_a_power_cut_the_newest_stored_reading_knows_what_was_used(
    tmp_path: Path, ledger: bytes | None
) -> None:
    if ledger is not None:
        (tmp_path / "metered.json").write_bytes(ledger)
    told = wire.Metered(used_bytes=90 * MB, budget_bytes=500 * MB, month="2026-12")
    meter = Meter(tmp_path, replace(reading(), metered=told))
    after = meter.observe(reading(), configured(tmp_path, 500), 0, NOW_S, 0.0)
    assert after is not None
    assert after.used_bytes == 90 * MB + WINDOW_BYTES


def test_an_old_reading_takes_nothing_back(tmp_path: Path) -> None:
    asked = configured(tmp_path, 500)
    meter = Meter(tmp_path, None)
    meter.observe(reading(), asked, 10 * MB, NOW_S, 0.0)
    meter.close()
    for month, used in (("2026-12", 5), ("2026-11", 400 * MB)):
        told = wire.Metered(used_bytes=used, budget_bytes=500 * MB, month=month)
        after = Meter(tmp_path, replace(reading(), metered=told)).observe(
            reading(), asked, 0, NOW_S, 0.0
        )
        assert after is not None
        assert after.used_bytes == 10 * MB + 2 * WINDOW_BYTES


def test_a_clock_that_is_not_synchronised_names_no_month(tmp_path: Path) -> None:
    told = Meter(tmp_path, None).observe(
        reading(synced=False), configured(tmp_path, 500), 0, 12.0, 0.0
    )
    assert told is not None
    assert told.month is UNSET
    assert told.used_bytes == WINDOW_BYTES


def test_settings_give_a_budget_or_change_it(tmp_path: Path) -> None:
    settings = wire.Settings(
        v=1, site="bitung-0123", revision=1, metered=wire.SettingsMetered(monthly_mb=90)
    )
    for given in (None, 500):
        changed = overlaid(configured(tmp_path, given), settings)
        assert changed.metered == config.Metered(90)


@pytest.mark.parametrize(("monthly_mb", "why"), [(UNSET, "missing"), (20, "is less than presence")])
def test_settings_with_a_budget_that_cannot_be_are_refused(
    tmp_path: Path, monthly_mb: int, why: str
) -> None:
    settings = wire.Settings(
        v=1, site="bitung-0123", revision=1, metered=wire.SettingsMetered(monthly_mb=monthly_mb)
    )
    with pytest.raises(config.ConfigError, match=f"settings: metered.monthly_mb: .*{why}"):
        overlaid(configured(tmp_path, 500), settings)


def test_the_kernel_tells_what_a_connection_took() -> None:
    traffic = Traffic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        traffic.begin()
        assert traffic.bytes == 500
        with socket.create_connection(listener.getsockname()) as here:
            there, _ = listener.accept()
            with there:
                here.sendall(b"x" * 50_000)
                got = 0
                while got < 50_000:
                    got += len(there.recv(65536))
                there.sendall(b"y" * 3_000)
                while got < 53_000:
                    got += len(here.recv(65536))
            traffic.look(here)
    took = traffic.bytes
    assert 53_500 < took < 53_500 * 1.2
    traffic.look(here)  # closed: what was seen stands
    assert traffic.bytes == took
    traffic.begin()
    traffic.handshake_failed()
    assert traffic.bytes == took + 8_500


def test_an_old_kernel_tells_nothing() -> None:
    assert counted(b"\0" * 104, socket.AF_INET) == 0
