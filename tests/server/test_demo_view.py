"""The demo's screen, drawn for real terminal sizes and read line by line."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from agent import wire
from server.demo.picture import Picture
from server.demo.story import judge, write
from server.demo.view import Scene, clock, frame
from server.model import Site

BEGAN_AT = 1_800_000_000.0
STORY_S = 90.0
DISTRICTS = ("maesa", "lembeh-selatan", "girian", "matuari", "ranowulu")
SITES = [
    Site(f"bitung-{n:04d}", f"Taman Kota {n}", DISTRICTS[n % 5], ("telkom", "icon")[n % 2])
    for n in range(40)
]
OWN = Site("this-machine", "This machine", "maesa", "local")
SIZES = [(80, 24), (120, 40)]


def city(offline: int) -> Picture:
    picture = Picture([*SITES, OWN], watched=OWN.id)
    for number, site in enumerate(SITES):
        down = number < offline
        state = {
            "site": site.id,
            "status": "offline" if down else "online",
            "since": wire.iso(BEGAN_AT + number),
            "reasons": ["connection lost"] if down else [],
        }
        topic = wire.state_topic(site.district, site.isp, site.id)
        picture.hear(BEGAN_AT, topic, json.dumps(state).encode())
        if down:
            alert = {
                "id": site.id,
                "revision": 1,
                "status": "firing",
                "kind": "site_offline",
                "severity": "critical",
                "title": f"{site.name} is offline " + "and this title goes on and on " * 4,
                "district": site.district,
                "isp": site.isp,
                "sites": [site.id],
            }
            topic = wire.alert_topic(site.district, site.isp, site.id)
            picture.hear(BEGAN_AT + 30 + number, topic, json.dumps(alert).encode())
    return picture


def screen(
    width: int,
    height: int,
    *,
    offline: int = 11,
    elapsed_s: float = 34.0,
    verdict: str | None = None,
) -> list[str]:
    """The lines of one frame, without colours."""
    picture = city(offline)
    beats = write(SITES, STORY_S)
    scene = Scene(
        now=BEGAN_AT + elapsed_s,
        elapsed_s=elapsed_s,
        story_s=STORY_S,
        picture=picture,
        beats=beats,
        outcomes={one.beat.name: one for one in judge(beats, picture, began_at=BEGAN_AT)[0]},
        verdict=verdict,
        try_next="pantau status --config /tmp/pantau-demo-abcdefgh/server.toml",
        timezone="Asia/Makassar",
    )
    output = io.StringIO()
    console = Console(file=output, width=width, height=height, force_terminal=False)
    console.print(frame(scene, width=width, height=height))
    return output.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("offline", [0, 1, 11, 40])
@pytest.mark.parametrize("elapsed_s", [-1.0, 0.0, 34.0, 500.0])
def test_a_frame_fills_the_terminal_exactly_and_wraps_nothing(
    width: int, height: int, offline: int, elapsed_s: float
) -> None:
    lines = screen(width, height, offline=offline, elapsed_s=elapsed_s)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert lines[-1].rstrip().endswith("/server.toml")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_counts_and_shares_stand_at_the_top(width: int, height: int) -> None:
    header, counts, *_ = screen(width, height)
    assert "40 simulated sites and this machine" in header
    assert header.rstrip().endswith("WITA")
    assert "29 online 71%" in counts
    assert "11 offline 27%" in counts
    assert "1 unknown 2%" in counts


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_worst_sites_show_since_when_and_why(width: int, height: int) -> None:
    lines = screen(width, height)
    begin = next(n for n, line in enumerate(lines) if line.startswith("Not online: 12"))
    first = lines[begin + 1]
    assert "bitung-0000" in first
    assert clock(BEGAN_AT, "Asia/Makassar") in first
    assert "connection lost" in first


def test_sites_that_do_not_fit_are_counted() -> None:
    text = "\n".join(screen(80, 24, offline=40))
    shown = text.count("connection lost")
    assert 0 < shown < 40
    assert f"and {41 - shown} more" in text


def test_the_newest_alert_comes_first() -> None:
    lines = screen(120, 40)
    begin = next(n for n, line in enumerate(lines) if line.startswith("Alerts over MQTT: 11"))
    assert "Taman Kota 10 is offline" in lines[begin + 1]


def test_a_tall_terminal_shows_the_whole_story_and_a_low_one_a_part() -> None:
    beats = write(SITES, STORY_S)
    tall, low = "\n".join(screen(120, 40)), "\n".join(screen(80, 24))
    assert all(beat.text[:40] in tall for beat in beats)
    assert sum(beat.text[:40] in low for beat in beats) == 3


def test_the_verdict_replaces_the_progress() -> None:
    assert "Story 0:34 of 1:30, Ctrl-C ends" in screen(80, 24)[3]
    told = screen(80, 24, verdict="8 of 8 as promised, 900 readings exact")[3]
    assert "Story told: 8 of 8 as promised, 900 readings exact. Ctrl-C ends" in told


def test_a_zone_that_the_system_does_not_know_falls_back_to_utc() -> None:
    assert clock(0, "Asia/Makassar") == "08:00:00 WITA"
    assert clock(0, "Nowhere/Nothing") == "00:00:00 UTC"
