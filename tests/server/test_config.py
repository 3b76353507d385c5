"""Every rule of the configuration, each by a file that breaks it alone.

The first line of each file in `configs` is a comment with the error it must give.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from server import config
from server.config import Config, ConfigError, Mqtt
from server.model import Rules

CONFIGS = Path(__file__).parent / "configs"
EXAMPLE = Path(__file__).parents[2] / "examples" / "server.toml"


def load(folder: Path, text: str) -> Config:
    (folder / "server.toml").write_text(text)
    return config.load(folder / "server.toml")


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
    with pytest.raises(ConfigError, match=r"^nowhere\.toml: no such file; see examples/server"):
        config.load(Path("nowhere.toml"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: .*Is a directory"):
        config.load(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_bytes(b'[store]\nurl = "\xff"')

    with pytest.raises(ConfigError, match=r"server\.toml: cannot be read: 'utf-8' codec"):
        config.load(tmp_path / "server.toml")


def test_a_password_in_the_url_does_not_appear_in_the_error() -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(CONFIGS / "mqtt_url_with_user.toml")

    assert "secret" not in str(refused.value)


def test_an_empty_file_has_the_defaults_of_the_contract(tmp_path: Path) -> None:
    found = load(tmp_path, "")

    assert found == Config()
    assert (found.mqtt.url, found.mqtt.version) == ("mqtt://127.0.0.1:1883", "auto")
    assert found.store.url == "sqlite:///var/lib/pantau/pantau.db"
    assert (found.health.offline_confirm_s, found.health.silence_windows) == (30, 2.5)
    assert (found.health.raise_windows, found.health.clear_windows) == (3, 5)
    assert found.alerts.resolved_retain_s == 3600


def test_the_example_shows_every_default() -> None:
    assert config.load(EXAMPLE) == Config()


@pytest.mark.parametrize("version", ['"auto"', '"5"', "5", '"3.1.1"'])
def test_the_version_of_mqtt_may_be_a_number_where_it_is_one(tmp_path: Path, version: str) -> None:
    assert load(tmp_path, f"[mqtt]\nversion = {version}").mqtt.version == version.strip('"')


@pytest.mark.parametrize(
    "url", ["mqtt://127.0.0.1", "mqtts://broker.example:8883/", "mqtt://[::1]:1883"]
)
def test_a_broker_is_a_host_with_or_without_a_port(tmp_path: Path, url: str) -> None:
    if url.startswith("mqtts"):
        (tmp_path / "ca.pem").touch()
        url += '"\nca_file = "ca.pem'
    load(tmp_path, f'[mqtt]\nurl = "{url}"')


def test_a_relative_path_begins_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    found = load(tmp_path, '[mqtt]\npassword_file = "password"')

    assert found.mqtt == Mqtt(password_file=tmp_path / "password")


@pytest.mark.parametrize("name", [one.name for one in fields(Rules) if one.name.endswith("_s")])
def test_every_time_may_be_one_second(tmp_path: Path, name: str) -> None:
    assert getattr(load(tmp_path, f"[health]\n{name} = 1").health, name) == 1


def test_a_clear_threshold_may_be_zero_and_equal_to_its_raise(tmp_path: Path) -> None:
    rules = load(tmp_path, "[health]\nloss_clear_ratio = 0\nrtt_clear_ms = 150").health

    assert (rules.loss_clear_ratio, rules.rtt_clear_ms) == (0, 150)
