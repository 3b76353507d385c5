"""Every rule of the configuration, each by a file that breaks it alone.

The first line of each file in `configs` is a comment with the error it must give.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import config
from agent.config import ConfigError

CONFIGS = Path(__file__).parent / "configs"
EXAMPLE = Path(__file__).parents[2] / "examples" / "agent.toml"
LEAST = 'site = "bitung-0123"\n[mqtt]\nurl = "mqtt://127.0.0.1"\n'


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.toml")))
def test_a_broken_file_is_refused_with_file_key_and_mend(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CONFIGS)
    expected = Path(name).read_text().splitlines()[0].removeprefix("# ")

    with pytest.raises(ConfigError) as refused:
        config.load(Path(name))

    assert str(refused.value) == f"{name}: {expected}"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^nowhere.toml: cannot read it: No such file .*--config"
    ):
        config.load(Path("nowhere.toml"))


@pytest.mark.parametrize("text", ["window_s = " + "1" * 5000, "window_s = " + "[" * 5000])
def test_what_the_parser_cannot_hold_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "agent.toml").write_text(text)

    with pytest.raises(ConfigError, match=r"agent.toml: not TOML: .*; mend that line$"):
        config.load(tmp_path / "agent.toml")


def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_bytes(b'site = "\xff"')

    with pytest.raises(ConfigError, match=r"agent.toml: not UTF-8 at byte 8; save it as UTF-8$"):
        config.load(tmp_path / "agent.toml")


def test_a_password_in_the_url_does_not_appear_in_the_error() -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(CONFIGS / "mqtt_url_with_user.toml")

    assert "secret" not in str(refused.value)


def test_the_example_is_a_good_configuration_that_shows_every_table() -> None:
    shown = config.load(EXAMPLE)

    assert shown.site == "bitung-0123"
    assert None not in (shown.targets, shown.dns, shown.web, shown.ntp)


def test_the_least_configuration_has_the_documented_defaults(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(LEAST)

    least = config.load(tmp_path / "agent.toml")

    assert least.spool == config.Spool(Path("/var/lib/pantau/spool"), 128)
    assert least.reading.window_s == 60
    assert (least.mqtt.version, least.mqtt.keepalive_s) == ("auto", 15)
    assert (least.targets, least.dns, least.web, least.ntp) == (None, None, None, None)


def test_every_time_may_be_one_second(tmp_path: Path) -> None:
    text = LEAST + "keepalive_s = 1\n[reading]\nwindow_s = 1\n"
    (tmp_path / "agent.toml").write_text(text)

    shortest = config.load(tmp_path / "agent.toml")

    assert (shortest.mqtt.keepalive_s, shortest.reading.window_s) == (1, 1)


def test_a_relative_path_begins_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    text = LEAST + 'password_file = "password"\n[spool]\npath = "spool"\n'
    (tmp_path / "agent.toml").write_text(text)

    found = config.load(tmp_path / "agent.toml")

    assert (found.mqtt.password_file, found.spool.path) == (
        tmp_path / "password",
        tmp_path / "spool",
    )


@pytest.mark.parametrize("resolver", ["192.0.2.53", "192.0.2.53:5353", "2001:db8::1", "[::1]:53"])
def test_a_resolver_is_an_address_with_or_without_a_port(tmp_path: Path, resolver: str) -> None:
    text = LEAST + f'[dns]\nnames = ["example.org"]\nresolver = "{resolver}"\n'
    (tmp_path / "agent.toml").write_text(text)

    found = config.load(tmp_path / "agent.toml")

    assert found.dns == config.Dns(("example.org",), resolver)
