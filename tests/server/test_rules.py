"""Rules by site, contract, district and ISP: what wins, and what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import registry, rules
from server.model import Contract, Rules, Site
from server.rules import RuleBook, RulesError

EXAMPLES = Path(__file__).parents[2] / "examples"
PASAR = Site("bitung-01", "Pasar", "girian", "telkom", contract="fibre 20")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[isp", "not TOML: Expected ']' at the end of a table declaration"),
        ("[provinsi.sulut]", "provinsi: unknown table; there are [isp.NAME], [district.NAME],"),
        ("isp = 1", "isp: must be tables, written [isp.NAME]"),
        ("[isp]\nrtt_raise_ms = 1", "isp.rtt_raise_ms: stands outside a table; write it under"),
        ("[isp.telkom]\nrtt_ms = 1", "[isp.telkom] rtt_ms: unknown key; there are offline_"),
        ('[isp.telkom]\nrtt_raise_ms = "1"', "[isp.telkom] rtt_raise_ms: '1' is not a number"),
        ("[isp.telkom]\nrtt_raise_ms = true", "[isp.telkom] rtt_raise_ms: True is not a number"),
        ("[isp.telkom]\nraise_windows = 2.5", "[isp.telkom] raise_windows: 2.5 is not a whole"),
        ("[isp.telkom]\nraise_windows = 0", "[isp.telkom] raise_windows: 0 is not possible; give"),
        ("[isp.telkom]\nrtt_raise_ms = nan", "[isp.telkom] rtt_raise_ms: nan is not possible"),
        ("[isp.telkom]\nloss_raise_ratio = 5", "[isp.telkom] loss_raise_ratio: 5 is not possible;"),
        ("[isp.telkom]\nsilence_windows = 0.5", "[isp.telkom] silence_windows: 0.5 is not"),
        (
            '[contract."fibre 20"]\nrtt_clear_ms = 200',
            '[contract."fibre 20"] rtt_clear_ms: is above rtt_raise_ms; give at most 150',
        ),
        (
            "[site.bitung-01]\nflap_start_ratio = 0.1",
            "[site.bitung-01] flap_stop_ratio: is above flap_start_ratio; give at most 0.1",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_table_and_key(text: str, error: str) -> None:
    with pytest.raises(RulesError) as refused:
        rules.parse(text)

    assert str(refused.value).startswith(error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[isp.telcom]", "[isp.telcom]: no isp 'telcom' in the registry; there are telkom"),
        ("[district.Girian]", "[district.Girian]: no district 'Girian' in the registry; there are"),
        ("[contract.x]", "[contract.x]: no contract 'x' in the registry; there are fibre 20"),
        ('[contract.""]', "[contract.\"\"]: no contract '' in the registry;"),
        ("[site.x]", "[site.x]: no site 'x' in the registry; see 'pantau sites list'"),
        (
            "[isp.telkom]\nrtt_clear_ms = 140\n[site.bitung-01]\nrtt_raise_ms = 120",
            (
                "at site bitung-01 rtt_clear_ms 140 of [isp.telkom] is above"
                " rtt_raise_ms 120 of [site.bitung-01]"
            ),
        ),
    ],
)
def test_rules_are_proved_against_the_registry(text: str, error: str) -> None:
    with pytest.raises(RulesError) as refused:
        rules.check(rules.parse(text), [PASAR], {})

    assert str(refused.value).startswith(error)


def test_a_contract_that_no_site_has_yet_may_have_rules() -> None:
    book = rules.parse("[contract.new]\nraise_windows = 4")

    rules.check(book, [PASAR], {"new": Contract("new", 0.0)})


def test_the_most_specific_wins_key_by_key() -> None:
    tables = [
        *("[isp.telkom]\nraise_windows = 1", "[district.girian]\nraise_windows = 2"),
        *('[contract."fibre 20"]\nraise_windows = 3', "[site.bitung-01]\nraise_windows = 4"),
    ]
    told = []
    for count in range(len(tables) + 1):
        book = rules.parse("\n".join(tables[:count]), Rules(raise_windows=9))
        told.append((book.rules_for(PASAR).raise_windows, book.sources(PASAR)["raise_windows"][1]))

    assert told == [
        (9, "default"),
        (1, "[isp.telkom]"),
        (2, "[district.girian]"),
        (3, '[contract."fibre 20"]'),
        (4, "[site.bitung-01]"),
    ]


def test_the_floors_of_the_contract_go_over_the_default_and_under_all_tables() -> None:
    contract = Contract("fibre 20", 0.0, floor_down_mbps=20.0, floor_rtt_ms=300.0)
    found = RuleBook().rules_for(PASAR, contract)
    assert (found.floor_down_mbps, found.rtt_raise_ms, found.rtt_clear_ms) == (20.0, 300.0, 200.0)

    book = rules.parse("[isp.telkom]\nrtt_raise_ms = 400\nfloor_down_mbps = 0")
    found = book.rules_for(PASAR, contract)
    assert (found.floor_down_mbps, found.rtt_raise_ms, found.rtt_clear_ms) == (0.0, 400.0, 200.0)


def test_a_contract_that_comes_later_never_makes_rules_that_contradict_each_other() -> None:
    book = rules.parse("[isp.telkom]\nrtt_clear_ms = 140")
    contract = Contract("fibre 20", 0.0, floor_rtt_ms=60.0)

    found = book.rules_for(PASAR, contract)
    assert (found.rtt_raise_ms, found.rtt_clear_ms) == (60.0, 60.0)
    assert book.sources(PASAR, contract)["rtt_clear_ms"].source == (
        "rtt_raise_ms of contract fibre 20"
    )


def test_rules_of_others_do_not_concern_a_site() -> None:
    book = rules.parse("[isp.icon]\nraise_windows = 1\n[site.bitung-02]\nraise_windows = 1")

    assert book.rules_for(PASAR) == Rules()


def test_the_example_fits_the_example_of_sites() -> None:
    rows = registry.parse((EXAMPLES / "sites.csv").read_text(), 0.0)
    book = rules.parse((EXAMPLES / "rules.toml").read_text())

    rules.check(book, [row.site for row in rows], {})
    assert len(book.tables) == 4


def test_what_changed_is_told_by_table_and_key() -> None:
    before = rules.parse("[isp.a]\nrtt_raise_ms = 200\nmin_echoes = 5")
    after = rules.parse("[isp.a]\nrtt_raise_ms = 250\n[isp.b]\nraise_windows = 4")

    assert rules.differences(before, after) == [
        "- [isp.a] min_echoes 5",
        "~ [isp.a] rtt_raise_ms 200 -> 250",
        "+ [isp.b] raise_windows 4",
    ]
