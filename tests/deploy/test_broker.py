"""The role `broker` on a booted machine: it runs with what is on its disk, also after a cut."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import changed
from tests.deploy.stolen import is_let_in
from tests.deploy.town import Town
from tests.lab.net import sh

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]
_CA = Path(__file__).parents[2] / "deploy" / "ansible" / "roles" / "pki" / "files" / "ca.py"
_SITE, _STOLEN = "bitung-0001", "/root/stolen"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A broker, and neither server nor site."""
    with Town(tmp_path_factory.mktemp("town"), sites=(), mitogen=True) as built:
        (built.inventory / "centre.yml").write_text(
            "broker: {hosts: {centre: {ansible_host: 10.81.1.2}}}\nserver: {hosts: }\n"
        )
        _play(built)
        yield built


def _play(town: Town) -> list[str]:
    """Bring the broker; the tasks that changed something."""
    return changed(town.play("site.yml", "--limit", "broker"))


def _handled(tasks: list[str]) -> list[str]:
    return [name for name in ("Restart", "Reload") if f"{name} mosquitto" in " ".join(tasks)]


def test_a_list_that_was_brought_before_a_play_was_cut_off_is_taken_up_by_the_next(
    town: Town,
) -> None:
    assert _play(town) == [], "what is right stays"
    ca = (sys.executable, str(_CA), str(town.inventory / "pki"))
    request = town.on(
        "centre",
        f"mkdir {_STOLEN} && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        f" -subj /CN=x -keyout {_STOLEN}/site.key 2>/dev/null && cp /etc/mosquitto/certs/ca.crt"
        " /etc/pantau/ca.pem",
    )
    signed = subprocess.run(
        [*ca, "sign", _SITE], input=request, capture_output=True, text=True, check=True
    ).stdout
    root = town.machines["centre"].root
    (root / _STOLEN[1:] / "site.pem").write_text(signed)
    sh(*ca, "revoke", _SITE)
    (root / "etc/mosquitto/certs/ca.crl").write_bytes((town.inventory / "pki/ca.crl").read_bytes())
    assert is_let_in(town, _STOLEN), "the broker reads the list at its start alone"
    assert _handled(_play(town)) == ["Restart"]
    assert not is_let_in(town, _STOLEN)


@pytest.mark.parametrize(("file", "handler"), [("acl", "Reload"), ("mosquitto.conf", "Restart")])
def test_a_file_that_is_newer_than_what_the_broker_runs_with_is_taken_up(
    town: Town, file: str, handler: str
) -> None:
    town.on("centre", "touch", f"/etc/mosquitto/{file}")
    assert _handled(_play(town)) == [handler]
    assert _play(town) == []
