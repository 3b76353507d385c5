"""The documentation names everything there is: commands, options, topics, keys, probes."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest

import agent.config
import agent.main
import server.cli
import server.config
from agent import wire
from agent.probes import PROBES

_ROOT = Path(__file__).parents[1]
_DOCS = {
    str(file.relative_to(_ROOT / "docs")): file.read_text()
    for file in sorted((_ROOT / "docs").glob("**/*.md"))
}


def _sections() -> list[str]:
    """Every piece of documentation between two headings."""
    return [part for text in _DOCS.values() for part in re.split(r"^#+ ", text, flags=re.MULTILINE)]


SECTIONS = _sections()


def _stand_together(*words: str) -> bool:
    """Whether one section has all of `words`, none of them as a part of a longer word."""
    searched = [re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])") for word in words]
    return any(all(one.search(part) for one in searched) for part in SECTIONS)


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Each command in full with its options, such as ``pantau sites import``."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in inner:
        for one in dict.fromkeys(action.choices.values()):
            yield from commands(one)
    options = [name for a in parser._actions for name in a.option_strings if name[:2] == "--"]
    if not inner or len(options) > 1:
        yield re.sub(r"( [A-Z[<].*)", "", parser.prog), [o for o in options if o != "--help"]


def keys(kind: Any, table: str = "") -> Iterator[tuple[str, str]]:
    """Table and key of everything that a configuration may hold."""
    hints = get_type_hints(kind)
    for one in fields(kind):
        hint = hints[one.name]
        parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        inner = next((part for part in parts if is_dataclass(part)), None)
        if inner is None:
            yield table, one.name
        else:
            yield from keys(inner, one.name)


_COMMANDS = [*commands(agent.main.build_parser()), *commands(server.cli.build_parser())]
_KEYS = [
    *(("agent.toml", *key) for key in keys(agent.config.Config)),
    *(("server.toml", *key) for key in keys(server.config.Config)),
]
_ACL = re.findall(
    r"^(?:pattern|topic) \w+ (\S+)$",
    (_ROOT / "deploy" / "mosquitto" / "acl").read_text(),
    re.MULTILINE,
)
_TOPICS = [
    *sorted({topic.replace("%u", "SITE") for topic in _ACL if "%u" in topic}),
    wire.state_topic("DISTRICT", "ISP", "SITE"),
    wire.alert_topic("DISTRICT", "ISP", "ALERT"),
    wire.server_topic("NAME"),
    wire.server_topic("ingest/marker"),
]


@pytest.mark.parametrize(("command", "options"), _COMMANDS, ids=[name for name, _ in _COMMANDS])
def test_every_command_is_documented_with_its_options(command: str, options: list[str]) -> None:
    assert _stand_together(command)
    assert [option for option in options if not _stand_together(command, option)] == []


@pytest.mark.parametrize(("file", "table", "key"), _KEYS, ids=lambda part: part or "-")
def test_every_configuration_key_is_documented(file: str, table: str, key: str) -> None:
    words = [file, f"[{table}]"] if table else [file]
    searched = [*words, f"`{key}`"]
    assert any(all(word in part for word in searched) for part in SECTIONS), searched


@pytest.mark.parametrize("topic", _TOPICS)
def test_every_topic_is_documented(topic: str) -> None:
    assert f"`{topic}`" in _DOCS["mqtt.md"]
    assert f"## {topic.removeprefix(wire.PREFIX + '/')}\n" in _DOCS["mqtt.md"]


@pytest.mark.parametrize("name", [*PROBES, "icmp"])
def test_every_probe_is_documented(name: str) -> None:
    assert re.search(rf"^## {name}$", _DOCS["probes.md"], re.MULTILINE)


@pytest.mark.parametrize("name", [*PROBES, "icmp", "path", "throughput"])
def test_every_probe_has_a_page_with_what_how_why_errors_and_standard(name: str) -> None:
    page = _DOCS[f"probes/{'wifi' if name == 'walk' else name}.md"]
    parts = [f"**{word}.**" for word in ("What", "How", "Why so", "Standard")]
    assert [part for part in parts if part not in page] == []
    assert re.search(r"^\| (error|case) \|", page, re.MULTILINE)


def _examples() -> Iterator[tuple[str, str]]:
    """Each JSON example of the page on topics, with the heading that it stands under."""
    for part in re.split(r"^## ", _DOCS["mqtt.md"], flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        for example in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
            yield heading, example


_EXAMPLES = list(_examples())
_KINDS: dict[str, type[wire.Part]] = {
    "presence": wire.Presence,
    "replies": wire.Reply,
    "acks": wire.Ack,
    "settings": wire.Settings,
    "commands": wire.Command,
}


@pytest.mark.parametrize(("heading", "example"), _EXAMPLES, ids=[h for h, _ in _EXAMPLES])
def test_every_example_of_a_payload_is_one(heading: str, example: str) -> None:
    assert json.loads(example)["v"] == wire.VERSION
    leaf = heading.rpartition("/")[2]
    if leaf == "readings":
        assert wire.decode_readings(example.encode(), site="bitung-0123").bad == []
    elif heading.startswith("sites/"):
        wire.decode(_KINDS[leaf], example.encode(), site="bitung-0123")


def test_every_topic_has_an_example() -> None:
    assert {heading for heading, _ in _EXAMPLES} == {
        topic.removeprefix(wire.PREFIX + "/") for topic in _TOPICS
    }


@pytest.mark.parametrize("file", [*_DOCS, "../README.md", "../CONTRIBUTING.md"])
def test_every_link_leads_somewhere(file: str) -> None:
    folder = _ROOT / "docs"
    text = (folder / file).read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (folder / file).parent.joinpath(link).exists(), link


def test_the_examples_of_configuration_are_good_and_the_servers_shows_the_defaults() -> None:
    ours = agent.config.load(_ROOT / "examples" / "agent.toml")
    assert wire.is_site(ours.site)
    assert server.config.load(_ROOT / "examples" / "server.toml") == server.config.Config()


@pytest.mark.parametrize(
    ("file", "kind"),
    [("agent.toml", agent.config.Config), ("server.toml", server.config.Config)],
)
def test_the_examples_of_configuration_show_every_key(file: str, kind: type) -> None:
    text = (_ROOT / "examples" / file).read_text()
    missing = [
        (table, key)
        for table, key in keys(kind)
        if not re.search(rf"^#? ?{key} = ", text, re.MULTILINE)
        or (table and f"[{table}]" not in text)
    ]
    assert missing == []


def test_the_check_bites() -> None:
    assert not _stand_together("pantau sites", "--no-such-option")
    assert not _stand_together("pantau sit")
    assert ("mqtt", "keepalive_s") in [key[1:] for key in _KEYS]
    assert ("health", "silence_windows") in [key[1:] for key in _KEYS]
    assert "pantau sites import" in [name for name, _ in _COMMANDS]
    assert "--dry-run" in dict(_COMMANDS)["pantau sites import"]
    assert "pantau-agent run" in [name for name, _ in _COMMANDS]
    assert len(_TOPICS) == 10
