"""Does Pantau tell the truth? A story by seed, played against real parts and judged.

    bench/truth.sh --sites 1000 --minutes 55 --events 300 --chaos 60 --seed 11

Exit code 1 when a reading was lost or double, an outage missed, false or told more than once,
when what was told did not end with its event, or when an event was not played.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.truth.books import unlike as unlike_at_end
from bench.truth.chaos import plan, told, within
from bench.truth.run import play, record
from bench.truth.score import table
from bench.truth.story import OF_GROUP, OF_SITE, Story, generate
from bench.truth.storyfile import BadStory, read

REAL_KINDS = (
    *("cable_cut", "power_off", "agent_killed", "agent_hung", "access_point_off"),
    *("isp_down", "backhaul_down", "district_power_down"),
)
"""What a story by seed does to real agents; `bench.truth.realsites` plays the other kinds, too."""
RESULTS = Path(__file__).parents[1] / "results"


def main() -> int:
    """Play, print the table, keep the record."""
    parser = argparse.ArgumentParser(
        prog="bench/truth.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--chaos", type=int, default=0, help="how many breakages of the centre")
    parser.add_argument("--window-s", type=float, default=60.0)
    parser.add_argument("--story", type=Path, help="play this story.toml and no made-up one")
    parser.add_argument("--real", type=int, default=0, help="sites played by real agents (root)")
    parser.add_argument("--compare", action="store_true", help="play again without chaos")
    parser.add_argument(
        "--kinds", nargs="+", choices=[*OF_SITE, *OF_GROUP], default=[*OF_SITE, *OF_GROUP]
    )
    parser.add_argument("--folder", type=Path, help="keep everything here")
    args = parser.parse_args()
    if args.sites < 1 or args.minutes <= 0 or not 0 <= args.real <= args.sites:
        parser.error("--sites and --minutes have to be above 0, --real at most the sites")
    try:
        story = _made_up(args) if args.story is None else read(args.story)
        breakages = len(told(story))
    except BadStory as err:
        parser.error(f"{args.story}: {err}")
    except OSError as err:
        parser.error(f"{err.filename}: {err.strerror}")
    if story.real and os.geteuid() != 0:
        parser.error("real agents need root: they live in network namespaces")
    folder = args.folder or Path(tempfile.mkdtemp(prefix="pantau-truth-"))
    folder.mkdir(parents=True, exist_ok=True)
    length = {"minutes": args.minutes, "window_s": args.window_s}
    outcome = play(folder, story, **length)
    print(table(outcome.score))
    if outcome.real is not None:
        print(f"\nof these, by {len(story.real)} real agents:\n{table(outcome.real)}")
    print(f"readings {outcome.readings}; breakages {len(outcome.chaos)}")
    print("\n".join(outcome.book_faults) or "readings and alerts: the books agree")
    unlike: list[str] = []
    if args.compare:
        (folder / "calm").mkdir()
        calm = play(folder / "calm", within(story, []), **length)
        unlike = unlike_at_end(outcome.status, calm.status)
        print("\n".join(unlike) or "every site ended as it does without chaos")
    RESULTS.mkdir(exist_ok=True)
    about = {
        **{name: value for name, value in vars(args).items() if name not in ("folder", "story")},
        "seed": story.seed,
        "sites": len(story.sites),
        "real": len(story.real),
        "events": len(story.events) - breakages,
        "chaos": breakages,
    }
    result = RESULTS / f"truth-{len(story.sites)}-{story.seed}.json"
    result.write_text(record(outcome, **about))
    print(f"raw samples: {result}; everything: {folder}")
    return int(bool(outcome.faults or unlike))


def _made_up(args: argparse.Namespace) -> Story:
    story = generate(
        args.seed,
        args.sites,
        minutes=args.minutes,
        events=args.events,
        window_s=args.window_s,
        kinds=args.kinds,
        real=args.real,
        real_kinds=REAL_KINDS,
    )
    return within(story, plan(args.seed, args.chaos, args.minutes * 60))


if __name__ == "__main__":
    sys.exit(main())
