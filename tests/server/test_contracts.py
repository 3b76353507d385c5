"""Terms of contracts: each rule by a file that breaks it alone, versions, and what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import contracts, dates
from server.contracts import ContractError
from server.model import Contract

EXAMPLE = Path(__file__).parents[2] / "examples" / "contracts.toml"
ZONE = "Asia/Makassar"


def at(text: str) -> float:
    return dates.instant(text, ZONE)


def term(*lines: str, name: str = "c", begin: str = "2024-04-01") -> str:
    return "\n".join(["[[contract]]", f'id = "{name}"', f"valid_from = {begin}", *lines, ""])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[contract]", "not TOML: Expected ']]' at the end of an array declaration"),
        ("[contracts]", "contracts: unknown; write zone, and a [[contract]] for each term"),
        ("[contract.c]", "contract: write [[contract]] with two brackets, one for each term"),
        ('zone = "Bitung"', "zone: 'Bitung' is no time zone; write WIB, WITA, WIT or such as"),
        ("[[contract]]\nvalid_from = 2024-04-01", "contract 1 id: is missing"),
        ('[[contract]]\nid = "c"', "contract 1 (c) valid_from: is missing"),
        (term('floor_mbps = "20"'), "contract 1 (c) floor_mbps: unknown key; there are id, "),
        (term('isp = ""'), "contract 1 (c) isp: write text in quotes"),
        (term(begin='"April"'), "contract 1 (c) valid_from: 'April' is no time; write 2024-"),
        (term(begin="20240401"), "contract 1 (c) valid_from: 20240401 is no date; write 2024-"),
        (term(begin="0024-04-01"), "contract 1 (c) valid_from: 0024-04-01 is not between the"),
        (
            term("valid_to = 2023-04-01"),
            "contract 1 (c) valid_to: is not after valid_from, 2024-04-01 00:00 WITA",
        ),
        (term('price = "350000"'), "contract 1 (c) price: '350000' is not a number"),
        (term("price = true"), "contract 1 (c) price: True is not a number"),
        (term("price = -1"), "contract 1 (c) price: -1 is not possible; give 0 or more"),
        (term("grace_s = nan"), "contract 1 (c) grace_s: nan is not possible; give 0 or more"),
        (
            term("availability_ratio = 99.5"),
            "contract 1 (c) availability_ratio: 99.5 is not between 0 and 1",
        ),
        (term('currency = "Rp"'), "contract 1 (c) currency: 'Rp' is no currency; write three"),
        (term("currency = 1"), "contract 1 (c) currency: write text in quotes"),
        (
            term('excludes = ["weather"]'),
            "contract 1 (c) excludes: 'weather' cannot be excluded; maintenance, power can",
        ),
        (term('excludes = "power"'), "contract 1 (c) excludes: write a list of maintenance, "),
        (
            term("price = 1", "restitution = [[0.99, 0.1]]"),
            "contract 1 (c) restitution: step 1: write a list such as [{ below = 0.995,",
        ),
        (
            term("price = 1", "restitution = [{ below = 0.99, share = 5 }]"),
            "contract 1 (c) restitution step 1 share: 5 is not between 0 and 1",
        ),
        (
            term(
                "price = 1",
                "restitution = [{ below = 0.9, share = 0.1 }, { below = 0.99, share = 0.2 }]",
            ),
            "contract 1 (c) restitution: below 0.9 the share is not above that below 0.99;",
        ),
        (
            term("restitution = [{ below = 0.99, share = 0.1 }]"),
            "contract 1 (c) price: is missing; restitution is a share of it",
        ),
        (
            term("valid_to = 2025-01-01") + term(name="d") + term(begin="2024-06-01"),
            (
                "contract 3 (c) valid_from: overlaps contract 1, which is valid"
                " from 2024-04-01 00:00 WITA to 2025-01-01 00:00 WITA; let one end where"
            ),
        ),
        (term() + term(), "contract 2 (c) valid_from: overlaps contract 1, which is valid from"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(text: str, error: str) -> None:
    with pytest.raises(ContractError) as refused:
        contracts.parse(text)

    assert str(refused.value).startswith(error)


def test_the_example_has_two_terms_of_the_contract_that_changed() -> None:
    found = contracts.parse(EXAMPLE.read_text())

    assert len(found) == 5
    old, new = found["telkom-2026"]
    assert (old.valid_from, old.valid_to) == (at("2023-01-01"), at("2024-04-01"))
    assert (new.valid_from, new.valid_to) == (at("2024-04-01"), None)
    assert (old.floor_down_mbps, new.floor_down_mbps) == (10.0, 20.0)
    assert new.restitution == ((0.99, 0.05), (0.97, 0.15), (0.90, 0.50))


def test_terms_without_an_end_last_until_the_next_in_whatever_order_they_stand() -> None:
    text = term(begin="2025-01-01") + term(begin="2024-01-01")

    old, new = contracts.parse(text)["c"]
    assert (old.valid_to, new.valid_to) == (new.valid_from, None)


def test_terms_may_leave_a_gap() -> None:
    text = term("valid_to = 2024-05-01") + term(begin="2025-01-01")

    old, _ = contracts.parse(text)["c"]
    assert old.valid_to == at("2024-05-01")


def test_dates_are_in_the_zone_of_the_file_unless_they_name_their_own() -> None:
    [west] = contracts.parse('zone = "WIB"\n' + term())["c"]
    [own] = contracts.parse('zone = "WIB"\n' + term(begin="2024-04-01T00:00:00+08:00"))["c"]

    assert west.valid_from - own.valid_from == 3600.0


def test_the_version_is_no_difference() -> None:
    one = Contract("c", 0.0, price=1.0)

    assert contracts.same([one], [Contract("c", 0.0, price=1.0, version=7)])
    assert not contracts.same([one], [Contract("c", 0.0, price=2.0)])


def test_what_changed_is_told_by_term_and_key() -> None:
    before = contracts.parse(term("price = 1") + term(begin="2023-01-01"))["c"]
    after = contracts.parse(term("price = 2") + term(begin="2025-01-01"))["c"]

    assert contracts.differences(before, after) == [
        "- c from 2023-01-01 00:00 WITA to 2024-04-01 00:00 WITA",
        (
            "~ c from 2024-04-01 00:00 WITA to 2025-01-01 00:00 WITA:"
            " valid_to open -> 2025-01-01 00:00 WITA, price 1.0 -> 2.0"
        ),
        "+ c from 2025-01-01 00:00 WITA: any ISP, excludes maintenance",
    ]
