"""`pantau demo`: everything on one machine, no root, no other service.

The screen, the broker and the fleet are imported only when the demo runs, so
that the other commands start quickly.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

STORY_S = 90.0
MIN_STORY_S = 45.0
"""A shorter story would end an outage before it can be confirmed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pantau demo``."""
    parser.add_argument(
        "--seconds",
        type=_story_s,
        metavar="N",
        help=f"length of the story, {MIN_STORY_S:g} or more"
        f" (default {STORY_S:g}); the demo ends with it",
    )
    parser.add_argument("--json", action="store_true", help="print only one JSON line, at the end")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep all state and logs in this new folder"
    )


def _story_s(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (seconds := float(text)) >= MIN_STORY_S:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number from {MIN_STORY_S:g} on")


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0 when everything came as the story promises, 1 when not, 130 when it was
        interrupted before that was known.
    """
    try:
        from server.demo import play
    except ModuleNotFoundError as err:
        text = f"pantau demo: {err.name} is missing: install pantau[agent,server] (make install)"
        print(text, file=sys.stderr)
        return 1
    return play.run(
        story_s=args.seconds or STORY_S,
        endless=args.seconds is None,
        as_json=args.json,
        keep=args.keep,
    )
