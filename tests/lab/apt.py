"""An apt of our own for another architecture: nothing of this machine's own is asked or changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

_UPDATE_S = 600


def arm64_apt(folder: Path) -> list[str]:
    """A command line of apt-get for arm64, with its lists up to date and its state in `folder`."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    done = subprocess.run(
        [*apt, "update"], capture_output=True, text=True, timeout=_UPDATE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return apt
