"""The role `pki` by itself, on this very computer: what stays, and what is replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.controller import ansible, changed

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

_ROLE = Path(__file__).parents[2] / "deploy" / "ansible" / "roles" / "pki"
_SITE = "bitung-0001"


class Identity:
    """A key with its certificate in `folder`, which plays bring."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "pki"
        self._folder = folder / "there"
        self._book = folder / "book.yml"
        brought = {"pki_name": _SITE, "pki_folder": str(self._folder), "pki_stem": "site",
                   "pki_authority": str(self.authority)}  # fmt: skip
        handler = {"name": "Identity changed", "ansible.builtin.debug": {"msg": "it did"}}
        role = {"role": str(_ROLE), "vars": brought}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False,
                "handlers": [handler], "roles": [role]}  # fmt: skip
        self._book.write_text(json.dumps([play]))

    def play(self, *arguments: str) -> list[str]:
        """Run the role; the tasks that changed something."""
        done = subprocess.run(
            [str(ansible() / "ansible-playbook"), str(self._book), *arguments],
            env={**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return changed(done.stdout)

    def files(self) -> tuple[str, str]:
        """Key and certificate as they are."""
        key, cert = ((self._folder / f"site.{kind}").read_text() for kind in ("key", "pem"))
        return key, cert


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    made = Identity(tmp_path)
    made.play()
    assert made.play() == [], "what is right stays"
    return made


def test_a_new_key_is_made_where_the_command_line_asks_for_it(identity: Identity) -> None:
    before = identity.files()
    assert identity.play("-e", "pki_new_key=false") == []
    assert identity.play("-e", "pki_new_key=true")
    assert not {*before} & {*identity.files()}


def test_what_was_revoked_does_not_last_and_its_key_goes_with_it(identity: Identity) -> None:
    before = identity.files()
    revoke = [sys.executable, str(_ROLE / "files/ca.py"), str(identity.authority), "revoke", _SITE]
    subprocess.run(revoke, check=True, capture_output=True)
    assert identity.play()
    assert not {*before} & {*identity.files()}
    assert identity.play() == []
