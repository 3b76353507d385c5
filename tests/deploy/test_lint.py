"""The playbooks keep to what ansible-lint asks of production."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.machines import CACHE, making

pytestmark = [pytest.mark.slow]

_ANSIBLE = Path(__file__).parents[2] / "deploy" / "ansible"
_PINNED = ("ansible-core==2.19.*", "ansible-lint==26.10.1")


def _bin() -> Path:
    """ansible-lint in an environment of its own (90 MB), made once."""
    folder = CACHE / "ansible-lint"
    with making("ansible-lint"):
        if not (folder / "bin" / "ansible-lint").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run(
                [str(folder / "bin" / "pip"), "install", "--quiet", "--no-input", *_PINNED],
                check=True,
            )
    return folder / "bin"


def test_ansible_lint_finds_nothing_at_its_production_profile(tmp_path: Path) -> None:
    tools = _bin()
    assert "profile: production" in (_ANSIBLE / ".ansible-lint").read_text()
    done = subprocess.run(
        [str(tools / "ansible-lint"), "--offline", "--strict", "--nocolor"],
        cwd=_ANSIBLE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "ANSIBLE_HOME": str(tmp_path)},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
