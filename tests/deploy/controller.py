"""What the controller of a town runs: Ansible, with or without Mitogen, and what it tells."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.machines import CACHE, making

_PINNED = ("ansible-core==2.19.*", "mitogen==0.3.54")


def recap(said: str) -> dict[str, dict[str, int]]:
    """The counts at the end of a play, by host."""
    return {
        host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", counts)}
        for host, counts in re.findall(r"^(\S+)\s+: (ok=.*)$", said, re.MULTILINE)
    }


def changed(said: str) -> list[str]:
    """The tasks of a play that changed something, each with its host."""
    found, task = [], ""
    for line in said.splitlines():
        task = line if line.startswith(("TASK", "RUNNING HANDLER")) else task
        if line.startswith("changed: "):
            found.append(f"{task} {line}")
    return found


def ansible() -> Path:
    """The programs of Ansible, in an environment of its own that is made once."""
    # By what is in it; and a virtual environment cannot be made elsewhere and moved.
    folder = CACHE / f"ansible-{hashlib.sha256(' '.join(_PINNED).encode()).hexdigest()[:8]}"
    whole = folder / "whole"
    with making("ansible"):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install = (folder / "bin" / "pip", "install", "--quiet", "--no-input", *_PINNED)
            subprocess.run([str(word) for word in install], check=True)
            whole.touch()
    return folder / "bin"


def environment(folder: Path, mitogen: bool) -> dict[str, str]:
    """That of the controller of the town in `folder`."""
    plain = {
        **os.environ,
        # Every town has the same addresses: a connection kept open must not lead into another one.
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "PATH": f"{ansible()}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    if not mitogen:
        return plain
    return {
        **plain,
        # Which ssh takes from the inventory.
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": _strategies(ansible()),
    }


@functools.cache
def _strategies(programs: Path) -> str:
    where = "import ansible_mitogen; print(*ansible_mitogen.__path__)"
    package = subprocess.run(
        [str(programs / "python"), "-c", where], capture_output=True, text=True, check=True
    ).stdout.strip()
    return f"{package}/plugins/strategy"
