"""Numbers and files that nobody can mean end in one line, not in a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import config, contracts, rules
from server.cli import main
from server.periods import PeriodError, period, steps

HUGE = "9" * 400


@pytest.mark.parametrize("text", [f"a = {'9' * 5000}", "a = " + "[" * 5000])
def test_a_file_that_the_parser_cannot_hold_is_not_toml(text: str) -> None:
    with pytest.raises(rules.RulesError):
        rules.parse(text)
    with pytest.raises(contracts.ContractError):
        contracts.parse(text)


@pytest.mark.parametrize("key", ["raise_windows", "silence_windows", "rtt_raise_ms"])
def test_a_rule_of_four_hundred_digits_is_refused(key: str) -> None:
    with pytest.raises(rules.RulesError, match=key):
        rules.parse(f"[isp.telkom]\n{key} = {HUGE}\n")


@pytest.mark.parametrize("step", ["9999999d", f"{HUGE}h", "0d", "-1h", "h"])
def test_a_step_that_never_ends_is_refused(step: str) -> None:
    with pytest.raises(PeriodError, match="--step"):
        steps(period("2026-11-01", "2026-11-02", "Asia/Makassar", 1_795_000_000.0), step)


@pytest.mark.parametrize("text", [f"a = {'9' * 5000}", "a = " + "[" * 5000])
def test_a_configuration_that_the_parser_cannot_hold_is_not_toml(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.toml").write_text(text)

    with pytest.raises(config.ConfigError, match=r"server\.toml: not TOML: "):
        config.load(tmp_path / "server.toml")


@pytest.mark.parametrize("value", [HUGE, f"-{HUGE}", f"{HUGE}.0"])
@pytest.mark.parametrize("key", ["health.silence_windows", "mqtt.keepalive_s", "witness.every_s"])
def test_a_number_of_four_hundred_digits_is_refused(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "server.toml").write_text(f"{key} = {value}\n")

    with pytest.raises(config.ConfigError, match=r"server\.toml: "):
        config.load(tmp_path / "server.toml")


NOW = ("--from", "2026-01-01", "--to", "2026-01-02")
MEND = "type it, or name the file, in UTF-8"
LATIN_1 = "caf\udce9"
"""As Python has an argument whose bytes are ISO 8859-1."""


@pytest.mark.parametrize(
    "words",
    [
        ("sites", "history", LATIN_1),
        ("sites", "import", LATIN_1),
        (LATIN_1,),
        ("status", "--district", LATIN_1),
        ("maintenance", "add", "--isp", "telkom", "--note", LATIN_1, *NOW),
        ("incidents", "note", "1", LATIN_1),
        ("incidents", "note", "1", "a word", "--who", LATIN_1),
    ],
)
def test_an_argument_that_is_not_utf8_is_wrong_usage_in_one_line(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    number = words.index(LATIN_1) + 1

    assert main(words) == 2

    told = capsys.readouterr()
    assert (told.out, told.err) == (
        "",
        f"pantau: argument {number}: 'caf\\udce9' is not UTF-8; {MEND}\n",
    )
