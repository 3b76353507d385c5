"""The sites of a CSV file as hosts: the very file that `pantau sites import` takes."""

from __future__ import annotations

import re
import runpy
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: pantau_sites
short_description: Hosts from Pantau's sites.csv
description:
  - Every site becomes a host of the group C(sites), of C(district_NAME) and of C(isp_NAME).
  - A fault in the file is named by line and column, and nothing is run then.
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

_LIST = runpy.run_path(str(Path(__file__).parents[1] / "sites_csv.py"))


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
        try:
            rows = _LIST["rows"](file, time.time(), self.display.warning)
        except _LIST["CsvError"] as err:
            raise AnsibleParserError(str(err)) from None
        for row in rows:
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
