"""When what happens to the fleet, by the clock of the run. Pure."""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

START_OVER_S = 60.0


class Phase(NamedTuple):
    """A part of the run that is measured for itself.

    Attributes:
        from_s, to_s: of the run; the storm breaks at `from_s`.
        restart: whether the broker is restarted then.
        event: what befalls every site then, and for how long; its return is the storm.
    """

    name: str
    from_s: float
    to_s: float
    restart: bool = False


def phases(lossy: bool) -> list[Phase]:
    """What is measured, in its order."""
    found = [
        Phase("first start, over 60 s", 0, 90),
        Phase("at rest", 100, 160),
        Phase("broker restarted", 170, 350, restart=True),
        Phase("power of all back", 430, 610),
    ]
    if lossy:
        found += [
            Phase("half lossy, at rest", 650, 710),
            Phase("half lossy, broker restarted", 720, 900, restart=True),
            Phase("half lossy, power of all back", 980, 1160),
        ]
    return found


DARK_S = 70.0


def story(sites_csv: str, run: list[Phase], start_after_s: float) -> str:
    """The story file: each district without power before its power comes back; half lossy."""
    rows = list(csv.DictReader(io.StringIO(sites_csv)))
    lines = [f"start_after_s = {start_after_s}"]

    def event(name: str, at_s: float, lasts_s: float, what: str, by: str, of: str) -> None:
        lines.extend(["[[event]]", f'id = "{name}"', f"at_s = {at_s}", f"lasts_s = {lasts_s}"])
        lines.extend([f'what = "{what}"', f'{by} = "{of}"'])

    for number, phase in enumerate(run):
        if "power" in phase.name:
            for district in sorted({row["district"] for row in rows}):
                at_s = phase.from_s - DARK_S
                name = f"dark-{number}-{district}"
                event(name, at_s, DARK_S, "district_power_down", "district", district)
    lossy = [phase for phase in run if phase.name.startswith("half lossy")]
    if lossy:
        from_s, to_s = lossy[0].from_s - 30, lossy[-1].to_s
        for row in rows[::2]:
            site = row["site"]
            event(f"lossy-{site}", from_s, to_s - from_s, "link_lossy", "site", site)
    return "\n".join([*lines, ""])
