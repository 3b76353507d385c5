"""What machines install is a function of the sources: by its hash they know it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]

_ROOT = Path(__file__).parents[2]
_BUILT_FROM = (
    "agent", "server", "setup.cfg", "pyproject.toml", "constraints.txt", "README.md", "LICENSE",
    "deploy/ansible/build.py",
)  # fmt: skip


def checkout(folder: Path, mode: int, at_s: float) -> Path:
    """The sources as git may leave them: with the modes of a umask, and of another day."""
    for name in _BUILT_FROM:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (_ROOT / name).is_dir():
            shutil.copytree(_ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(_ROOT / name, target)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
        os.utime(path, (at_s, at_s))
    return folder


def built(folder: Path, umask: int) -> str:
    """The hash of the archive that a checkout gives."""
    script, out = folder / "deploy/ansible/build.py", folder / "out"
    subprocess.run(
        [sys.executable, str(script), "--extra", "agent", "--out", str(out)],
        check=True, capture_output=True, timeout=600, umask=umask,
    )  # fmt: skip
    [archive] = out.iterdir()
    return sha256(archive.read_bytes()).hexdigest()


def test_two_checkouts_of_the_same_sources_give_the_same_archive(tmp_path: Path) -> None:
    one = checkout(tmp_path / "one", 0o644, 1_700_000_000.0)
    other = checkout(tmp_path / "other", 0o600, 1_750_000_000.0)
    assert built(one, 0o022) == built(other, 0o077)
