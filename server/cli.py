"""``pantau``: the commands of the centre.

A command loads its own module and no other, so that ``pantau status`` does not
pay for MQTT; the whole command line is only built where it is shown.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from server import config
from server.config import ConfigError
from server.show import CommandError, UsageError
from server.store import PlaceError, StoreError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class _Parser(argparse.ArgumentParser):
    def __init__(self, **given: Any) -> None:
        """An option is written out: `--js` would change its meaning with the next option."""
        super().__init__(allow_abbrev=False, **given)

    def error(self, message: str) -> NoReturn:
        """Wrong usage, in one line."""
        told = " ".join(message.split())
        self.exit(2, f"{self.prog}: {told}; see '{self.prog} --help'\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that takes longer than a command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"pantau {version('pantau')}")
        parser.exit()


def _ingest(commands: Commands) -> None:
    from server import main as service

    ingest = commands.add_parser("ingest", help="the service: readings in, verdicts out")
    ingest.add_argument(
        "--check",
        action="store_true",
        help="only read the configuration, and say whether it can be used",
    )
    ingest.set_defaults(run=service.run)


def _witness(commands: Commands) -> None:
    from server import witness

    one = commands.add_parser("witness", help="the service that pings the sites' addresses")
    one.set_defaults(run=witness.run)


def _sites(commands: Commands) -> None:
    from server import sites

    sites.add_arguments(commands)


def _show(commands: Commands) -> None:
    from server import show

    show.add_arguments(commands)


def _access_points(commands: Commands) -> None:
    from server.desk import points

    points.add_arguments(commands)


def _ledger(commands: Commands) -> None:
    from server import ledger

    ledger.add_arguments(commands)


def _contracts(commands: Commands) -> None:
    from server.desk import contracts

    contracts.add_arguments(commands)


def _maintenance(commands: Commands) -> None:
    from server.desk import maintenance

    maintenance.add_arguments(commands)


def _rules(commands: Commands) -> None:
    from server.desk import rules

    rules.add_arguments(commands)


def _report(commands: Commands) -> None:
    from server import report

    report.add_arguments(commands)


def _backup(commands: Commands) -> None:
    from server import backup

    backup.add_arguments(commands)


def _demo(commands: Commands) -> None:
    from server import demo

    player = commands.add_parser("demo", help="everything on this machine, with a short story")
    demo.add_arguments(player)
    player.set_defaults(run=demo.run)


def _simulate(commands: Commands) -> None:
    from server import fleet

    player = commands.add_parser("simulate", help="a fleet of modelled sites, and what befalls it")
    fleet.add_arguments(player)
    player.set_defaults(run=fleet.run)


_COMMANDS: dict[Callable[[Commands], None], tuple[str, ...]] = {
    # In the order of the help.
    _ingest: ("ingest",),
    _witness: ("witness",),
    _sites: ("sites",),
    _contracts: ("contracts",),
    _maintenance: ("maintenance",),
    _rules: ("rules",),
    _show: ("status", "alerts", "readings", "quarantine"),
    _access_points: ("access-points",),
    _ledger: ("incidents",),
    _report: ("report",),
    _backup: ("backup", "restore"),
    _simulate: ("simulate",),
    _demo: ("demo",),
}
_WITHOUT_CONFIG = ("demo",)


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line; every command sets ``run``.

    Args:
        command: only the part that this command needs; all of it for any other.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="pantau", description="Tells whether a city's free WiFi works, and proves it."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    needed = [add for add, names in _COMMANDS.items() if command in names]
    for add in needed or _COMMANDS:
        add(commands)
    for name, one in commands.choices.items():
        if name not in _WITHOUT_CONFIG:
            _add_config(one, config.DEFAULT_PATH)
    return parser


def _add_config(parser: argparse.ArgumentParser, default: Path | str) -> None:
    """``--config`` behind every command, and behind each verb of one."""
    verbs = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not verbs or parser.get_default("run"):
        parser.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            default=default,
            help=f"configuration (default {config.DEFAULT_PATH})",
        )
        default = argparse.SUPPRESS  # what stands before the verb stays
    for verb in verbs[0].choices.values() if verbs else ():
        _add_config(verb, default)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 failed, 2 wrong usage or config."""
    words = list(sys.argv[1:] if argv is None else argv)
    for number, word in enumerate(words, 1):
        if not _is_text(word):
            told = f"argument {number}: {word!a} is not UTF-8; type it, or name the file, in UTF-8"
            return _say(UsageError(told), 2)
    gc.freeze()  # what is imported stays; looking through it again costs a city's report a tenth
    gc.set_threshold(100_000, 50, 50)
    args = build_parser(words[0] if words else None).parse_args(words)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except (ConfigError, UsageError) as err:
        return _say(err, 2)
    except PlaceError as err:
        where = f"{args.config}: store.url: " if "config" in args else ""
        return _say(ConfigError(f"{where}{err}"), 2)
    except (CommandError, StoreError) as err:
        return _say(err, 1)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _is_text(word: str) -> bool:
    """Whether it can be stored, sent and shown: bytes that are no text come as lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _say(err: Exception, code: int) -> int:
    line = " ".join(str(err).split())
    print(f"pantau: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
