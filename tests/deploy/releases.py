"""Further releases for tests: the archive of this tree with another number, and with faults."""

from __future__ import annotations

import platform
import runpy
import tarfile
import tempfile
import zipfile
from pathlib import Path

_BUILD = runpy.run_path(str(Path(__file__).parents[2] / "deploy" / "ansible" / "build.py"))
_NOW: str = _BUILD["version"]()

CRASHES = {"agent/main.py": '\nraise SystemExit("this release is broken")\n'}
MUTE = {
    "agent/publish/publisher.py": """

def _mute(self: Publisher) -> None:
    raise BrokerError("this release cannot connect")


Publisher._one_connection = _mute
"""
}
"""It measures and stays up, and the centre never hears of it."""

UNHEARD = {
    "agent/publish/publisher.py": """

def _nowhere(self: Publisher, connection: Connection, batch: Batch) -> None:
    pass


Publisher._send = _nowhere
"""
}
"""It measures, is connected and answers, and none of its readings goes out."""


def number() -> str:
    """The version of this tree."""
    return _NOW


def archive(artifacts: Path, part: str) -> Path:
    """What was built of this tree for machines of this kind; those of others may lie beside it."""
    [built] = artifacts.glob(f"pantau-{_NOW}-{part}-{platform.machine()}-*.tar")
    return built


def another(
    artifacts: Path, new: str, further: dict[str, str] | None = None, *, part: str = "agent"
) -> None:
    """Make the archive of a release `new` out of the one that was built.

    Args:
        artifacts: where the archives are.
        new: its version.
        further: what stands at the end of a file in addition, by its path.
        part: `agent` or `server`.
    """
    built = archive(artifacts, part)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch)
        with tarfile.open(built) as tar:
            tar.extractall(wheels, filter="data")
        old = next(wheels.glob("pantau-*.whl"))
        _copy(old, old.with_name(old.name.replace(_NOW, new)), new, further or {})
        old.unlink()
        (wheels / "requirements.lock").write_text(_BUILD["lock"](wheels))
        with tarfile.open(built.with_name(built.name.replace(_NOW, new)), "w") as tar:
            tar.add(wheels, arcname=".")


def _copy(old: Path, target_file: Path, version: str, further: dict[str, str]) -> None:
    """The wheel under another number; pip asks only for names, the lock for the whole hash."""
    info, new_info = f"pantau-{_NOW}.dist-info", f"pantau-{version}.dist-info"
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(target_file, "w") as target:
        for name in source.namelist():
            content = source.read(name).decode().replace(info, new_info)
            if name == "agent/__init__.py" or name.endswith("/METADATA"):
                content = content.replace(_NOW, version)
            target.writestr(name.replace(info, new_info), content + further.get(name, ""))
