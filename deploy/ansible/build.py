"""Builds what machines install: one archive with Pantau's wheel, all it needs, and their hashes.

    python3 deploy/ansible/build.py --extra agent --arch aarch64 --out deploy/ansible/artifacts

The controller needs a package index for this, the machines never: they install from the archive
alone, with each file checked against its hash, and compile nothing. What goes in are the releases
that the tests ran with (constraints.txt). An archive that is there is kept (its name holds the
version); `--again` builds it anew, and from the same sources comes the same archive, byte for byte:
a machine takes no other archive of a version that it has. Prints "built" or "kept", and the file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("agent", "server", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5")
_AS_TESTED = _ROOT / "constraints.txt"
_DATED = "946684800"
"""All that is built bears one date, and no machine's umask: 2000-01-01."""
_PIP = "pip == 24.3.1"
"""Goes along, so that a machine needs nothing but Python itself."""


class BuildError(Exception):
    """One line with the place and the mend."""


def version() -> str:
    """The version of the sources beside this file."""
    text = (_ROOT / "agent" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise BuildError("agent/__init__.py: no __version__ there; take a whole checkout")
    return found[1]


def build(archive: Path, extra: str, arch: str, python: str) -> None:
    """Make `archive`; it appears only when it is complete."""
    with tempfile.TemporaryDirectory(prefix="pantau-build-") as scratch:
        sources, wheels = Path(scratch, "pantau"), Path(scratch, "wheels")
        _copy_sources(sources)
        _pip("wheel", "--constraint", str(_AS_TESTED), "--wheel-dir", str(wheels),
             f"{sources}[{extra}]", _PIP)  # fmt: skip
        if (arch, python) != (platform.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}"):
            _exchange(wheels, arch, python)
        (wheels / "requirements.lock").write_text(lock(wheels), encoding="utf-8")
        archive.parent.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(".unfinished")
        with tarfile.open(unfinished, "w") as tar:
            tar.add(wheels, arcname=".", filter=_plain)
        unfinished.replace(archive)


def lock(wheels: Path) -> str:
    """Every wheel pinned by version and hash, pip itself left out."""
    lines = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, number = wheel.name.split("-")[:2]
        if name != "pip":
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            lines.append(f"{name}=={number} --hash=sha256:{digest}\n")
    return "".join(lines)


def _copy_sources(folder: Path) -> None:
    """A copy, so that building leaves nothing in the checkout; with one umask's modes."""
    folder.mkdir()
    for name in _SOURCES:
        source = _ROOT / name
        if source.is_dir():
            leave = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=leave)
        else:
            shutil.copy2(source, folder / name)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _exchange(wheels: Path, arch: str, python: str) -> None:
    """Take for each wheel that was compiled the one for another machine or Python."""
    tags = [part for glibc in _GLIBC for part in ("--platform", f"{glibc}_{arch}")]
    abi = f"cp{python.replace('.', '')}"
    for wheel in [one for one in wheels.glob("*.whl") if not one.stem.endswith("-none-any")]:
        name, number = wheel.name.split("-")[:2]
        wheel.unlink()
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(wheels), *tags,
             "--python-version", python, "--implementation", "cp",
             "--abi", abi, "--abi", "abi3", "--abi", "none", f"{name}=={number}")  # fmt: skip


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = int(_DATED)
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", *arguments]
    dated = {**os.environ, "SOURCE_DATE_EPOCH": _DATED}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=dated, umask=0o022
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = complaints[-1] if complaints else (done.stderr.strip() or "pip failed")
        raise BuildError(f"pip {arguments[0]}: {said}; the controller needs a package index")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the archive that machines install from.")
    parser.add_argument("--extra", choices=("agent", "server"), required=True)
    parser.add_argument("--arch", default=platform.machine(), help="as uname -m says it")
    parser.add_argument("--python", default="3.11", help="the machines' Python (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--again", action="store_true", help="also if it is there")
    options = parser.parse_args()
    try:
        name = f"pantau-{version()}-{options.extra}-{options.arch}-py{options.python}.tar"
        archive: Path = options.out / name
        if archive.exists() and not options.again:
            print(f"kept {archive}")
            return 0
        build(archive, options.extra, options.arch, options.python)
    except (BuildError, OSError) as err:
        print(f"build: {err}", file=sys.stderr)
        return 1
    print(f"built {archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
