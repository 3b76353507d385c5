"""The sites of a CSV file as hosts: the very file that `pantau sites import` takes."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: pantau_sites
short_description: Hosts from Pantau's sites.csv
description:
  - Every site becomes a host of the group C(sites), of C(district_NAME) and of C(isp_NAME).
  - A fault in the file is named by line, and nothing is run then.
options:
  plugin:
    description: Must be C(pantau_sites).
    required: true
    choices: [pantau_sites]
  csv:
    description: The file, from the folder of this configuration.
    type: str
    default: sites.csv
  address:
    description: How a site is reached by ssh; C({site}) stands for its id.
    type: str
    default: "{site}"
"""

_SITE = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_REQUIRED = ("site", "name", "district", "isp")


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]  # Ansible has no types
    """Reads the file each time: there is nothing to keep in step."""

    NAME = "pantau_sites"

    def verify_file(self, path: str) -> bool:
        """Only a YAML file can be our configuration."""
        return super().verify_file(path) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        file = Path(path).parent / self.get_option("csv")
        self.inventory.add_group("sites")
        for row in rows(file):
            self._add(row)

    def _add(self, row: dict[str, str]) -> None:
        site = row["site"]
        self.inventory.add_host(site, group="sites")
        for kind in ("district", "isp"):
            group = re.sub(r"[^a-z0-9]+", "_", f"{kind}_{row[kind].lower()}").strip("_")
            self.inventory.add_group(group)
            self.inventory.add_child(group, site)
        self.inventory.set_variable(site, "ansible_host", self._address(site))
        for name, value in row.items():
            self.inventory.set_variable(site, f"pantau_site_{name}", value)

    def _address(self, site: str) -> str:
        return str(self.get_option("address")).replace("{site}", site)


def rows(file: Path) -> list[dict[str, str]]:
    """The rows of the file, each cell stripped.

    Raises:
        AnsibleParserError: a fault, by line and column, with the mend.
    """
    found: dict[str, int] = {}
    result = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            for row in reader:
                cells = {name: (row[name] or "").strip() for name in reader.fieldnames or ()}
                _check(file, reader.line_num, cells, found)
                found[cells["site"]] = reader.line_num
                result.append(cells)
    except OSError as err:
        raise AnsibleParserError(f"{file}: {err.strerror}; put the list of sites there") from None
    except (csv.Error, UnicodeDecodeError) as err:
        raise AnsibleParserError(f"{file}: not CSV in UTF-8: {err}; save it so") from None
    return result


def _check(file: Path, line: int, cells: dict[str, str], found: dict[str, int]) -> None:
    for name in _REQUIRED:
        if not cells.get(name):
            raise AnsibleParserError(f"{file}: line {line}, column {name}: is empty or missing")
    site = cells["site"]
    if not _SITE.fullmatch(site):
        raise AnsibleParserError(
            f"{file}: line {line}, column site: {site!r} is no site id; use a-z, 0-9 and '-'"
        )
    if site in found:
        raise AnsibleParserError(
            f"{file}: line {line}, column site: {site!r} already stands in line {found[site]};"
            " keep one of them"
        )
