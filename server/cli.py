"""``pantau``: the commands of the centre."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from server import config, demo, show, sites
from server import main as service
from server.config import ConfigError
from server.show import CommandError
from server.store import StoreError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Wrong usage, in one line."""
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every command sets ``run``."""
    parser: argparse.ArgumentParser = _Parser(
        prog="pantau", description="Tells whether a city's free WiFi works, and proves it."
    )
    parser.add_argument("--version", action="version", version=f"pantau {version('pantau')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    ingest = commands.add_parser("ingest", help="the service: readings in, verdicts out")
    ingest.set_defaults(run=service.run)
    sites.add_arguments(commands)
    show.add_arguments(commands)
    for leaf in _leaves(commands):
        leaf.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            default=config.DEFAULT_PATH,
            help=f"configuration (default {config.DEFAULT_PATH})",
        )
    player = commands.add_parser("demo", help="everything on this machine, with a short story")
    demo.add_arguments(player)
    player.set_defaults(run=demo.run)
    return parser


def _leaves(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> list[argparse.ArgumentParser]:
    found = []
    for parser in commands.choices.values():
        verbs = [
            action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        ]
        found += _leaves(verbs[0]) if verbs else [parser]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 failed, 2 wrong usage or config."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as err:
        return _say(err, 2)
    except (CommandError, StoreError) as err:
        return _say(err, 1)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _say(err: Exception, code: int) -> int:
    line = " ".join(str(err).split())
    print(f"pantau: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
