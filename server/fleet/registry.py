"""The sites to play: from a sites.csv, or made up by seed. Pure."""

from __future__ import annotations

import random

from server import registry
from server.model import Site

_ISPS = ("biznet", "icon", "indosat", "infotek", "telkom", "xl")
_DISTRICTS = ("aertembaga", "girian", "lembeh", "madidir", "maesa", "matuari", "ranowulu")
_COLUMNS = ("site", "name", "district", "isp", "backhaul", "power_area", "access_points")


def read(text: str, now: float) -> list[Site]:
    """The sites of a sites.csv, by their newest rows.

    Raises:
        sheet.CsvError: a row is no good.
    """
    return list({row.site.id: row.site for row in registry.parse(text, now)}.values())


def made_up(seed: int, count: int) -> list[Site]:
    """`count` sites whose ISP, backhaul, district and power area cut across each other."""
    chance = random.Random(f"registry {seed}")  # noqa: S311  # repeatable, not secret
    sites = []
    for number in range(1, count + 1):
        isp, district = chance.choice(_ISPS), chance.choice(_DISTRICTS)
        sites.append(
            Site(
                id=f"sim-{number:05d}",
                name=f"Site {number}",
                district=district,
                isp=isp,
                backhaul=f"{isp}-{chance.randrange(max(1, count // 300))}",
                power_area=f"{district}-{chance.randrange(max(1, count // 350))}",
                access_points=("ap-1",),
            )
        )
    return sites


def to_csv(sites: list[Site]) -> str:
    """What `pantau sites import` takes."""
    lines = [",".join(_COLUMNS)]
    for site in sites:
        points = " ".join(site.access_points)
        row = (site.id, site.name, site.district, site.isp, site.backhaul, site.power_area, points)
        lines.append(",".join(row))
    return "\n".join([*lines, ""])
