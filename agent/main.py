"""`pantau-agent`: the command line. Errors are one line; 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent import config, wire
from agent.config import Config, ConfigError
from agent.spool import PlaceError, SpoolError

if TYPE_CHECKING:
    from agent.check.rows import Row
    from agent.check.show import Language

NAME = "pantau-agent"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(format=f"{NAME}: %(message)s", level=logging.INFO, stream=sys.stderr)
    do: Callable[[Config, argparse.Namespace], int] = options.do
    try:
        return do(config.load(options.config), options)
    except ConfigError as err:
        if options.do is _check:
            _show_check(options, None, [_config_row(err)], service=False)
        return _fail(str(err), 2)
    except PlaceError as err:
        return _fail(f"{options.config}: spool.path: {err}", 2)
    except SpoolError as err:
        return _fail(str(err), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    except BrokenPipeError:
        return 1


def _fail(text: str, code: int) -> int:
    print(f"{NAME}: {' '.join(text.split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def __init__(self, **given: Any) -> None:
        """An option is written out: `--js` would change its meaning with the next option."""
        super().__init__(allow_abbrev=False, **given)

    def error(self, message: str) -> NoReturn:
        """Wrong usage, in one line."""
        told = " ".join(message.split())
        self.exit(2, f"{self.prog}: {told}; see '{self.prog} --help'\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every command sets ``do``."""
    parser = _Parser(prog=NAME, description="Measures a site's internet and reports what it saw.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, do, text, has_json in (
        ("run", _run, "the service: measure, store, send", False),
        ("check", _check, "try everything that this site needs, once", True),
        ("reading", _reading, "measure once and show the reading; nothing is sent", True),
        ("spool", _spool, "show the readings that are held; changes nothing", True),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(do=do, json=False)
        command.add_argument(
            "--config",
            type=Path,
            default=config.DEFAULT_PATH,
            metavar="FILE",
            help="the configuration (default: %(default)s)",
        )
        if has_json:
            command.add_argument("--json", action="store_true", help="for scripts")
        if do is _check:
            command.add_argument(
                "--lang", choices=("id", "en"), help="the language (default: of the locale)"
            )
    return parser


# Each command imports what it needs: the resident process stays small.


def _run(settings: Config, options: argparse.Namespace) -> int:
    from agent import memory
    from agent.publish import tls_context
    from agent.service import Service
    from agent.spool.card import advice

    memory.one_arena()
    try:
        tls_context(settings.mqtt)
    except ConfigError as err:
        raise ConfigError(f"{options.config}: {err}") from None
    service = Service(settings)  # what ends here says one line, and no advice before it
    if (advised := advice(settings.spool.path)) is not None:
        logging.getLogger(__name__).info("%s", advised)
    while service.run():
        service = Service(settings)  # safe mode is over
    return 0


def _check(settings: Config, options: argparse.Namespace) -> int:
    from agent.check import show, trying

    if sys.stderr.isatty():
        print(show.texts_of(_language(options)).words["patience"], file=sys.stderr)
    running, rows = trying.check(settings, options.config)
    return _show_check(options, settings.site, rows, service=running)


def _config_row(err: ConfigError) -> Row:
    from agent.check.rows import failed

    text = str(err)
    told = "config_forbidden" if os.strerror(errno.EACCES) in text else "config_wrong"
    return failed("config", told, detail=text)


def _language(options: argparse.Namespace) -> Language:
    from agent.check import show

    return options.lang or show.language(os.environ)


def _show_check(
    options: argparse.Namespace, site: str | None, rows: list[Row], *, service: bool
) -> int:
    """Say what came of it; the exit code."""
    import shutil

    from agent.check import show

    told = show.as_json(site, rows, service=service)
    if options.json:
        print(json.dumps(told))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a locale without the letters of a name
        language = _language(options)
        print(show.table(rows, language, shutil.get_terminal_size().columns))
        print(f"\n{show.spoken(site or '?', rows, language)}")
    return 0 if told["ok"] else 1


def _reading(settings: Config, options: argparse.Namespace) -> int:
    from agent import once

    text = wire.encode(once.measure(settings).reading)
    if options.json:
        print(text.decode())
    else:
        print(json.dumps(json.loads(text), indent=2))
    return 0


def _spool(settings: Config, options: argparse.Namespace) -> int:
    from agent.spool.__main__ import lines
    from agent.spool.folder import held

    if options.json:
        for line in lines(settings.spool.path):
            print(line)
        return 0
    streams: dict[str, list[int]] = {}
    for stream, seq, _ in held(settings.spool.path):
        streams.setdefault(stream, []).append(seq)
    for stream, seqs in streams.items():
        print(f"{stream}  {len(seqs)} readings, seq {min(seqs)} to {max(seqs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
