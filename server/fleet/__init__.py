"""`pantau simulate`: a fleet with a known truth.

Modelled sites speak the real protocol through a real broker, each over a connection of its
own. Lines and probes are models (`link`, `box`); wire format, spool, windows and what is
sent when are the agent's own code. docs/simulate.md tells how close to a real site that is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

MOST_SITES = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pantau simulate``."""
    add = parser.add_argument
    add("--sites", type=int, metavar="N", help=f"make up a registry of N sites, 1 to {MOST_SITES}")
    add("--registry", type=Path, metavar="FILE", help="play the sites of this sites.csv")
    add("--story", type=Path, metavar="FILE", help="what happens to them, TOML or CSV")
    add("--events", type=int, metavar="N", help="make up a story of N events instead")
    add("--seed", type=int, default=1, help="of what is made up (default %(default)s)")
    add("--minutes", type=float, default=10.0, help="how long to play (default %(default)g)")
    add("--window-s", type=float, default=60.0, metavar="S", help="(default %(default)g)")
    add("--processes", type=int, metavar="N", help="(default: one for each 3,000 sites)")
    add("--journal", type=Path, metavar="FILE", help="write what was made and what happened here")
    add("--certificates", type=Path, metavar="DIR", help="holds SITE.crt and SITE.key of each site")
    add("--spools", type=Path, metavar="DIR", help="keep the spools here (default: in memory)")
    add("--starts-over-s", type=float, default=0.0, metavar="S", help="switch on one by one")
    add("--backlog-h", type=float, default=0.0, metavar="H", help="begin with H hours of backlog")
    add("--write-registry", type=Path, metavar="FILE", help="write the sites.csv, and play nothing")
    add("--json", action="store_true", help="tell each second how it stands, as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Play.

    Returns:
        0 at the end of the time, or after SIGINT or SIGTERM.

    Raises:
        UsageError: the options contradict each other.
        CommandError: a file is no good, a limit too low, or the broker refuses; or the agent's
            extra is not installed.
    """
    from server.show import CommandError

    try:
        from server.fleet import command
    except ModuleNotFoundError as err:
        text = f"simulate: {err.name} is missing: install pantau[agent,server]"
        raise CommandError(text) from None
    return command.run(args)
