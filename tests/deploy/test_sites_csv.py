"""The list of sites, judged on the controller before any play, as the import would judge it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server import sheet
from tests.server.test_registry import BROKEN, EXAMPLE, FILES, NOW

_SCRIPT = Path(__file__).parents[2] / "deploy" / "ansible" / "sites_csv.py"
_LIST: dict[str, Any] = runpy.run_path(str(_SCRIPT))
_OF_DATES = ("validity_", "site_twice")
"""Where one site stands in two lines: here that is refused, whatever the dates."""


def place(text: str) -> str:
    """Line and column of a complaint."""
    found = re.search(r"line \d+(, (after )?column \w+)?", text)
    assert found, text
    return found[0]


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"valid_to_over"}))
def test_what_the_import_would_refuse_is_refused_with_file_line_column_and_mend(name: str) -> None:
    file = FILES / f"{name}.csv"
    with pytest.raises(_LIST["CsvError"]) as refused:
        _LIST["rows"](file, NOW)

    said = str(refused.value)
    assert said.startswith(f"{file}: line ")
    assert "\n" not in said
    assert re.search("[;?]| between ", said), "the mend"
    if name.startswith(_OF_DATES):
        assert re.search(r"column site: '\S+' already stands in line 2; keep one of them$", said)
    else:
        assert place(said) == place(BROKEN[name])


def test_a_site_whose_end_has_passed_stops_no_play_and_can_be_retired() -> None:
    warned: list[str] = []
    file = FILES / "valid_to_over.csv"

    [row] = _LIST["rows"](file, NOW, warned.append)

    assert row["site"] == "bitung-01"
    told = "line 2, column valid_to: 2023-04-01 08:30 has passed, which the import refuses"
    assert warned == [f"{file}: {told}; delete the row, or give its valid_from"]


def test_what_the_import_takes_is_taken(tmp_path: Path) -> None:
    assert len(_LIST["rows"](EXAMPLE, NOW)) == 40

    file = tmp_path / "sites.csv"
    full = (
        "bitung-01, Pasar ,Maesa,Telkom,c,-1.5,180,,x,y,10.8.0.23,ap-1 ap-2,2024-04-01,2100-01-01"
    )
    text = "\r\n".join([",".join(sheet.COLUMNS), "", full, ""])
    file.write_text(f"\ufeff{text}", newline="")
    [row] = _LIST["rows"](file, NOW)
    assert row["name"] == "Pasar"
    assert row["access_points"] == "ap-1 ap-2"


def test_a_list_that_is_missing_or_of_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sites.csv"
    with pytest.raises(_LIST["CsvError"], match="No such file or directory; put the list"):
        _LIST["rows"](file, NOW)
    file.write_bytes("site,name,district,isp\nbitung-01,Café,Maesa,Telkom\n".encode("latin-1"))
    with pytest.raises(_LIST["CsvError"], match="not UTF-8 at byte 36; save it so"):
        _LIST["rows"](file, NOW)


def test_a_controller_needs_nothing_but_python_for_it() -> None:
    bare = "import runpy, sys; runpy.run_path(sys.argv[1])"
    subprocess.run([sys.executable, "-I", "-S", "-c", bare, str(_SCRIPT)], check=True)
